//! The nodes and the clients.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kakehi_channel::{Request, Status};
use kakehi_client::Outcome;
use kakehi_fleet::{Fleet, Keys, Node};
use kakehi_server::Context;
use serde_json::Value;
use tokio::{runtime::Builder, time::sleep};

/// How many requests of a client are under way at once.
pub(crate) const LANES: usize = 5;

fn log(folder: &Path, name: &str) -> File {
    OpenOptions::new().append(true).create(true).open(folder.join(name)).unwrap()
}

/// One line, written at once, so that lines of several tasks do not mix.
fn write(mut file: &File, line: String) {
    file.write_all((line + "\n").as_bytes()).unwrap();
}

/// Milliseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// The node `n{number}`; those with an even number keep a journal.
pub(crate) fn node(url: &str, folder: &Path, number: usize) {
    let file = Arc::new(log(folder, &format!("node-{number}")));
    write(&file, format!("up n{number} {}", now()));
    let node = Node::connect(url, format!("n{number}")).keys(Keys::default().unsigned(true));
    let node = if number.is_multiple_of(2) {
        node.journal(folder.join(format!("journal-{number}")))
    } else {
        node
    };
    let handler = async move |request: Request<Value>, context: Context| {
        let id = request.id;
        write(&file, format!("start {id} {}", now()));
        let steps = fastrand::u64(..20);
        for step in 0..steps {
            context.progress(format!("{step}")).await.map_err(|error| error.to_string())?;
            sleep(Duration::from_millis(fastrand::u64(..30))).await;
        }
        if fastrand::u32(..5) == 0 {
            write(&file, format!("error {id} {steps}"));
            return Err("as planned".to_owned());
        }
        write(&file, format!("ok {id} {steps}"));
        Ok(steps.to_string())
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.serve(handler)).unwrap();
}

/// Sends five sequences of requests at once. Each request has a unique id. A request that an
/// earlier process of this client sent is not sent again.
pub(crate) fn client(url: &str, folder: &Path, number: usize, nodes: usize, each: usize) {
    let name = format!("client-{number}");
    let earlier = fs::read_to_string(folder.join(&name)).unwrap_or_default();
    let sent: HashSet<String> = earlier
        .lines()
        .filter_map(|line| line.strip_prefix("sent ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let file = log(folder, &name);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fleet = loop {
            match Fleet::connect(url).await {
                Ok(fleet) => break fleet,
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        };
        let lanes = (0..LANES).map(|lane| {
            let (fleet, sent, file) = (&fleet, &sent, &file);
            async move {
                for at in 0..each {
                    let id = format!("c{number}-{lane}-{at}");
                    if !sent.contains(&id) {
                        let node = format!("n{}", fastrand::usize(..nodes));
                        write(file, format!("sent {id} {}", now()));
                        let told = ask(fleet, &node, &id).await;
                        write(file, format!("{told} {id} {node} {}", now()));
                    }
                }
            }
        });
        futures::future::join_all(lanes).await;
    });
}

/// Makes one request, and returns one word for its result.
async fn ask(fleet: &Fleet, node: &str, id: &str) -> &'static str {
    let request = fleet.node(node).unwrap().request("work").id(id).timeout(None);
    let mut responses = match request.send().await {
        Ok(responses) => responses,
        Err(error) => return word(error.outcome()),
    };
    let mut expected = 0;
    loop {
        match responses.next().await {
            Some(Ok(response)) => match response.status {
                Status::Processing if response.message == expected.to_string() => expected += 1,
                Status::Processing => return "disorder",
                Status::Ok
                    if responses.is_complete() && response.message != expected.to_string() =>
                {
                    return "incomplete";
                }
                Status::Ok => return "ok",
                Status::Error if response.refused.is_some() => return "refused",
                Status::Error => return "failed",
            },
            Some(Err(error)) => return word(error.outcome()),
            None => return "nothing",
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "ok",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::NotSent => "notsent",
        Outcome::Unknown => "unknown",
    }
}
