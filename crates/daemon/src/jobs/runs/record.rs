//! The record of a run.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::jobs::content::Reason;

/// The user, the job, the times and the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The run's id, made by the daemon.
    pub(crate) run: String,
    /// The request's id: a label that the client chose, not unique.
    pub(crate) id: String,
    pub(crate) job: String,
    /// The arguments as they may be shown.
    pub(crate) args: Vec<String>,
    #[serde(default = "no_uid", skip_serializing_if = "is_no_uid")]
    pub(crate) uid: u32,
    /// The name of a caller on another machine, which has no uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<String>,
    pub(crate) outcome: Outcome,
    /// Milliseconds since the Unix epoch, as all times here.
    pub(crate) queued_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Why the daemon ended it; `None`: it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended_by: Option<String>,
    /// Why it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    pub(crate) duration_ms: u64,
    pub(crate) stdout_lines: u64,
    pub(crate) stderr_lines: u64,
    /// The message of the final response; empty while the run goes on.
    #[serde(default)]
    pub(crate) message: String,
}

fn no_uid() -> u32 {
    u32::MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_no_uid(uid: &u32) -> bool {
    *uid == u32::MAX
}

impl Record {
    /// Records that the daemon ended before the run did. The end of a run that was started was not
    /// seen. A queued run was not started: the start of a run is recorded first.
    pub(crate) fn interrupt(&mut self) {
        let message = if self.outcome == Outcome::Queued {
            self.outcome = Outcome::Failed;
            self.reason = Some(Reason::NotStarted);
            format!("`{}` was not started: the daemon ended while the run was queued", self.job)
        } else {
            self.outcome = Outcome::Unknown;
            "the daemon ended before the run did".to_owned()
        };
        self.message = message;
    }
}

/// How far a run is, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Queued,
    Running,
    /// It ended with exit code 0.
    Ok,
    Failed,
    /// The daemon ended before the run did.
    Unknown,
}

impl Outcome {
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A record in the store, with what clients do not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(flatten)]
    pub(crate) record: Record,
    /// The arguments for a rerun; `None`: a part of them is secret or was not kept.
    pub(crate) given: Option<Vec<String>>,
}

/// Returns the time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
