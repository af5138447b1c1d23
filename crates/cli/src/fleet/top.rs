//! `fleet top`: the live screen of `kakehi top`, for all nodes of a fleet.
//!
//! A node that does not answer is a row. Each round asks at most 64 nodes at the same time, and keeps
//! at most 256 requests of a node and 4,096 rows.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kakehi_client::Error;
use kakehi_fleet::{Fleet, Name, Selector};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use super::{
    Stop,
    arguments::InventoryArguments,
    targets::{self, Known, Nodes, Seen},
};
use crate::{
    args::Options,
    failure::Failure,
    top::{self, Model, Request, Snapshot, Status, TopFlags, Update, WAITING, clean},
};

/// How many nodes are asked at the same time.
const AT_ONCE: usize = 64;

/// How long nodes may take to report that they are connected.
const PRESENCE: Duration = Duration::from_millis(300);

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a cancelled run may take to end.
const CANCEL_TIME: Duration = Duration::from_secs(20);

/// The maximum number of requests of a node that are shown.
const REQUESTS: usize = 256;

/// The maximum number of rows.
const ROWS: usize = 4096;

/// The nodes that are shown.
struct Shown<'s> {
    selector: Selector,
    inventory: InventoryArguments,
    seen: &'s mut Seen,
}

/// Shows the screen until the user quits.
pub(super) async fn run(
    fleet: &Fleet,
    seen: &mut Seen,
    (on, inventory): (Option<Selector>, InventoryArguments),
    flags: &TopFlags,
    place: &str,
    options: &Options,
) -> Result<u8, Stop> {
    top::check(options).map_err(stop)?;
    let mut shown = Shown { selector: on.unwrap_or_else(Selector::all), inventory, seen };
    // An inventory that cannot be read is reported before the screen is entered.
    let first = snapshot(fleet, &mut shown).await?;
    let (updates, received) = mpsc::channel(WAITING);
    let (orders, ordered) = mpsc::channel(WAITING);
    let asking = async {
        tokio::join!(
            poll(fleet, shown, flags.interval, updates.clone(), first),
            cancel(fleet, ordered, updates.clone())
        );
    };
    let model = Model::of_fleet(place);
    top::show(model, options, (orders, received), vec![], asking).await.map_err(stop)
}

fn stop(failure: Failure) -> Stop {
    let Failure { what, why, code, .. } = failure;
    Stop(format!("{what}: {why}"), code)
}

/// Sends a snapshot every `interval`. Ends with the receiver.
async fn poll(
    fleet: &Fleet,
    mut shown: Shown<'_>,
    interval: Duration,
    updates: mpsc::Sender<Update>,
    first: Snapshot,
) {
    let mut next = Ok(first);
    loop {
        let start = Instant::now();
        let update = match next {
            Ok(_) if !fleet.is_connected() => failed("the broker is not connected"),
            Ok(snapshot) => Update::Status(Box::new(snapshot)),
            Err(Stop(why, _)) => failed(&why),
        };
        if updates.send(update).await.is_err() {
            return;
        }
        sleep(interval.saturating_sub(start.elapsed())).await;
        next = snapshot(fleet, &mut shown).await;
    }
}

fn failed(why: &str) -> Update {
    Update::Failed(Failure::usage("cannot ask the fleet", why, ""))
}

/// Asks all nodes once.
async fn snapshot(fleet: &Fleet, shown: &mut Shown<'_>) -> Result<Snapshot, Stop> {
    let inventory = shown.inventory.inventory.as_deref();
    let known = targets::known(fleet, PRESENCE, inventory, shown.seen).await?;
    let nodes = targets::select(&known, &shown.selector, &[]);
    let start = Instant::now();
    let connected: Vec<Name> = nodes
        .iter()
        .filter(|(_, known)| known.info.is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let own = u32::try_from(connected.len()).unwrap_or(u32::MAX);
    let asked = connected.into_iter().map(|name| async move {
        let answer = ask(fleet, &name).await;
        (name, answer)
    });
    let mut answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    let answer_time = start.elapsed();
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let status = joined(&nodes, answers);
    let times = status.requests.iter().map(|request| (request.age, None)).collect();
    Ok(Snapshot { status, times, answer_time, own, at: Instant::now() })
}

/// The state of one node's server, or why it is not known.
async fn ask(fleet: &Fleet, name: &Name) -> Result<Status, String> {
    let target = fleet.node(name.as_str()).map_err(|error| error.to_string())?;
    let request = target.request("status").timeout(PATIENCE).deadline(PATIENCE);
    let response = request.await.map_err(|error: Error| error.to_string())?;
    let content = response.content.map(|content| content.to_string()).unwrap_or_default();
    Ok(Status::read(&content, &response.message))
}

/// The fleet as one server: the requests of all nodes, and their counters added.
fn joined(nodes: &Nodes, answers: Vec<(Name, Result<Status, String>)>) -> Status {
    let mut all = Status { tells_requests: true, ..Status::default() };
    let mut answers = answers.into_iter().peekable();
    let mut silent = 0;
    for (name, known) in nodes {
        let rows = match answers.next_if(|(found, _)| found == name) {
            None => {
                silent += 1;
                vec![row(name, "no answer", known.last_seen())]
            }
            Some((_, Err(why))) => vec![row(name, "error", clean(&why))],
            Some((_, Ok(status))) => {
                add(&mut all.numbers, status.numbers);
                running(name, known, status.requests, status.note)
            }
        };
        let room = ROWS.saturating_sub(all.requests.len());
        all.requests.extend(rows.into_iter().take(room));
    }
    let silent = if silent > 0 { format!("  {silent} no answer") } else { String::new() };
    let plural = if nodes.len() == 1 { "" } else { "s" };
    all.server = format!("{} node{plural}{silent}", nodes.len());
    all
}

/// The rows of a node that has answered.
fn running(
    name: &Name,
    known: &Known,
    requests: Vec<Request>,
    note: Option<String>,
) -> Vec<Request> {
    // The own question is one of them.
    let requests = requests.into_iter().filter(|request| request.words != "status");
    let rows = requests.take(REQUESTS).map(|request| Request {
        id: format!("{name}/{}", request.id),
        node: Some(name.to_string()),
        ..request
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        let text = note.unwrap_or_else(|| known.labels.to_string());
        return vec![row(name, "idle", text)];
    }
    rows
}

/// The row of a node without requests.
fn row(name: &Name, state: &'static str, line: String) -> Request {
    Request {
        id: format!("{name}/"),
        node: Some(name.to_string()),
        node_state: Some(state),
        line,
        ..Request::default()
    }
}

fn add(sums: &mut Vec<(String, f64)>, numbers: Vec<(String, f64)>) {
    for (name, value) in numbers {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
    sums.truncate(REQUESTS);
}

/// Cancels the runs of `orders`, one after the other, and reports how each ended.
async fn cancel(fleet: &Fleet, mut orders: mpsc::Receiver<String>, updates: mpsc::Sender<Update>) {
    while let Some(order) = orders.recv().await {
        let said = match order.split_once('/') {
            Some((node, run)) => cancel_one(fleet, node, run).await,
            None => continue,
        };
        if updates.send(Update::Said(said)).await.is_err() {
            return;
        }
    }
}

async fn cancel_one(fleet: &Fleet, node: &str, run: &str) -> String {
    let target = match fleet.node(node) {
        Ok(target) => target,
        Err(error) => return error.to_string(),
    };
    let arguments = json!({ "id": run });
    let ask = |command: Value| {
        let target = target.clone();
        async move { target.request(command).deadline(CANCEL_TIME).await }
    };
    let mut answer = ask(json!({ "cancel": arguments })).await;
    // A server that is not kakehid cancels one request by this name.
    if answer.as_ref().is_err_and(is_unknown) {
        answer = ask(json!({ "kakehi.cancel": arguments })).await;
    }
    match answer {
        Ok(response) => format!("{node}: {}", response.message),
        Err(error) => format!("{node}: not cancelled: {error}"),
    }
}

/// Whether the server does not know the command.
fn is_unknown(error: &Error) -> bool {
    use kakehi_channel::Refusal;
    matches!(error.refusal(), Some(Refusal::Unsupported | Refusal::Malformed))
}

#[cfg(test)]
mod tests {
    use kakehi_fleet::Labels;

    use super::*;

    fn known() -> Known {
        let labels: Labels = "role=web".parse().unwrap();
        Known { labels, info: None, seen_ms: None }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn each_node_has_a_row_and_the_counters_are_added() {
        let nodes: Nodes = ["db-1", "web-1", "web-2", "web-3"].map(|n| (name(n), known())).into();
        let running = json!({ "running": [
            { "run": "0a", "id": "x", "command": "run", "job": "backup", "age_ms": 5 },
            { "id": "y", "command": "status" },
        ], "counters": { "ok": 2 } });
        let idle = json!({ "running": [], "counters": { "ok": 3 } });
        let answers = vec![
            (name("web-1"), Ok(Status::read(&running.to_string(), ""))),
            (name("web-2"), Ok(Status::read(&idle.to_string(), ""))),
            (name("web-3"), Err("refused\u{1b}".to_owned())),
        ];
        let status = joined(&nodes, answers);
        let rows: Vec<_> = status
            .requests
            .iter()
            .map(|row| (&*row.id, row.node_state, &*row.words, &*row.line))
            .collect();
        assert_eq!(
            rows,
            [
                ("db-1/", Some("no answer"), "", "never seen"),
                ("web-1/0a", None, "run backup", ""),
                ("web-2/", Some("idle"), "", "role=web"),
                ("web-3/", Some("error"), "", "refused\\x1b"),
            ]
        );
        assert_eq!(status.numbers, [("ok".to_owned(), 5.0)]);
        assert_eq!(status.server, "4 nodes  1 no answer");
    }

    #[test]
    fn a_node_with_many_requests_leaves_room_for_others() {
        let requests: Vec<_> = (0..1000).map(|at| json!({ "id": at.to_string() })).collect();
        let many = json!({ "running": requests }).to_string();
        let nodes: Nodes = (0..30).map(|at| (name(&format!("n{at:02}")), known())).collect();
        let answers = nodes.keys().map(|n| (n.clone(), Ok(Status::read(&many, "")))).collect();
        let status = joined(&nodes, answers);
        assert_eq!(status.requests.len(), ROWS);
        assert_eq!(status.requests.iter().filter(|r| r.id.starts_with("n00/")).count(), REQUESTS);
    }
}
