//! Checks the starts and ends of handlers, and the results of callers.

use std::time::Duration;

use super::{
    court::{Court, Report, Run, Stage, Start},
    plan::{End, Plan},
};

/// How long an accept waits for GO.
const GO_TIME: Duration = Duration::from_secs(5);

/// A shorter interruption cancels nothing and makes no outcome unknown.
const SHORT: Duration = Duration::from_millis(2_500);

/// How long before an event an interruption may have caused it.
const EARLIER: Duration = Duration::from_secs(75);

/// The longest time from the end of the interest in a request to the end of its handler.
const TO_CANCEL: Duration = Duration::from_secs(22);

/// How long after the last message of its client a handler may run: 15 s, a last look, and a second
/// for the step of the world.
const SILENT: Duration = Duration::from_secs(17);

impl Court {
    /// Records the start of a handler, and returns its plan.
    pub(super) fn start(&mut self, token: usize, id: &str, process: usize) -> Plan {
        self.note("a handler starts", token, process);
        let life = self.processes[process].life;
        let now = self.now;
        if let Some(start) = &self.runs[token].start {
            self.fail(format!("{token} runs twice: {start:?}, and on process {process}"));
        }
        let is_same = |run: &Run| {
            let start = run.start.as_ref();
            start.is_some_and(|start| {
                (start.process, start.life) == (process, life) && start.id == id
            })
        };
        if self.runs.iter().any(is_same) {
            self.fail(format!("the id {id} of {token} runs twice on process {process}"));
        }
        if let Some((
            _,
            Report::NotSent(_) | Report::Refused(_) | Report::Late { is_sent: false, .. },
        )) = &self.runs[token].report
        {
            self.fail(format!("{token} starts after its client reported that it was not started"));
        }
        let accepted = self.accepts.values_mut().find(|accepted| {
            (accepted.token, accepted.process, accepted.life) == (token, process, life)
                && accepted.go.is_some()
                && !accepted.has_started
        });
        match accepted {
            None => self.fail(format!("{token} starts without GO")),
            // A message waits for one step at most.
            Some(accepted) if now > accepted.at + GO_TIME + Duration::from_millis(200) => {
                let at = accepted.at;
                if !self.is_stopped(process, at) {
                    self.fail(format!("{token} was accepted at {at:?} and forgotten, and starts"));
                }
            }
            Some(accepted) => accepted.has_started = true,
        }
        let run = &mut self.runs[token];
        run.start = Some(Start { process, id: id.to_owned(), life });
        run.stage = Stage::Running;
        run.plan.clone()
    }

    /// Whether the process was stopped since `at`.
    fn is_stopped(&self, process: usize, at: Duration) -> bool {
        self.processes[process].stops.iter().any(|(_, to)| *to >= at)
    }

    /// A handler ends, or is dropped.
    pub(super) fn end(&mut self, token: usize, stage: Stage) {
        let now = self.now;
        let start = self.runs[token].start.as_ref();
        let (process, life) = start.map_or((0, 0), |start| (start.process, start.life));
        let record = &self.processes[process];
        let is_killed = record.dead_life == life;
        let stage = if stage == Stage::Cancelled && is_killed { Stage::Killed } else { stage };
        self.note("a handler ends", token, usize::from(stage == Stage::Cancelled));
        self.runs[token].stage = stage;
        self.runs[token].ended = now;
        if stage == Stage::Cancelled {
            self.cancelled(token, process);
        }
        if stage == Stage::Returned(End::Panic) {
            self.reach("the handler panics");
        }
    }

    fn cancelled(&mut self, token: usize, process: usize) {
        let run = &self.runs[token];
        let client = run.client;
        let is_left = run.report.is_some() || self.processes[client].killed.is_some();
        let limits = [run.plan.ask.timeout, run.plan.ask.deadline].into_iter().flatten();
        let is_late = limits.min().is_some_and(|limit| run.sent + limit <= self.now + SHORT);
        if is_left || is_late {
            self.reach("a cancellation of a request that is given up");
            return;
        }
        if self.processes[process].is_draining {
            return;
        }
        let since = run.sent;
        // A node that was stopped reads the arrived messages first.
        let was_cut = self.longest_cut(process, since).max(self.longest_cut(client, since));
        if was_cut.max(self.longest_stop(client, since)) < SHORT {
            self.fail(format!("{token} is cancelled though its client is there: {was_cut:?}"));
        }
        self.reach("a cancellation after a fault");
    }

    fn longest_cut(&self, process: usize, since: Duration) -> Duration {
        longest(&self.processes[process].cuts, since.max(self.now.saturating_sub(EARLIER)))
    }

    fn longest_stop(&self, process: usize, since: Duration) -> Duration {
        longest(&self.processes[process].stops, since.max(self.now.saturating_sub(EARLIER)))
    }

    /// Records and checks the result of a request.
    pub(super) fn report(&mut self, token: usize, report: &Report, is_complete: bool) {
        self.note("a report", token, 0);
        self.journal.tell(|| format!("{report:?} of {:?}", self.runs[token]));
        let verdict = self.judge(token, report, is_complete);
        self.runs[token].report = Some((self.now, report.clone()));
        match verdict {
            Ok(reached) => self.reach(reached),
            Err(why) => {
                let run = &self.runs[token];
                let why = format!("{token}: {why}: {report:?} of {run:?}");
                self.fail(why);
            }
        }
    }

    fn judge(
        &self,
        token: usize,
        report: &Report,
        is_complete: bool,
    ) -> Result<&'static str, String> {
        let run = &self.runs[token];
        let is_whole = || {
            let is_lost = is_complete && run.heard != run.said;
            if is_lost || run.heard > run.said {
                return Err(format!("{} of {} progress responses came", run.heard, run.said));
            }
            Ok(())
        };
        match report {
            Report::Ok => {
                is_whole()?;
                let is_true = run.stage == Stage::Returned(End::Ok);
                let reached = if is_complete { "OK" } else { "OK by a settle" };
                if is_true { Ok(reached) } else { Err("it did not end so".into()) }
            }
            Report::Failed(message) => self.judge_error(token, message, is_whole),
            Report::NotSent(_) | Report::Late { is_sent: false, .. } => {
                if run.start.is_some() {
                    Err("it has started".into())
                } else {
                    Ok("not sent")
                }
            }
            Report::Refused(why) => {
                let is_used = why.contains("was used before");
                let reached = if is_used { "the id was used before" } else { "refused" };
                if run.start.is_some() { Err("it has started".into()) } else { Ok(reached) }
            }
            Report::Late { is_deadline: true, .. } => Ok("deadline"),
            Report::Late { .. } => Ok("timeout"),
            Report::GivenUp => Ok("given up"),
            Report::Earlier(message) => self.judge_earlier(token, message),
            Report::Unknown(_) => self.judge_unknown(token),
            Report::Wrong(_) => Err("no caller may be told that".into()),
        }
    }

    /// Judges the result of a repeated id: the node answers with the outcome of the first request.
    fn judge_earlier(&self, token: usize, message: &str) -> Result<&'static str, String> {
        let client = self.runs[token].client;
        let is_told = |(earlier, run): (usize, &Run)| {
            let is_true = match run.stage {
                Stage::Returned(End::Ok) => message == format!("{earlier} ok"),
                Stage::Returned(End::Err) => message == format!("{earlier} err"),
                _ => false,
            };
            is_true && run.client == client && earlier < token
        };
        let is_true = self.runs[token].start.is_none() && self.runs.iter().enumerate().any(is_told);
        if is_true { Ok("the end of an earlier run") } else { Err("no request ended so".into()) }
    }

    fn judge_error(
        &self,
        token: usize,
        message: &str,
        is_whole: impl FnOnce() -> Result<(), String>,
    ) -> Result<&'static str, String> {
        if message == format!("{token} err") {
            is_whole()?;
        }
        // A settle of a repeated id tells the end of the first request.
        let has_started = self.runs[token].start.is_some();
        let is_earlier =
            |run: usize| !has_started && self.runs[run].client == self.runs[token].client;
        if self.has_failed_so(token, message) {
            Ok("ERROR")
        } else if (0..token).any(|run| is_earlier(run) && self.has_failed_so(run, message)) {
            Ok("the end of an earlier run")
        } else {
            Err("it did not fail so".into())
        }
    }

    fn has_failed_so(&self, token: usize, message: &str) -> bool {
        let run = &self.runs[token];
        match message {
            "the handler panicked" => run.stage == Stage::Returned(End::Panic),
            "cancelled: the deadline has passed" => run.plan.ask.deadline.is_some(),
            "cancelled: the server is shutting down" => {
                let has_drained =
                    |start: &Start| self.processes[start.process].drained_life == start.life;
                run.start.as_ref().is_some_and(has_drained) && run.stage == Stage::Cancelled
            }
            message => message == format!("{token} err") && run.stage == Stage::Returned(End::Err),
        }
    }

    /// Only a node that was killed or cut off leaves an outcome unknown, or a handler that was cancelled.
    fn judge_unknown(&self, token: usize) -> Result<&'static str, String> {
        let run = &self.runs[token];
        let accepts = self.accepts.values().filter(|accepted| accepted.token == token);
        let is_allowed = accepts.map(|accepted| (accepted.process, accepted.life)).any(|at| {
            let (process, life) = at;
            let record = &self.processes[process];
            let was_cut = self
                .longest_cut(process, run.sent)
                .max(self.longest_stop(process, run.sent))
                .max(self.longest_cut(run.client, run.sent));
            record.killed.is_some()
                || record.drained_life == life
                || was_cut >= Duration::from_secs(9)
        });
        let is_cancelled = run.stage == Stage::Cancelled;
        if is_allowed || is_cancelled { Ok("unknown") } else { Err("the node is there".into()) }
    }

    /// Checks what must hold when nothing happens any more.
    pub(super) fn close(&mut self) {
        let mut wrong = vec![];
        for (token, run) in self.runs.iter().enumerate() {
            let is_killed = self.processes[run.client].killed.is_some();
            if run.report.is_none() && !is_killed {
                wrong.push(format!("the caller of {token} still waits: {run:?}"));
            }
            if run.stage == Stage::Running {
                wrong.push(format!("the handler of {token} still runs: {run:?}"));
            }
        }
        for why in wrong {
            self.fail(why);
        }
    }

    /// Checks that no handler runs long after its caller has disconnected.
    pub(super) fn check_running(&mut self) {
        let now = self.now;
        let mut wrong = vec![];
        for (token, run) in self.runs.iter().enumerate() {
            let Some(start) = run.start.as_ref().filter(|_| run.stage == Stage::Running) else {
                continue;
            };
            let reported = run.report.as_ref().map(|(at, _)| *at);
            let Some(left) = reported.or(self.processes[run.client].killed) else { continue };
            let record = &self.processes[start.process];
            let mut troubles: Vec<_> = record.cuts.iter().chain(&record.stops).collect();
            troubles.sort();
            // What the client sent while it was cut off arrives late.
            let mut until = (left + TO_CANCEL).max(run.controlled + SILENT);
            // After each trouble, the node waits for its client anew.
            for (from, to) in troubles {
                if *from <= until {
                    until = until.max(*to + TO_CANCEL);
                }
            }
            if now > until {
                wrong.push(format!("{token} still runs, though its caller left at {left:?}"));
            }
        }
        for why in wrong {
            self.fail(why);
        }
    }
}

/// Returns the longest of these intervals. Only the part after `since` counts.
fn longest(intervals: &[(Duration, Duration)], since: Duration) -> Duration {
    let later = |(from, to): &(Duration, Duration)| to.saturating_sub((*from).max(since));
    intervals.iter().map(later).max().unwrap_or_default()
}
