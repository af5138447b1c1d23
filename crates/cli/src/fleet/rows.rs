//! A row for each node, a summary, and on a terminal the running nodes.

use std::{collections::BTreeMap, io, time::Duration};

use kakehi_client::{Error, Response};
use kakehi_fleet::{Ended, Event, Name, Receipt, Summary};
use serde_json::{Value, json};

use super::{
    Stop,
    area::{Area, Running},
    groups::Groups,
    outcome::{self, Outcome},
    record::request_id,
    report::Report,
    targets::{Known, Nodes},
};
use crate::{escape::escape, text::duration};

pub(super) struct Rows<'r> {
    report: &'r mut Report,
    nodes: Nodes,
    run: String,
    width: usize,
    under_way: BTreeMap<Name, Running>,
    /// Nodes that were not asked yet.
    queued: usize,
    /// A single node's progress is shown.
    shows_progress: bool,
    has_header: bool,
    summary: Counts,
    area: Option<Area>,
    groups: Option<Groups>,
}

/// How many nodes ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) summary: Summary,
    pub(super) cancelled: usize,
}

impl<'r> Rows<'r> {
    pub(super) fn new(
        report: &'r mut Report,
        nodes: Nodes,
        run: String,
        group_output: bool,
    ) -> Self {
        let width = nodes.keys().map(|name| name.as_str().len()).max().unwrap_or(0).max(4);
        let area = report.is_terminal().then(|| Area::new(width, nodes.len()));
        Self {
            width,
            queued: nodes.len(),
            shows_progress: nodes.len() == 1 && !group_output,
            under_way: BTreeMap::new(),
            has_header: false,
            summary: Counts::default(),
            area,
            groups: group_output.then(Groups::default),
            report,
            nodes,
            run,
        }
    }

    /// The summary where no node was asked.
    pub(super) fn empty_summary(report: &mut Report, code: u8) -> io::Result<()> {
        report.json(|| summary_json(Counts::default(), code))
    }

    /// Whether [`draw`](Self::draw) shows anything.
    pub(super) fn is_live(&self) -> bool {
        self.area.is_some()
    }

    /// Shows an event. Returns how the request ended, if it did.
    pub(super) fn event(
        &mut self,
        name: &Name,
        event: Event,
    ) -> io::Result<Option<(Outcome, String)>> {
        match event {
            Event::Started(Receipt { id, accept }) => {
                self.under_way.entry(name.clone()).or_insert_with(Running::new);
                self.queued = self.queued.saturating_sub(1);
                self.report.json(|| {
                    json!({ "node": name.as_str(), "event": "started", "id": id, "accept": accept })
                })?;
                Ok(None)
            }
            Event::Progress(response) => self.progress(name, &response).map(|()| None),
            Event::Ended(ended, receipt) => self.ended(name, &ended, receipt.as_ref()).map(Some),
        }
    }

    fn progress(&mut self, name: &Name, response: &Response) -> io::Result<()> {
        if let Some(running) = self.under_way.get_mut(name) {
            running.progress(response);
        }
        if let Some(groups) = &mut self.groups {
            groups.progress(name, response);
        }
        if self.shows_progress && !response.message.is_empty() {
            let line = escape(&response.message).into_owned();
            self.text(&line)?;
        }
        self.report
            .json(|| json!({ "node": name.as_str(), "event": "progress", "response": response }))
    }

    fn ended(
        &mut self,
        name: &Name,
        ended: &Ended,
        receipt: Option<&Receipt>,
    ) -> io::Result<(Outcome, String)> {
        let running = self.under_way.remove(name);
        if running.is_none() {
            self.queued = self.queued.saturating_sub(1);
        }
        self.summary.summary.add(ended);
        let outcome = outcome::of(ended);
        let last = self.last_line(name, ended, running.as_ref());
        if let Some(groups) = &mut self.groups {
            groups.ended(name, &last);
        }
        let time = running.map(|running| running.since.elapsed());
        self.row(name, &state(ended), time, &last)?;
        self.report.json(|| row_json(name, ended, receipt, time))?;
        Ok((outcome, message(ended)))
    }

    fn row(
        &mut self,
        name: &Name,
        state: &str,
        time: Option<Duration>,
        last: &str,
    ) -> io::Result<()> {
        let width = self.width;
        let progress = if self.is_live() { format!("{:18}  ", "") } else { String::new() };
        if !std::mem::replace(&mut self.has_header, true) {
            let title = if self.is_live() { format!("{:18}  ", "PROGRESS") } else { String::new() };
            self.text(&format!("{:width$}  STATE       {title}  TIME  LAST LINE", "NODE"))?;
        }
        let shown = time.map_or_else(String::new, duration);
        let row = format!("{name:width$}  {state:10}  {progress}{shown:>6}  {}", escape(last));
        self.text(row.trim_end())
    }

    fn text(&mut self, line: &str) -> io::Result<()> {
        match &mut self.area {
            Some(area) => {
                area.above(line);
                Ok(())
            }
            None => self.report.text(line),
        }
    }

    /// Draws the nodes that are under way.
    pub(super) fn draw(&mut self) -> io::Result<()> {
        let Some(area) = &mut self.area else { return Ok(()) };
        let text = area.draw(&self.under_way, self.queued, &self.summary);
        self.report.raw(&text)
    }

    /// Removes the live part until it is drawn again.
    pub(super) fn hide(&mut self) -> io::Result<()> {
        let Some(area) = &mut self.area else { return Ok(()) };
        let text = area.close();
        self.report.raw(&text)
    }

    /// Ends all that is left, because this program was interrupted. Returns the ends.
    pub(super) fn interrupt(&mut self) -> io::Result<Vec<(Name, Outcome, String)>> {
        let mut ends = vec![];
        for (name, running) in std::mem::take(&mut self.under_way) {
            self.summary.cancelled += 1;
            let why = "interrupted: it was cancelled";
            self.row(&name, "cancelled", Some(running.since.elapsed()), why)?;
            self.report.json(|| {
                json!({ "node": name.as_str(), "event": "ended", "outcome": "cancelled",
                    "id": request_id(&self.run, &name), "error": why })
            })?;
            ends.push((name, Outcome::Cancelled, why.to_owned()));
        }
        self.summary.summary.skipped += std::mem::take(&mut self.queued);
        Ok(ends)
    }

    /// Shows the summary. Returns the exit status; `code` is that of an interruption.
    pub(super) fn end(mut self, code: Option<u8>) -> Result<u8, Stop> {
        self.hide()?;
        self.area = None;
        if let Some(groups) = self.groups.take() {
            for (nodes, output) in groups.into_output() {
                let names: Vec<&str> = nodes.iter().map(Name::as_str).collect();
                let plural = if names.len() == 1 { "" } else { "s" };
                self.report.text(&format!(
                    "--- {} node{plural}: {}",
                    names.len(),
                    names.join(" ")
                ))?;
                self.report.text(crate::escape::escape_lines(&output).trim_end_matches('\n'))?;
                self.report
                    .json(|| json!({ "event": "output", "nodes": names, "output": output }))?;
            }
        }
        let counts = self.summary;
        let code = code.unwrap_or_else(|| counts.summary.exit_status());
        self.report.text(&counts.text(", "))?;
        self.report.json(|| summary_json(counts, code))?;
        Ok(code)
    }

    fn last_line(&self, name: &Name, ended: &Ended, running: Option<&Running>) -> String {
        let run = &self.run;
        let output = running.map(|running| running.last.as_str()).filter(|last| !last.is_empty());
        match (ended, outcome::of(ended)) {
            (Ended::Failed(error), Outcome::Unknown) => {
                format!("{error}: kakehi fleet settle {run}")
            }
            (Ended::Failed(error), Outcome::NotSent) => {
                let known = self.nodes.get(name).filter(|known| known.info.is_none());
                let why = known.map_or_else(|| error.to_string(), Known::last_seen);
                format!("{why}; not started, will not start")
            }
            // The result of a job says less than its last line.
            (ended, _) if exit_code(ended).is_some() => {
                output.map_or_else(|| message(ended), str::to_owned)
            }
            (ended, _) => message(ended),
        }
    }
}

impl Counts {
    pub(super) fn text(&self, separator: &str) -> String {
        let Summary { ok, failed, refused, not_sent, unknown, skipped, .. } = self.summary;
        let counts = [
            (ok, "ok"),
            (failed, "failed"),
            (refused, "refused"),
            (not_sent, "unreachable"),
            (unknown, "UNKNOWN"),
            (self.cancelled, "cancelled"),
            (skipped, "skipped"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(separator)
    }

    pub(super) fn total(&self) -> usize {
        let Summary { ok, failed, refused, not_sent, unknown, skipped, .. } = self.summary;
        ok + failed + refused + not_sent + unknown + skipped + self.cancelled
    }
}

fn summary_json(counts: Counts, code: u8) -> Value {
    let mut summary = json!(counts.summary);
    if let Some(fields) = summary.as_object_mut() {
        fields.insert("cancelled".to_owned(), json!(counts.cancelled));
    }
    json!({ "event": "summary", "summary": summary, "exit_status": code })
}

fn state(ended: &Ended) -> String {
    match (outcome::of(ended), exit_code(ended)) {
        (Outcome::Failed, Some(code)) => format!("failed {code}"),
        (outcome, _) => outcome::shown(outcome).to_owned(),
    }
}

/// Of a job.
fn exit_code(ended: &Ended) -> Option<u64> {
    let response = match ended {
        Ended::Ok(response) => Some(response),
        Ended::Failed(error) => error.response(),
        Ended::Skipped => None,
    };
    response?.content.as_ref()?.get("exit_code")?.as_u64()
}

/// The server's own words, if it said any.
fn message(ended: &Ended) -> String {
    let of_error = |error: &Error| {
        error.response().map_or_else(|| error.to_string(), |response| response.message.clone())
    };
    match ended {
        Ended::Ok(response) => response.message.clone(),
        Ended::Skipped => "too many other nodes failed".to_owned(),
        Ended::Failed(error) => of_error(error),
    }
}

fn row_json(
    name: &Name,
    ended: &Ended,
    receipt: Option<&Receipt>,
    time: Option<Duration>,
) -> Value {
    let (outcome, response, error): (_, Option<&Response>, _) = match ended {
        Ended::Ok(response) => ("ok", Some(response), None),
        Ended::Skipped => ("skipped", None, None),
        Ended::Failed(error) => (error.outcome().name(), error.response(), Some(error.to_string())),
    };
    json!({
        "node": name.as_str(),
        "event": "ended",
        "outcome": outcome,
        "response": response,
        "error": error,
        "id": receipt.map(|receipt| &receipt.id),
        "accept": receipt.and_then(|receipt| receipt.accept.as_ref()),
        "seconds": time.map(|time| time.as_secs_f64()),
    })
}
