//! One run of a job, from its start to its end.

use std::{
    fmt, io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use kakehi_channel::TraceContext;
use kakehi_time::duration as shown;
use rustix::{io::Errno, process::Signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    child,
    content::Reason,
    follow::Lost,
    job::Job,
    output::{self, Counts},
    processes::{Group, Processes},
    progress::{self, Source},
    registry::Running,
    runs::{Live, Outcome, Record, Writer, now_ms},
    slots::Slot,
};

/// The time between SIGTERM and SIGKILL.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long other processes of a run may go on after its first process has ended.
const LINGER: Duration = Duration::from_secs(1);
/// How long a killed process may take to end.
const UNKILLABLE: Duration = Duration::from_secs(5);

/// Why a run is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    /// Its client disconnected, or its deadline passed.
    Over,
    /// The daemon is shutting down, and the drain is over.
    Shutdown,
    Cancelled {
        by: String,
    },
    Timeout(Duration),
    /// A line cannot be sent to its client.
    Unsendable(String),
    /// Its client reads nothing.
    Reader(Duration),
}

/// Ends a run whose client cannot get the output.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientLost(Arc<(OnceLock<Stop>, CancellationToken)>);

impl ClientLost {
    /// Ends the run, because of `lost`.
    pub(crate) fn set(&self, lost: &Lost) {
        let (why, token) = &*self.0;
        let _ = why.set(match lost {
            Lost::Unsendable(error) => Stop::Unsendable(error.to_string()),
            Lost::Unreadable(error) => Stop::Unsendable(error.to_string()),
            Lost::Stalled(limit) => Stop::Reader(*limit),
        });
        token.cancel();
    }

    async fn happened(&self) -> Stop {
        let (why, token) = &*self.0;
        token.cancelled().await;
        why.get().cloned().unwrap_or(Stop::Over)
    }
}

/// The parts of a run that is about to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) job: Arc<Job>,
    /// The identity of the daemon's state folder.
    pub(crate) state: String,
    pub(crate) args: Vec<String>,
    pub(crate) input: Option<Vec<u8>>,
    /// The trace of the request.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) live: Arc<Live>,
    pub(crate) running: Running,
    pub(crate) slot: Slot,
    /// Cancelled when the client's request is over.
    pub(crate) over: CancellationToken,
    pub(crate) lost: ClientLost,
}

/// Runs a job up to its end, and completes its record. Returns the registry entry. The slot is free
/// again once all processes have ended. If they cannot be ended, the slot and the registry entry are kept until
/// they have ended by themselves.
///
/// # Cancel safety
/// Dropping the future kills the whole process group.
pub(crate) async fn run(
    start: Start,
    record: &mut Record,
    processes: &Arc<Processes>,
) -> Option<Running> {
    let Start { job, state, args, input, trace, live, running, slot, over, lost } = start;
    let names = (running.run.as_str(), state.as_str());
    let has_input = input.is_some();
    let started = child::start(&job, names, trace.as_ref(), &args, has_input, processes);
    let (group, pipes) = match started {
        Ok(started) => started,
        Err(error) => {
            warn!(job = job.name, %error, "cannot start");
            let message = format!("`{}` cannot be started: {error}", job.name);
            fail(record, Some(reason(&error)), message);
            return Some(running);
        }
    };
    let started = Instant::now();
    running.set_group(group.leader());
    let (run, pid, uid) = (&running.run, group.leader(), running.uid);
    info!(run, job = job.name, args = ?running.args, pid, uid, "started");

    let ended = CancellationToken::new();
    let entry = running.entry();
    let stop = async {
        tokio::select! {
            () = over.cancelled() => Stop::Over,
            () = processes.shutdown.cancelled() => Stop::Shutdown,
            by = entry.cancelled() => Stop::Cancelled { by },
            why = lost.happened() => why,
            limit = passed(job.timeout) => Stop::Timeout(limit),
        }
    };
    let supervising = async {
        let end = supervise(&group, stop).await;
        let duration = started.elapsed();
        ended.cancel();
        if end.is_err() {
            tokio::spawn(keep(group, running, slot));
            return (end, duration, None);
        }
        running.over();
        drop(slot);
        (end, duration, Some(running))
    };
    let writer = Writer::new(&live, job.keep.output);
    let copying = async {
        let reports = pipes.progress.map(|pipe| progress::follow(pipe, Arc::clone(&live)));
        let reporting = reports.map(tokio::spawn);
        let feeding = tokio::spawn(child::feed(pipes.stdin, input.unwrap_or_default()));
        let rule = match &job.progress {
            Some(Source::Output(rule)) => Some(rule),
            Some(Source::Descriptor) | None => None,
        };
        let counts = output::pump(&live, writer, pipes.output, rule, &ended).await;
        // A process that has closed its output may still read its input and report progress.
        ended.cancelled().await;
        if let Some(reporting) = reporting {
            reporting.abort();
        }
        feeding.abort();
        counts
    };
    let ((end, duration, running), counts) = tokio::join!(supervising, copying);
    conclude(&job, record, duration, end, counts);
    running
}

/// Waits for the end of the group, and ends it if `stop` completes.
///
/// The end of the first process is the end of the run. Other processes of its group then have
/// [`LINGER`] to end. After a `stop`, the whole group gets SIGTERM and has [`KILL_AFTER`].
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

/// Keeps the registry entry and the slot of processes that cannot be ended.
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

/// Records that a run ended without a result of its job.
pub(crate) fn fail(record: &mut Record, reason: Option<Reason>, message: String) {
    record.reason = reason;
    record.outcome = Outcome::Failed;
    record.ended_ms = Some(now_ms());
    record.message = message;
}

/// Why a program cannot be started.
fn reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::ExecutableFileBusy => Reason::NotExecutable,
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOEXEC) => Reason::NotExecutable,
            _ => Reason::NotStarted,
        },
    }
}

fn conclude(
    job: &Job,
    record: &mut Record,
    duration: Duration,
    end: io::Result<(ExitStatus, Option<Stop>)>,
    counts: Counts,
) {
    let name = &job.name;
    let (status, stopped) = match end {
        Ok(end) => end,
        Err(error) => {
            warn!(job = name, %error, "cannot be ended");
            return fail(record, None, format!("`{name}` cannot be ended: {error}"));
        }
    };
    record.ended_ms = Some(now_ms());
    record.exit_code = status.code();
    record.signal = status.signal();
    record.ended_by = stopped.as_ref().map(|stop| stop.name().to_owned());
    record.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    (record.stdout_lines, record.stderr_lines) = (counts.stdout, counts.stderr);
    info!(
        run = record.run,
        job = name,
        code = record.exit_code,
        signal = record.signal,
        by = record.ended_by,
        why = stopped.as_ref().map(tracing::field::display),
        duration_ms = record.duration_ms,
        "ended"
    );
    let took = shown(Duration::from_millis(record.duration_ms));
    record.outcome = Outcome::Failed;
    record.message = match (stopped, status.code(), status.signal()) {
        (None, Some(0), _) => {
            record.outcome = Outcome::Ok;
            format!("`{name}` ended in {took}")
        }
        (Some(stop), ..) => format!("`{name}` was ended: {stop}"),
        (None, Some(code), _) => format!("`{name}` ended with exit code {code}"),
        (None, None, Some(signal)) => {
            format!("`{name}` was killed by signal {signal}{}", signal_name(signal))
        }
        (None, None, None) => format!("`{name}` ended: {status}"),
    };
}

impl Stop {
    fn name(&self) -> &'static str {
        match self {
            Self::Over => "request",
            Self::Shutdown => "shutdown",
            Self::Cancelled { .. } => "cancel",
            Self::Timeout(_) => "timeout",
            Self::Unsendable(_) => "output",
            Self::Reader(_) => "reader",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over => f.write_str("its request is over"),
            Self::Shutdown => f.write_str("the server is shutting down"),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            Self::Timeout(limit) => {
                write!(f, "its timeout of {} has passed", shown(*limit))
            }
            Self::Unsendable(error) => write!(f, "a line cannot be sent: {error}"),
            Self::Reader(limit) => write!(
                f,
                "its client read no output for {} (reader_timeout of the job)",
                shown(*limit)
            ),
        }
    }
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
    fn each_reason_to_stop_has_a_name_and_a_message() {
        let minute = Duration::from_secs(60);
        let reader = "its client read no output for 1 m 00 s (reader_timeout of the job)";
        for (stop, name, message) in [
            (Stop::Over, "request", "its request is over"),
            (Stop::Shutdown, "shutdown", "the server is shutting down"),
            (Stop::Cancelled { by: "uid 7".into() }, "cancel", "cancelled by uid 7"),
            (Stop::Timeout(minute), "timeout", "its timeout of 1 m 00 s has passed"),
            (Stop::Unsendable("x".into()), "output", "a line cannot be sent: x"),
            (Stop::Reader(minute), "reader", reader),
        ] {
            assert_eq!((stop.name(), &*stop.to_string()), (name, message));
        }
    }
}
