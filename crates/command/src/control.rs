//! The commands about running requests: a server answers them if its `Router` has `control`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Command;

/// Lists the running requests, `"kakehi.running"`: those of the caller, and for some callers those of
/// all others.
///
/// ```
/// use kakehi_command::{Command, control::Running};
///
/// assert_eq!(Running::NAME, "kakehi.running");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running;

impl Command for Running {
    const NAME: &'static str = "kakehi.running";
    const UNIT: bool = true;
    const TEXT: &'static str = "Lists the running requests.";
    const READ_ONLY: bool = true;
    type Progress = ();
    type Reply = RunningList;
    type Fault = ();
}

/// Cancels a running request, `{"kakehi.cancel":{"id":"…"}}`.
///
/// ```
/// use kakehi_command::{Command, Invocation, control::Cancel};
///
/// let cancel = Invocation(Cancel { id: "12-3".to_owned() });
/// assert_eq!(serde_json::to_string(&cancel).unwrap(), r#"{"kakehi.cancel":{"id":"12-3"}}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The run id of a request, or the id that its client chose.
    pub id: String,
}

impl Command for Cancel {
    const NAME: &'static str = "kakehi.cancel";
    const TEXT: &'static str = "Cancels a running request.";
    type Progress = ();
    type Reply = Cancelled;
    type Fault = NoSuchRun;
}

/// Follows a running request, `{"kakehi.attach":{"id":"…"}}`: its progress from now on, then its final
/// response as the final response of this request.
///
/// ```
/// use kakehi_command::{Command, control::Attach};
///
/// assert_eq!(Attach::NAME, "kakehi.attach");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The run id of a request, or the id that its client chose.
    pub id: String,
}

impl Command for Attach {
    const NAME: &'static str = "kakehi.attach";
    const TEXT: &'static str = "Follows a running request.";
    const READ_ONLY: bool = true;
    /// The request's own progress, or [`Missing`].
    type Progress = Box<RawValue>;
    /// The content of the request's OK.
    type Reply = Option<Box<RawValue>>;
    /// The content of the request's ERROR.
    type Fault = Box<RawValue>;
}

/// The most requests that a [`RunningList`] has.
pub const MOST_LISTED: usize = 256;

/// The reply to [`Running`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningList {
    /// In the order in which their clients connected, up to [`MOST_LISTED`].
    pub running: Vec<RunningRequest>,
    /// The number of the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The reply to [`Cancel`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The request that was cancelled.
    pub cancelled: Vec<RunningRequest>,
}

/// A running request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRequest {
    /// The id that the server gave it, unique among the requests of the server.
    pub run: String,
    /// The id that its client chose. Of a longer one, the first 256 bytes and `…`: only the run id
    /// stands for such a request.
    pub id: String,
    /// The name of its command. It is shortened like `id`.
    pub command: String,
    /// The user who sent it. Absent for a caller on another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The name of a caller on another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How long it has run, in milliseconds.
    pub age_ms: u64,
}

/// Progress of [`Attach`]: responses of the request that were dropped, because the follower was too
/// slow.
///
/// ```
/// let missing = kakehi_command::control::Missing { missing_responses: 3 };
/// assert_eq!(serde_json::to_string(&missing).unwrap(), r#"{"missing_responses":3}"#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Their number.
    pub missing_responses: u64,
}

/// The content of an ERROR: why no request was cancelled or followed.
///
/// ```
/// let why = kakehi_command::control::NoSuchRun::default();
/// assert_eq!(serde_json::to_string(&why).unwrap(), r#"{"reason":"no_such_run"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoSuchRun {
    /// `no_such_run`: no running request has the id.
    pub reason: String,
}

impl Default for NoSuchRun {
    fn default() -> Self {
        Self { reason: "no_such_run".to_owned() }
    }
}
