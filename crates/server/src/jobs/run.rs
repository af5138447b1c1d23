//! One run of a job, from its start to its end.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use humantime::format_duration;
use kakehi_server::{Answer, Context, Failure};
use rustix::process::Signal;
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    child,
    job::Job,
    output::{self, Counts},
    processes::{Group, Processes},
    registry::Running,
    slots::Slot,
};

/// How long a run that is told to end by SIGTERM may take before SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long what the first process of a run leaves behind in its group may go on.
const LINGER: Duration = Duration::from_secs(1);
/// How long a killed process may take to be gone.
const UNKILLABLE: Duration = Duration::from_secs(5);

/// The content of a run's final answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
pub(crate) struct Ended {
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// What ended it, if not itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    duration_ms: u64,
    stdout_lines: u64,
    stderr_lines: u64,
}

/// Why a run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The request is: the client left, its deadline passed, or the server is ending.
    Over,
    Cancelled {
        by: u32,
    },
    Timeout(Duration),
    /// A line could not be sent.
    Unsendable,
}

/// Runs `job`, and sends what it writes. Its `slot` is free again once its processes are gone, even
/// if the client has not read all of it yet. Where they cannot be ended, it and `running` are kept
/// behind the answer, until they have ended by themselves.
///
/// # Cancel safety
/// Dropped, it kills the whole process group.
pub(crate) async fn run(
    job: &Job,
    args: &[String],
    context: &Context,
    running: Running,
    slot: Slot,
    processes: &Arc<Processes>,
) -> Result<Answer<Ended>, Failure<Ended>> {
    let over = context.cancellation();
    if job.finishes {
        context.outlive_client();
    }
    let unstartable = |error: io::Error| {
        warn!(job = job.name, %error, "cannot start");
        failure(format!("`{}` cannot be started: {error}", job.name))
    };
    let (group, pipes) = child::start(job, args, processes).map_err(unstartable)?;
    let start = Instant::now();
    running.set_group(group.leader());
    info!(job = job.name, pid = group.leader(), uid = running.uid, "started");

    let (ended, unsendable) = (CancellationToken::new(), CancellationToken::new());
    let entry = running.entry();
    let stop = async {
        tokio::select! {
            () = over.cancelled() => Stop::Over,
            by = entry.cancelled() => Stop::Cancelled { by },
            () = unsendable.cancelled() => Stop::Unsendable,
            limit = passed(job.timeout) => Stop::Timeout(limit),
        }
    };
    let supervising = async {
        let end = supervise(&group, stop).await;
        let duration = start.elapsed();
        ended.cancel();
        if end.is_err() {
            tokio::spawn(keep(group, running, slot));
            return (end, duration, None);
        }
        running.over();
        drop(slot);
        (end, duration, Some(running))
    };
    let forwarding = async {
        let counts = output::forward(context, pipes, &ended).await;
        if counts.is_err() {
            unsendable.cancel();
        }
        counts
    };
    let ((end, duration, _running), counts) = tokio::join!(supervising, forwarding);
    conclude(job, duration, end, counts)
}

/// Waits for the end of the group, and brings it about if `stop` says so.
///
/// The end of the first process is the end of the run: what it leaves behind in its group has a
/// moment to end too. After a `stop`, the whole group has the same time after SIGTERM.
async fn supervise(
    group: &Group,
    stop: impl Future<Output = Stop>,
) -> io::Result<(ExitStatus, Option<Stop>)> {
    let stopped = tokio::select! {
        _ = group.ended() => None,
        why = stop => Some(why),
    };
    let patience = if stopped.is_some() { KILL_AFTER } else { LINGER };
    if stopped.is_some() {
        group.signal(Signal::TERM);
    }
    if timeout(patience, group.gone()).await.is_err() {
        group.signal(Signal::KILL);
        if timeout(UNKILLABLE, group.gone()).await.is_err() {
            return Err(io::Error::other("SIGKILL has not ended it yet"));
        }
    }
    Ok((group.ended().await, stopped))
}

/// What cannot be ended still runs: it is listed, and counts, until it has ended by itself.
async fn keep(group: Group, running: Running, slot: Slot) {
    group.gone().await;
    drop((running, slot));
}

async fn passed(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

fn conclude(
    job: &Job,
    duration: Duration,
    end: io::Result<(ExitStatus, Option<Stop>)>,
    counts: Result<Counts, kakehi_channel::Error>,
) -> Result<Answer<Ended>, Failure<Ended>> {
    let name = &job.name;
    let (status, stopped) = match end {
        Ok(end) => end,
        Err(error) => {
            warn!(job = name, %error, "cannot be ended");
            return Err(failure(format!("`{name}` cannot be ended: {error}")));
        }
    };
    let Counts { stdout, stderr } = *counts.as_ref().unwrap_or(&Counts::default());
    let ended = Ended {
        exit_code: status.code(),
        signal: status.signal(),
        ended_by: stopped.map(Stop::name),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        stdout_lines: stdout,
        stderr_lines: stderr,
    };
    info!(
        job = name,
        code = ended.exit_code,
        signal = ended.signal,
        by = ended.ended_by,
        duration_ms = ended.duration_ms,
        "ended"
    );
    let took = format_duration(Duration::from_millis(ended.duration_ms));
    let message = match (stopped, counts, status.code(), status.signal()) {
        (None, Ok(_), Some(0), _) => {
            return Ok(Answer::new(format!("`{name}` ended in {took}")).with_content(ended));
        }
        (_, Err(error), ..) => format!("`{name}` was ended: a line cannot be sent: {error}"),
        (Some(stop), ..) => format!("`{name}` was ended: {}", stop.message()),
        (None, _, Some(code), _) => format!("`{name}` ended with exit code {code}"),
        (None, _, None, Some(signal)) => {
            format!("`{name}` was killed by signal {signal}{}", signal_name(signal))
        }
        (None, _, None, None) => format!("`{name}` ended: {status}"),
    };
    Err(failure(message).with_content(ended))
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Over => "request",
            Self::Cancelled { .. } => "cancel",
            Self::Timeout(_) => "timeout",
            Self::Unsendable => "output",
        }
    }

    fn message(self) -> String {
        match self {
            Self::Over => "its request is over".to_owned(),
            Self::Cancelled { by } => format!("cancelled by uid {by}"),
            Self::Timeout(limit) => format!("its timeout of {} has passed", format_duration(limit)),
            Self::Unsendable => "a line cannot be sent".to_owned(),
        }
    }
}

fn failure(message: String) -> Failure<Ended> {
    Failure { message, content: None, refused: None }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_signals_are_named_as_the_system_names_them() {
        let numbers = [1, 2, 3, 6, 9, 11, 13, 15, 24, 64].map(signal_name);
        let names = ["HUP", "INT", "QUIT", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "XCPU"];
        for (shown, name) in numbers.iter().zip(names) {
            assert_eq!(*shown, format!(" (SIG{name})"));
        }
        assert_eq!(numbers[9], "");
    }

    #[test]
    fn each_reason_to_stop_is_told_to_programs_and_to_people() {
        for (stop, name, message) in [
            (Stop::Over, "request", "its request is over"),
            (Stop::Cancelled { by: 7 }, "cancel", "cancelled by uid 7"),
            (Stop::Timeout(Duration::from_secs(90)), "timeout", "its timeout of 1m 30s has passed"),
            (Stop::Unsendable, "output", "a line cannot be sent"),
        ] {
            assert_eq!((stop.name(), &*stop.message()), (name, message));
        }
    }
}
