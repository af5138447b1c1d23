//! The rows of a request to many hosts, as text or JSON.

use std::{future::Future, time::Duration};

use kakehi_client::Outcome;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Lines;
use crate::{
    args::Options,
    escape::escape_json,
    exit,
    failure::Failure,
    output::{Output, To, Unwritable},
    reply::Answer,
    ssh::SshHost,
    text::duration,
    view::{Form, Line, Style, table},
};

pub(super) mod summary {
    //! The counts of all hosts, and the exit status.

    use super::{Ended, Outcome, Serialize, exit};

    /// The order of outcomes, from the worst, for the manual.
    pub(crate) const ORDER: &str = "With several hosts, the exit status is that of the worst host. \
        The worst outcome is an unknown one; then a request that was not sent, one that was refused, \
        one that failed, and success. Of several hosts with the same outcome, the first one counts. \
        Ctrl-C ends with 130.";

    /// How many hosts had each outcome.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub(crate) struct Summary {
        pub(super) hosts: usize,
        pub(super) ok: usize,
        pub(super) failed: usize,
        pub(super) refused: usize,
        pub(super) not_sent: usize,
        pub(super) unknown: usize,
        pub(super) exit_status: u8,
    }

    impl Summary {
        /// `None`: the host has not ended. `signal` is the exit status of a signal.
        pub(super) fn of(ended: &[Option<Ended>], signal: Option<u8>) -> Self {
            let mut all = Self { hosts: ended.len(), ..Self::default() };
            let mut worst = (0, exit::OK);
            for end in ended {
                let (outcome, code) = match end {
                    Some(end) => (end.outcome(), end.code()),
                    None => (Some(Outcome::Unknown), exit::PROTOCOL),
                };
                let (rank, count) = match outcome {
                    None => (0, &mut all.ok),
                    Some(Outcome::Failed | Outcome::Done) => (1, &mut all.failed),
                    Some(Outcome::Refused) => (2, &mut all.refused),
                    Some(Outcome::NotSent) => (3, &mut all.not_sent),
                    Some(Outcome::Unknown) => (4, &mut all.unknown),
                };
                *count += 1;
                if rank > worst.0 {
                    worst = (rank, code);
                }
            }
            all.exit_status = signal.unwrap_or(worst.1);
            all
        }
    }
}

use summary::Summary;

/// How the request to one host ended.
#[derive(Debug)]
pub(super) struct Ended {
    result: Result<Answer, Failure>,
    /// `None`: the host was not asked.
    time: Option<Duration>,
    code: u8,
}

impl Ended {
    pub(super) fn new(result: Result<Answer, Failure>, time: Duration) -> Self {
        Self { result, time: Some(time), code: exit::OK }
    }

    /// The host was not asked, because the command was interrupted.
    pub(super) fn skipped() -> Self {
        let parts = ["interrupted", "the command was interrupted before", "run the command again"];
        let failure = Failure::unsent(exit::INTERRUPTED, "interrupted", parts);
        Self { result: Err(failure), time: None, code: exit::INTERRUPTED }
    }

    /// `None`: the request succeeded.
    fn outcome(&self) -> Option<Outcome> {
        match &self.result {
            Ok(_) if self.code == exit::OK => None,
            Ok(answer) if answer.response.refused.is_some() || answer.end().reason.is_some() => {
                Some(Outcome::Refused)
            }
            Ok(_) => Some(Outcome::Failed),
            Err(failure) => Some(failure.outcome),
        }
    }

    fn code(&self) -> u8 {
        self.code
    }

    fn state(&self) -> String {
        match self.outcome() {
            None => "ok".to_owned(),
            Some(Outcome::NotSent) => "not sent".to_owned(),
            Some(Outcome::Unknown) => "UNKNOWN".to_owned(),
            Some(Outcome::Refused) => "refused".to_owned(),
            Some(_) => match self.result.as_ref().ok().map(Answer::end) {
                Some(end) if end.ended_by == Some("cancel") => "cancelled".to_owned(),
                Some(end) if end.code.is_some() => format!("failed {}", self.code),
                _ => "failed".to_owned(),
            },
        }
    }
}

/// Shows what the hosts report.
pub(super) struct Report {
    output: Output,
    form: Form,
    style: Style,
    is_json: bool,
    is_raw: bool,
    hosts: Vec<Host>,
}

struct Host {
    name: String,
    lines: Lines,
    ended: Option<Ended>,
}

impl Report {
    pub(super) fn new(hosts: &[SshHost], form: Form, options: &Options, output: Output) -> Self {
        let hosts = hosts.iter().map(|host| Host {
            name: host.name(),
            lines: Lines::default(),
            ended: None,
        });
        let report = Self {
            form,
            style: Style::of(&output, options),
            is_json: options.json,
            is_raw: options.raw,
            hosts: hosts.collect(),
            output,
        };
        report.count();
        report
    }

    /// Writes everything and waits for `next`.
    pub(super) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Unwritable> {
        self.output.wait(next).await
    }

    /// A line for a person.
    pub(super) fn note(&mut self, text: &str) {
        self.output.note("note:", text.to_owned());
    }

    /// Shows a progress response.
    pub(super) fn progress(&mut self, index: usize, answer: Answer) {
        let Some(host) = self.hosts.get_mut(index) else { return };
        if self.is_json {
            let line = Event { response: raw(&answer), ..Event::of(&host.name, "progress") };
            if let Ok(line) = Line::of(answer) {
                host.lines.add(line);
            }
            return put_json(&mut self.output, &line);
        }
        match Line::of(answer) {
            Ok(line) => {
                let to = line.to;
                for line in host.lines.add(line) {
                    put(&mut self.output, to, &host.name, &line, self.is_raw);
                }
            }
            Err(answer) if answer.content().and_then(crate::output::steps).is_some() => {}
            Err(answer) => {
                if !answer.response.message.is_empty() {
                    let label = format!("{}:", host.name);
                    self.output.note(&label, answer.response.message);
                }
            }
        }
    }

    /// Shows the end of one host.
    pub(super) fn ended(&mut self, index: usize, mut ended: Ended) {
        let is_run = matches!(self.form, Form::Run | Form::Detached | Form::DryRun);
        ended.code = match &ended.result {
            Ok(answer) => exit::of_answer(answer, is_run),
            Err(failure) => failure.code,
        };
        let Some(host) = self.hosts.get_mut(index) else { return };
        for (to, line) in host.lines.finish() {
            if !self.is_json {
                put(&mut self.output, to, &host.name, &line, self.is_raw);
            }
        }
        if self.is_json {
            put_json(&mut self.output, &Event::ended(&host.name, &ended));
        }
        host.ended = Some(ended);
        self.count();
    }

    /// Shows the table, or the summary. Returns the exit status.
    pub(super) fn end(mut self, signal: Option<u8>) -> u8 {
        self.output.finish();
        let ended: Vec<_> = self.hosts.iter_mut().map(|host| host.ended.take()).collect();
        let summary = Summary::of(&ended, signal);
        if self.is_json {
            for (host, _) in self.hosts.iter().zip(&ended).filter(|(_, ended)| ended.is_none()) {
                let event = Event {
                    outcome: Some(Outcome::Unknown.name()),
                    exit_status: Some(exit::PROTOCOL),
                    ..Event::of(&host.name, "ended")
                };
                put_json(&mut self.output, &event);
            }
            put_json(&mut self.output, &Summed { event: "summary", summary });
        } else {
            let rows = self.hosts.iter().zip(&ended).map(|(host, ended)| row(host, ended.as_ref()));
            let rows: Vec<_> = rows.collect();
            let table = table(&["HOST", "STATE", "TIME", "LAST LINE"], &rows, self.style);
            self.output.result(table.as_bytes());
            self.output.note("note:", counts(summary));
        }
        let code = summary.exit_status;
        self.output.flush_now(code)
    }

    /// Ends without a table.
    pub(super) fn close(mut self, code: u8) -> u8 {
        self.output.finish();
        code
    }

    /// Ends with a failure of this program.
    pub(super) fn fail(mut self, failure: &Failure) -> u8 {
        self.output.end(failure)
    }

    /// Shows how many hosts have ended.
    fn count(&self) {
        let ended = self.hosts.iter().filter(|host| host.ended.is_some()).count();
        let steps = (ended as u64, self.hosts.len() as u64);
        self.output.live_progress("hosts", Some(steps));
    }
}

fn row(host: &Host, ended: Option<&Ended>) -> Vec<String> {
    let Some(ended) = ended else {
        return vec![host.name.clone(), "UNKNOWN".into(), "-".into(), host.lines.last().into()];
    };
    let time = ended.time.map_or_else(|| "-".to_owned(), duration);
    let last = match (&ended.result, host.lines.last()) {
        // The host is in the first column, so the cause says enough.
        (Err(failure), _) => failure.why.clone(),
        (Ok(answer), "") => answer.response.message.clone(),
        (Ok(_), line) => line.to_owned(),
    };
    // A table has one line for each host.
    let last: String = last.chars().take(1024).collect();
    vec![host.name.clone(), ended.state(), time, last]
}

fn counts(summary: Summary) -> String {
    let Summary { hosts, ok, failed, refused, not_sent, unknown, .. } = summary;
    let counts =
        [(failed, "failed"), (refused, "refused"), (not_sent, "not sent"), (unknown, "UNKNOWN")];
    let others = counts.into_iter().filter(|(count, _)| *count > 0);
    let first = format!("{ok} of {hosts} hosts ok");
    let others = others.map(|(count, what)| format!("{count} {what}"));
    std::iter::once(first).chain(others).collect::<Vec<_>>().join(", ")
}

/// A line of output, behind the name of its host.
fn put(output: &mut Output, to: To, name: &str, line: &[u8], is_raw: bool) {
    let text = [name.as_bytes(), b": ", line].concat();
    let is_raw = is_raw || !output.is_terminal(to);
    output.job(to, text, is_raw, b"\n");
}

fn put_json(output: &mut Output, value: &impl Serialize) {
    // Names and raw JSON can always be written.
    let text = serde_json::to_string(value).unwrap_or_default();
    output.result(format!("{}\n", escape_json(&text)).as_bytes());
}

/// A line of `--json`.
#[derive(Serialize)]
struct Event<'a> {
    host: &'a str,
    #[serde(rename = "event")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Summed {
    event: &'static str,
    #[serde(flatten)]
    summary: Summary,
}

impl<'a> Event<'a> {
    fn of(host: &'a str, name: &'static str) -> Self {
        let (outcome, exit_status, duration_ms) = (None, None, None);
        Self {
            host,
            name,
            outcome,
            exit_status,
            duration_ms,
            error: None,
            message: None,
            response: None,
        }
    }

    fn ended(host: &'a str, ended: &Ended) -> Self {
        let failure = ended.result.as_ref().err();
        Self {
            outcome: Some(ended.outcome().map_or("ok", Outcome::name)),
            exit_status: Some(ended.code),
            duration_ms: ended.time.map(|time| time.as_millis()),
            error: failure.map(|failure| failure.word),
            message: failure.map(|failure| format!("{}: {}", failure.what, failure.why)),
            response: ended.result.as_ref().ok().and_then(raw),
            ..Self::of(host, "ended")
        }
    }
}

fn raw(answer: &Answer) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(answer.json.clone()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "hosts have options of it")]
    fn ended(rest: &str) -> Option<Ended> {
        let text = format!(r#"{{"id":"","version":0,"message":"m",{rest}}}"#);
        let answer = Answer::of(&text);
        let code = exit::of_answer(&answer, true);
        Some(Ended { code, ..Ended::new(Ok(answer), Duration::ZERO) })
    }

    #[expect(clippy::unnecessary_wraps, reason = "hosts have options of it")]
    fn unsent() -> Option<Ended> {
        let failure = Failure::unsent(exit::NOT_RUNNING, "not_running", ["a", "b", "c"]);
        Some(Ended { code: failure.code, ..Ended::new(Err(failure), Duration::ZERO) })
    }

    #[test]
    fn the_exit_status_is_that_of_the_worst_host() {
        let ok = || ended(r#""status":"OK""#);
        let failed = |code| ended(&format!(r#""status":"ERROR","content":{{"exit_code":{code}}}"#));
        let refused = || ended(r#""status":"ERROR","refused":"denied""#);
        let status = |all: Vec<Option<Ended>>, signal| Summary::of(&all, signal).exit_status;
        assert_eq!(status(vec![ok(), ok()], None), 0);
        assert_eq!(status(vec![ok(), failed(3), failed(255)], None), 3);
        assert_eq!(status(vec![failed(255), refused()], None), exit::NOT_STARTED);
        assert_eq!(status(vec![refused(), unsent(), failed(3)], None), exit::NOT_RUNNING);
        assert_eq!(status(vec![unsent(), None, ok()], None), exit::PROTOCOL);
        assert_eq!(status(vec![ok()], Some(exit::INTERRUPTED)), exit::INTERRUPTED);
        let summary = Summary::of(&[ok(), failed(1), refused(), unsent(), None], None);
        assert_eq!(counts(summary), "1 of 5 hosts ok, 1 failed, 1 refused, 1 not sent, 1 UNKNOWN");
    }

    #[test]
    fn each_outcome_has_a_word() {
        let state = |ended: Option<Ended>| ended.unwrap().state();
        assert_eq!(state(ended(r#""status":"OK""#)), "ok");
        assert_eq!(state(ended(r#""status":"ERROR","content":{"exit_code":3}"#)), "failed 3");
        assert_eq!(
            state(ended(r#""status":"ERROR","content":{"signal":15,"ended_by":"cancel"}"#)),
            "cancelled"
        );
        assert_eq!(
            state(ended(r#""status":"ERROR","content":{"reason":"no_such_job"}"#)),
            "refused"
        );
        assert_eq!(state(ended(r#""status":"ERROR""#)), "failed");
        assert_eq!(state(unsent()), "not sent");
        assert_eq!(state(Some(Ended::skipped())), "not sent");
    }
}
