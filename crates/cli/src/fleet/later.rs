//! The commands for an earlier run of the fleet: settle, cancel, retry, and show its output.

use std::time::Duration;

use futures::{StreamExt, stream};
use kakehi_channel::Status;
use kakehi_client::Error;
use kakehi_fleet::{Fleet, Name, Settled, Summary};
use serde_json::{Value, json};

use super::{
    NONE_STARTED, Stop, UNKNOWN,
    arguments::Pace,
    many,
    outcome::{self, Outcome},
    record::{Entry, Record, request_id},
    report::Report,
    targets::{self, Nodes, Seen},
};
use crate::{escape::escape, exit, signals::Signals};

/// How many nodes are asked at once.
const AT_ONCE: usize = 64;

/// How long a cancelled request may take to end.
const CANCEL_TIME: Duration = Duration::from_secs(20);

/// The state of a request.
enum State {
    Running,
    Over(Outcome, String),
}

/// `settle RUN`.
pub(super) async fn settle(fleet: &Fleet, run: &str, report: &mut Report) -> Result<u8, Stop> {
    let mut record = Record::find(run)?;
    let states = learn(fleet, &mut record).await;
    rows(&states, report)
}

/// `settle ACCEPT ID`.
pub(super) async fn settle_one(
    fleet: &Fleet,
    accept: &str,
    id: &str,
    report: &mut Report,
) -> Result<u8, Stop> {
    let settled = fleet.settle(accept, id).await?;
    let (name, text, code) = match &settled {
        Settled::Final(response) => (
            "final",
            format!("ended with {}: {}", response.status, escape(&response.message)),
            exit::OK,
        ),
        Settled::Running => ("running", "it runs".to_owned(), exit::OK),
        Settled::Never => {
            ("never", "it was not started, and will not start".to_owned(), NONE_STARTED)
        }
        Settled::Interrupted => {
            ("interrupted", "the node restarted while it ran".to_owned(), UNKNOWN)
        }
        Settled::NoAnswer => ("no_answer", "the node does not answer".to_owned(), UNKNOWN),
        _ => ("forgotten", "the node does not know what became of it".to_owned(), UNKNOWN),
    };
    let response = match &settled {
        Settled::Final(response) => Some(response),
        _ => None,
    };
    report.line(&text, || json!({ "settled": name, "response": response }))?;
    Ok(code)
}

/// `retry RUN`.
pub(super) async fn retry(
    fleet: &Fleet,
    seen: &mut Seen,
    run: &str,
    (failed, unreachable, force): (bool, bool, bool),
    pace: Pace,
    report: &mut Report,
) -> Result<u8, Stop> {
    if !(failed || unreachable || force) {
        let why = "retry: give --failed, --unreachable, --force or several of them";
        return Err(Stop(why.to_owned(), exit::USAGE));
    }
    let mut record = Record::find(run)?;
    let Some(command) = record.command.clone() else {
        let why = format!("the command of run {} was too large to be kept", record.run);
        return Err(Stop(why, exit::USAGE));
    };
    let states = learn(fleet, &mut record).await;
    let is_chosen = |state: &State| match state {
        State::Running => false,
        State::Over(outcome, _) => match outcome {
            Outcome::Ok => false,
            Outcome::Failed => failed,
            Outcome::Refused | Outcome::NotSent | Outcome::Skipped => unreachable,
            Outcome::Unknown | Outcome::Cancelled => force,
        },
    };
    let left_out = states.iter().filter(|(_, state)| {
        matches!(state, State::Running | State::Over(Outcome::Unknown | Outcome::Cancelled, _))
    });
    let left_out: Vec<_> = left_out.filter(|(_, state)| !is_chosen(state)).collect();
    for (name, state) in &left_out {
        let why = match state {
            State::Running => "it runs there",
            State::Over(..) => "the outcome is unknown, and --force was not given",
        };
        report.line(
            &format!("{name}: not sent again: {why}"),
            || json!({ "event": "left_out", "node": name.as_str(), "error": why }),
        )?;
    }
    let chosen: Vec<Name> =
        states.iter().filter(|(_, state)| is_chosen(state)).map(|(name, _)| name.clone()).collect();
    let known = targets::known(fleet, Duration::from_millis(500), None, seen).await?;
    let nodes: Nodes = targets::select(&known, &kakehi_fleet::Selector::none(), &chosen);
    many::send(fleet, nodes, command, pace, report).await
}

/// `cancel RUN`.
pub(super) async fn cancel(fleet: &Fleet, run: &str, report: &mut Report) -> Result<u8, Stop> {
    let mut record = Record::find(run)?;
    let is_job = record.command.as_ref().is_some_and(|command| command.get("run").is_some());
    let states = learn(fleet, &mut record).await;
    let running = states.iter().filter(|(_, state)| matches!(state, State::Running));
    let running: Vec<Name> = running.map(|(name, _)| name.clone()).collect();
    let ended = stream::iter(running.iter().map(|name| {
        let entry = record.nodes.get(name).cloned().unwrap_or_default();
        let id = request_id(&record.run, name);
        async move { (name.clone(), cancel_one(fleet, name, &entry, &id, is_job).await) }
    }))
    .buffer_unordered(AT_ONCE)
    .collect::<Vec<_>>()
    .await;
    let mut states: Vec<(Name, State)> =
        states.into_iter().filter(|(name, _)| !running.contains(name)).collect();
    for (name, state) in ended {
        if let State::Over(outcome, message) = &state {
            record.learn(&name, *outcome, message);
        }
        states.push((name, state));
    }
    states.sort_by(|a, b| a.0.cmp(&b.0));
    rows(&states, report)
}

/// A job may be one that goes on without its client, so the daemon is asked to cancel it.
async fn cancel_one(fleet: &Fleet, name: &Name, entry: &Entry, id: &str, is_job: bool) -> State {
    let Some(accept) = &entry.accept else { return State::Running };
    if is_job && let Ok(target) = fleet.node(name.as_str()) {
        // The settle shows whether the cancellation had an effect.
        let _ = target.request(json!({ "cancel": { "id": id } })).deadline(CANCEL_TIME).await;
    }
    let until = tokio::time::Instant::now() + CANCEL_TIME;
    let mut was_running = false;
    loop {
        let settled = fleet.settle(accept, id).await.unwrap_or(Settled::NoAnswer);
        match settled {
            Settled::Running if tokio::time::Instant::now() < until => {
                was_running = true;
                let _ = fleet.cancel(accept).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Settled::Running => return State::Running,
            // Without a look at the running request, its end is unknown.
            Settled::Forgotten if was_running => {
                return State::Over(Outcome::Cancelled, "it was cancelled".to_owned());
            }
            settled => {
                return outcome::settled(&settled)
                    .map_or(State::Running, |(outcome, message)| State::Over(outcome, message));
            }
        }
    }
}

/// `logs RUN NODE` and `attach RUN NODE`.
pub(super) async fn output(
    fleet: &Fleet,
    run: &str,
    node: Option<Name>,
    command: impl Fn(&str) -> Value,
    report: &mut Report,
) -> Result<u8, Stop> {
    let record = Record::find(run)?;
    let node = match (node, record.nodes.len()) {
        (Some(node), _) if record.nodes.contains_key(&node) => node,
        (None, 1) => record.nodes.keys().next().cloned().unwrap_or_else(|| unreachable!("one")),
        (Some(node), _) => {
            return Err(Stop(format!("run {} did not ask {node}", record.run), exit::USAGE));
        }
        (None, _) => return Err(Stop("name one node of the run".to_owned(), exit::USAGE)),
    };
    let id = request_id(&record.run, &node);
    let target = fleet.node(node.as_str())?;
    let failed = |error: Error| Stop(format!("{node}: {error}"), exit::ERROR);
    let runs = target.request(json!({ "runs": {} })).await.map_err(failed)?;
    let runs = runs.content.unwrap_or_default();
    let records = runs.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = records.iter().find(|record| record["id"] == id.as_str());
    let Some(found) = found.and_then(|record| record["run"].as_str()) else {
        return Err(Stop(
            format!("{node} has kept no output of run {}", record.run),
            exit::NOT_STARTED,
        ));
    };
    let mut signals = Signals::new(false)?;
    let request = target.request(command(found)).timeout(None);
    let mut responses = request.send().await.map_err(failed)?;
    loop {
        let next = tokio::select! {
            next = responses.next() => next,
            code = signals.next() => return Err(Stop("interrupted".to_owned(), code)),
        };
        match next {
            Some(Ok(response)) => {
                report.json(|| json!(response))?;
                let is_line = response.status == Status::Processing
                    && (!response.message.is_empty() || response.content.is_some());
                if is_line {
                    report.text(&escape(&response.message))?;
                }
                match response.status {
                    Status::Processing => {}
                    Status::Ok => return Ok(exit::OK),
                    Status::Error => return Err(Stop(response.message, exit::ERROR)),
                }
            }
            Some(Err(error)) => return Err(failed(error)),
            None => return Ok(exit::OK),
        }
    }
}

/// Asks the nodes of which no end is known, and adds their answers to the record.
async fn learn(fleet: &Fleet, record: &mut Record) -> Vec<(Name, State)> {
    let run = record.run.clone();
    let asked = record.nodes.iter().map(|(name, entry)| (name.clone(), entry.clone()));
    let states: Vec<(Name, State, bool)> = stream::iter(asked.map(|(name, entry)| {
        let id = request_id(&run, &name);
        async move {
            match entry.end.clone() {
                Some((outcome, message))
                    if !matches!(outcome, Outcome::Unknown | Outcome::Cancelled) =>
                {
                    (name, State::Over(outcome, message), false)
                }
                _ => {
                    let state = ask(fleet, &entry, &id).await;
                    (name, state, true)
                }
            }
        }
    }))
    .buffer_unordered(AT_ONCE)
    .collect()
    .await;
    let mut known = vec![];
    for (name, state, is_new) in states {
        if let (State::Over(outcome, message), true) = (&state, is_new) {
            record.learn(&name, *outcome, message);
        }
        known.push((name, state));
    }
    known.sort_by(|a, b| a.0.cmp(&b.0));
    known
}

async fn ask(fleet: &Fleet, entry: &Entry, id: &str) -> State {
    let Some(accept) = &entry.accept else {
        // The accept is recorded before the node gets GO.
        return State::Over(Outcome::NotSent, "it was not started".to_owned());
    };
    let settled = fleet.settle(accept, id).await.unwrap_or(Settled::NoAnswer);
    if let (Settled::Forgotten, Some((Outcome::Cancelled, message))) = (&settled, &entry.end) {
        return State::Over(Outcome::Cancelled, message.clone());
    }
    outcome::settled(&settled)
        .map_or(State::Running, |(outcome, message)| State::Over(outcome, message))
}

/// A row for each node, and the summary. The exit status counts a running request as unknown.
fn rows(states: &[(Name, State)], report: &mut Report) -> Result<u8, Stop> {
    let width = states.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0).max(4);
    report.text(&format!("{:width$}  STATE       LAST LINE", "NODE"))?;
    let (mut summary, mut running, mut cancelled) = (Summary::default(), 0, 0);
    for (name, state) in states {
        let (shown, outcome, message) = match state {
            State::Running => {
                running += 1;
                ("running", "running", "")
            }
            State::Over(outcome, message) => {
                match outcome {
                    Outcome::Ok => summary.ok += 1,
                    Outcome::Failed => summary.failed += 1,
                    Outcome::Refused => summary.refused += 1,
                    Outcome::NotSent => summary.not_sent += 1,
                    Outcome::Skipped => summary.skipped += 1,
                    Outcome::Unknown => summary.unknown += 1,
                    Outcome::Cancelled => cancelled += 1,
                }
                (outcome::shown(*outcome), outcome::name(*outcome), message.as_str())
            }
        };
        let row = format!("{name:width$}  {shown:10}  {}", escape(message));
        report.line(row.trim_end(), || {
            json!({ "node": name.as_str(), "event": "settled", "outcome": outcome, "message": message })
        })?;
    }
    let code = match () {
        () if running > 0 => UNKNOWN,
        () if cancelled > 0 && summary.unknown == 0 => exit::ERROR,
        () => summary.exit_status(),
    };
    report.json(|| {
        json!({ "event": "summary", "exit_status": code, "summary": {
            "ok": summary.ok, "failed": summary.failed, "refused": summary.refused,
            "not_sent": summary.not_sent, "unknown": summary.unknown, "skipped": summary.skipped,
            "running": running, "cancelled": cancelled } })
    })?;
    Ok(code)
}
