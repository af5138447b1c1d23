//! The content of the daemon's responses.

use std::{ops::Not, sync::Arc};

use kakehi_command::Description;
use kakehi_server::ServerStats;
use serde::{Deserialize, Serialize};

use super::{
    job::{Argument, Job, Keep},
    registry::Entry,
    runs::{Outcome, Progress, Record},
};

/// The content of any response.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Ended(Box<Ended>),
    /// The end of a run that was not seen.
    Unknown {
        run: String,
        outcome: Outcome,
    },
    List(Vec<Listed>),
    Described(Box<Described>),
    Runs(Vec<Record>),
    DryRun(Box<DryRun>),
    Reloaded {
        jobs: usize,
    },
    Problems {
        problems: Vec<String>,
    },
    Confirm {
        confirm: bool,
        about: String,
    },
    Detached {
        run: String,
        queued: bool,
    },
    Status(Box<Status>),
    Cancelled {
        cancelled: Vec<Running>,
    },
    Waiting {
        run: String,
        waiting: bool,
        running: usize,
        at_once: usize,
    },
    Unstarted(Unstarted),
    Stopping {
        pid: u32,
    },
    Commands(Box<Description>),
}

/// Why a request did nothing.
#[derive(Debug, Serialize)]
pub(crate) struct Unstarted {
    pub(crate) reason: Reason,
    /// The jobs with a similar name, where the reason is an unknown name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) similar: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    NoSuchJob,
    InvalidArguments,
    /// The system cannot execute the job's program.
    NotExecutable,
    /// The run was cancelled while it was queued.
    Cancelled,
    /// The request ended, or the system refused a resource, before the job started.
    NotStarted,
    NoSuchRun,
}

impl From<Reason> for Content {
    fn from(reason: Reason) -> Self {
        Self::Unstarted(Unstarted { reason, similar: vec![] })
    }
}

/// The content of a run's final response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the protocol")]
pub(crate) struct Ended {
    /// The run's id.
    run: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// Why the daemon ended it; `None`: it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    duration_ms: u64,
    stdout_lines: u64,
    stderr_lines: u64,
}

impl From<&Record> for Ended {
    fn from(record: &Record) -> Self {
        Self {
            run: record.run.clone(),
            exit_code: record.exit_code,
            signal: record.signal,
            ended_by: record.ended_by.clone(),
            duration_ms: record.duration_ms,
            stdout_lines: record.stdout_lines,
            stderr_lines: record.stderr_lines,
        }
    }
}

/// The content of a dry run.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
    pub(crate) job: String,
    pub(crate) args: Vec<String>,
    /// The whole command line, for root and the daemon's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Vec<String>>,
    /// Runs that go on now.
    pub(crate) running: usize,
    pub(crate) at_once: usize,
}

/// A job with everything that a caller may know, for `describe`.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    #[serde(flatten)]
    listed: Listed,
    #[serde(skip_serializing_if = "Option::is_none")]
    reader_timeout_ms: Option<u128>,
    keep: Keep,
    keep_days: u64,
    /// Whether the job reports progress in its output.
    progress: bool,
    /// The command line, for root and the daemon's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
}

impl Described {
    pub(crate) fn of(job: &Arc<Job>, is_owner: bool) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            listed: Listed::from(job),
            reader_timeout_ms: job.reader_timeout.map(|timeout| timeout.as_millis()),
            keep: job.keep,
            keep_days: job.keep.age.as_secs() / DAY,
            progress: job.progress.is_some(),
            command: is_owner.then(|| job.run.clone()),
            cwd: is_owner.then(|| job.cwd.display().to_string()),
        }
    }
}

/// A job, for `list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    job: String,
    about: String,
    args: Vec<String>,
    arguments: Vec<Argument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u128>,
    at_once: usize,
    when_client_leaves: &'static str,
    /// Whether callers may give a standard input.
    #[serde(skip_serializing_if = "Not::not")]
    stdin: bool,
    /// Whether callers must confirm a run.
    #[serde(skip_serializing_if = "Not::not")]
    confirm: bool,
}

/// The state of the daemon, for `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u128,
    pub(crate) connections: usize,
    pub(crate) running: Vec<Running>,
    pub(crate) counters: ServerStats,
    /// Why the newest record of a run was not written to the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store_problem: Option<String>,
}

/// A running request, for `status` and `cancel`.
#[derive(Debug, Serialize)]
pub(crate) struct Running {
    run: String,
    id: String,
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// Absent for a caller on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The name of a caller on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    age_ms: u128,
    waiting: bool,
    /// The id of the first process, and of its process group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// The progress of the job.
    #[serde(flatten)]
    progress: Option<Progress>,
    /// The last line of its output. `None` if the caller may not read the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
}

impl Running {
    /// Adds the last line of its output.
    pub(crate) fn with_line(self, entry: &Entry) -> Self {
        Self { line: entry.live().and_then(|live| live.last_line()), ..self }
    }
}

impl From<&Arc<Job>> for Listed {
    fn from(job: &Arc<Job>) -> Self {
        Self {
            job: job.name.clone(),
            about: job.about.clone(),
            args: job.args.iter().map(|arg| arg.pattern.text().to_owned()).collect(),
            arguments: job.args.clone(),
            timeout_ms: job.timeout.map(|timeout| timeout.as_millis()),
            at_once: job.at_once,
            stdin: job.stdin,
            confirm: job.confirm,
            when_client_leaves: if job.finishes { "finish" } else { "kill" },
        }
    }
}

impl From<&Arc<Entry>> for Running {
    fn from(entry: &Arc<Entry>) -> Self {
        Self {
            run: entry.run.clone(),
            id: entry.id.clone(),
            command: entry.command,
            job: entry.job.clone(),
            args: entry.args.clone(),
            uid: entry.remote.is_none().then_some(entry.uid),
            caller: entry.remote.clone(),
            age_ms: entry.since.elapsed().as_millis(),
            waiting: entry.waiting(),
            pid: entry.group(),
            progress: entry.live().and_then(|live| live.progress()),
            line: None,
        }
    }
}
