//! Controls many Sōzus over NATS: a node beside each proxy, and a client that sends a command to all
//! of them.
//!
//! ```sh
//! kakehi fleet key anna.key       # prints the public key, UAB…
//! cargo run --example sozu-fleet -- node web-1 /run/sozu/sozu.sock UAB…
//! cargo run --example sozu-fleet -- add anna.key blue web-1 web-2
//! ```
//! The last command prints a row for each node: those that are connected, and those that it names.
//! `KAKEHI_NATS` is the URL of the broker; default: `nats://127.0.0.1:4222`.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use futures::StreamExt;
use kakehi::{
    Command, Refusal, Router,
    command::Invocation,
    server::{Answer, Context, Failure},
};
use kakehi_fleet::{Ended, Event, Fleet, Keys, Name, Node, Selector, Signer, Summary};
use kakehi_sozu::{
    Outcome, Response, Sozu, Status,
    command::{self, Cluster, request::RequestType, response_content::ContentType},
};
use serde::{Deserialize, Serialize};

/// Adds a cluster to the proxy.
#[derive(Serialize, Deserialize, Command)]
#[command(fault = Fault)]
pub(crate) struct AddCluster {
    pub(crate) name: String,
}

/// Returns the state of each worker of the proxy.
#[derive(Serialize, Deserialize, Command)]
#[command(reply = Vec<Worker>, fault = Fault, read_only)]
pub(crate) struct WorkerStatus;

#[derive(Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: u32,
    pub(crate) pid: i32,
    pub(crate) state: String,
}

/// The content of ERROR.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Sōzu did not answer, but it may have carried out the request.
    is_unknown: bool,
}

/// The node's side: forwards each command to a Sōzu.
pub(crate) fn router(sozu: Sozu) -> Router<Sozu> {
    Router::new(sozu).command(add_cluster).command(worker_status)
}

async fn add_cluster(
    sozu: Sozu,
    AddCluster { name }: AddCluster,
    context: Context<()>,
) -> Result<Answer, Failure<Fault>> {
    let cluster = Cluster { cluster_id: name, ..Cluster::default() };
    let response = forward(&sozu, RequestType::AddCluster(cluster), &context).await?;
    Ok(Answer::new(response.message))
}

async fn worker_status(
    sozu: Sozu,
    _: WorkerStatus,
    context: Context<()>,
) -> Result<Vec<Worker>, Failure<Fault>> {
    let status = RequestType::Status(command::Status {});
    let response = forward(&sozu, status, &context).await?;
    let Some(ContentType::Workers(workers)) = response.content else {
        return Err(Failure::new("Sōzu sent a status without workers")
            .with_content(Fault { is_unknown: false }));
    };
    let worker = |worker: command::WorkerInfo| {
        let state = worker.run_state().as_str_name().to_owned();
        Worker { id: worker.id, pid: worker.pid, state }
    };
    Ok(workers.vec.into_iter().map(worker).collect())
}

/// PROCESSING becomes progress, FAILURE becomes ERROR.
async fn forward(
    sozu: &Sozu,
    request: RequestType,
    context: &Context<()>,
) -> Result<Response, Failure<Fault>> {
    let mut responses = sozu.request(request).send().await.map_err(|error| failure(&error))?;
    while let Some(response) =
        responses.next().await.transpose().map_err(|error| failure(&error))?
    {
        if response.status == Status::Processing {
            context.progress(&response.message).await?;
        } else if response.status == Status::Ok {
            return Ok(response);
        } else {
            return Err(Failure::new(response.message).with_content(Fault { is_unknown: false }));
        }
    }
    Err(unknown("Sōzu sent no final response"))
}

/// Keeps what is known of the outcome: a request that Sōzu did not receive is a refusal, and one
/// without a final response is unknown.
fn failure(error: &kakehi_sozu::Error) -> Failure<Fault> {
    match error.outcome() {
        Outcome::NotSent | Outcome::Refused => {
            Failure { message: error.to_string(), content: None, refused: Some(Refusal::Busy) }
        }
        _ => unknown(error.to_string()),
    }
}

fn unknown(message: impl Into<String>) -> Failure<Fault> {
    Failure::new(message).with_content(Fault { is_unknown: true })
}

/// The client's side: adds a cluster to all proxies, and writes a row for each node.
pub(crate) async fn add_to_all(
    fleet: &Fleet,
    expected: Vec<Name>,
    name: String,
    out: &mut impl Write,
) -> Result<Summary, Box<dyn Error>> {
    let all = fleet.all(Selector::all()).expect(expected);
    let mut events = all.send(Invocation(AddCluster { name })).await?;
    let mut summary = Summary::default();
    while let Some((node, event)) = events.next().await {
        // A progress response says what Sōzu does at the moment: here, only the end is shown.
        let Event::Ended(ended, _) = event else { continue };
        let (state, message) = row(&ended);
        // Messages come from other machines, so they are escaped for the terminal.
        writeln!(out, "{:<12}{state:<12}{}", node.as_str(), message.escape_debug())?;
        if state == UNKNOWN {
            summary.unknown += 1;
        } else {
            summary.add(&ended);
        }
    }
    Ok(summary)
}

const UNKNOWN: &str = "UNKNOWN";

/// The state of a node, and the message of its final response or error.
fn row(ended: &Ended) -> (&'static str, String) {
    let error = match ended {
        Ended::Ok(response) => return ("ok", response.message.clone()),
        Ended::Skipped => return ("skipped", String::new()),
        Ended::Failed(error) => error,
    };
    let response = error.response();
    let content = response.and_then(|response| response.content.clone());
    let fault = content.and_then(|content| serde_json::from_value::<Fault>(content).ok());
    let state = match error.outcome() {
        _ if fault.is_some_and(|fault| fault.is_unknown) => UNKNOWN,
        Outcome::Done => "ok",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::NotSent => "no answer",
        Outcome::Unknown => UNKNOWN,
    };
    (state, response.map_or_else(|| error.to_string(), |response| response.message.clone()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let broker =
        std::env::var("KAKEHI_NATS").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", name, socket, key] => {
            let keys = Keys::default().with_key(key, "anna", ["sre"])?;
            let router = router(Sozu::builder(socket).build());
            Node::connect(broker, name).keys(keys).serve(router).await?;
            Ok(ExitCode::SUCCESS)
        }
        ["add", key, cluster, ref expected @ ..] => {
            let signer = Signer::from_seed(std::fs::read_to_string(key)?.trim())?;
            let fleet = Fleet::connect(broker).await?.signed_by(signer);
            let expected = expected.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
            let summary =
                add_to_all(&fleet, expected, cluster.to_owned(), &mut io::stdout()).await?;
            Ok(summary.exit_status().into())
        }
        _ => Err(
            "usage: sozu-fleet node NAME SOCKET KEY, or sozu-fleet add KEY-FILE CLUSTER [NODE…]"
                .into(),
        ),
    }
}
