//! One request to each of many nodes, and a row for each.

use std::{
    io::{self, BufRead, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kakehi_fleet::{Event, Fleet, Name, Selector};
use serde_json::{Value, json};

use super::{
    NONE_STARTED, Stop,
    arguments::{Many, Pace},
    record::Writer,
    report::Report,
    rows::Rows,
    targets::{self, Nodes, Seen},
};
use crate::{exit, question::trace, signals::Signals};

/// More nodes than this are confirmed.
const MANY: usize = 10;

/// How often the live part of the table is drawn.
const TICK: Duration = Duration::from_millis(100);

/// How long cancellations may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How many names of nodes are shown in a line.
const SHOWN: usize = 20;

/// Sends `command` to the nodes that are selected.
pub(super) async fn run(
    fleet: &Fleet,
    seen: &mut Seen,
    many: Many,
    command: Value,
    report: &mut Report,
) -> Result<u8, Stop> {
    let Many { on, expect, inventory, pace, wait } = many;
    // With names alone, no other node is asked.
    let default = if expect.is_empty() { Selector::all() } else { Selector::none() };
    let selector = on.unwrap_or(default);
    let known = targets::known(fleet, wait, inventory.inventory.as_deref(), seen).await?;
    let nodes = targets::select(&known, &selector, &expect);
    send(fleet, nodes, command, pace, report).await
}

/// Sends `command` to these nodes.
pub(super) async fn send(
    fleet: &Fleet,
    nodes: Nodes,
    command: Value,
    pace: Pace,
    report: &mut Report,
) -> Result<u8, Stop> {
    let names: Vec<Name> = nodes.keys().cloned().collect();
    if names.is_empty() {
        report.text("no node is selected")?;
        Rows::empty_summary(report, NONE_STARTED)?;
        return Ok(NONE_STARTED);
    }
    if pace.dry_run {
        for name in &names {
            report.line(name.as_str(), || json!({ "event": "target", "node": name.as_str() }))?;
        }
        Rows::empty_summary(report, exit::OK)?;
        return Ok(exit::OK);
    }
    confirm(&names, pace.yes)?;
    begin(fleet, nodes, names, command, &pace, report).await
}

/// Begins a run, records it, and follows it to its end.
async fn begin(
    fleet: &Fleet,
    nodes: Nodes,
    names: Vec<Name>,
    command: Value,
    pace: &Pace,
    report: &mut Report,
) -> Result<u8, Stop> {
    let (writer, begun) = Writer::begin(&command, &names);
    if let Err(error) = begun {
        Report::aside(&format!("kakehi: this run is not recorded: {error}\n"));
    }
    let run = writer.run.clone();
    announce(&run, &names, report)?;
    let writer = Arc::new(Mutex::new(writer));
    let on_accept = {
        let writer = Arc::clone(&writer);
        move |name: &Name, receipt: &kakehi_fleet::Receipt| {
            let accept = receipt.accept.as_deref().unwrap_or_default();
            lock(&writer).started(name, accept);
        }
    };
    let mut all = fleet
        .all(Selector::none())
        .under_way(pace.batch.of(names.len()))
        .canary(pace.canary)
        .id_prefix(run.as_str())
        .trace(trace())
        .on_accept(on_accept);
    if let Some(count) = pace.max_failures {
        all = all.max_failures(count);
    }
    let rows = Rows::new(report, nodes, run, pace.group_output);
    let status = follow(rows, all.send_to(names, command)?, &writer).await;
    if lock(&writer).is_broken() {
        Report::aside("kakehi: the record of this run could not be written, and is removed\n");
    }
    status
}

/// Shows and records the events of a run until its end, or until a signal.
async fn follow(
    mut rows: Rows<'_>,
    mut events: impl Stream<Item = (Name, Event)> + Unpin,
    writer: &Mutex<Writer>,
) -> Result<u8, Stop> {
    let mut signals = Signals::new(false)?;
    if rows.is_live() {
        signals = signals.with_live()?;
    }
    let mut ticks = tokio::time::interval(TICK);
    let code = loop {
        tokio::select! {
            event = events.next() => match event {
                Some((name, event)) => {
                    let ended = rows.event(&name, event)?;
                    if let Some((outcome, message)) = ended {
                        lock(writer).ended(&name, outcome, &message);
                    }
                }
                None => break None,
            },
            code = signals.next_with(|| drop(rows.hide())) => break Some(code),
            _ = ticks.tick(), if rows.is_live() => rows.draw()?,
        }
    };
    if code.is_some() {
        drop(events);
        tokio::time::sleep(LAST_WORDS).await;
        let mut writer = lock(writer);
        for (name, outcome, message) in rows.interrupt()? {
            writer.ended(&name, outcome, &message);
        }
    }
    let status = rows.end(code)?;
    match code {
        Some(code) => Err(Stop("interrupted: what ran was cancelled".to_owned(), code)),
        None => Ok(status),
    }
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says which nodes are asked.
fn announce(run: &str, names: &[Name], report: &mut Report) -> io::Result<()> {
    if !report.is_json() {
        let count = names.len();
        let plural = if count == 1 { "" } else { "s" };
        Report::aside(&format!("run {run} on {count} node{plural}: {}\n", shown(names)));
    }
    report.json(|| {
        let nodes: Vec<&str> = names.iter().map(Name::as_str).collect();
        json!({ "event": "run", "run": run, "nodes": nodes })
    })
}

fn shown(names: &[Name]) -> String {
    let first: Vec<&str> = names.iter().take(SHOWN).map(Name::as_str).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(" "))
}

fn confirm(targets: &[Name], yes: bool) -> Result<(), Stop> {
    if yes || targets.len() <= MANY {
        return Ok(());
    }
    let count = targets.len();
    if !io::stdin().is_terminal() {
        return Err(Stop(format!("{count} nodes: give --yes"), exit::USAGE));
    }
    let names: Vec<&str> = targets.iter().map(Name::as_str).collect();
    Report::aside(&format!("{}\nSend to these {count} nodes? [y/N] ", names.join(" ")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "yes" => Ok(()),
        _ => Err(Stop("nothing was sent".to_owned(), exit::USAGE)),
    }
}
