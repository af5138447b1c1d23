//! What a client asks.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::version;
use crate::VERSION;

/// A request: a JSON object on Kakehi's own wire.
///
/// The command is any type that serde can read and write. Absent fields are left out, unknown
/// ones ignored.
///
/// ```
/// use kakehi_channel::Request;
///
/// let text = r#"{"id":"My-urgent-request","version":0}"#;
/// let request: Request = serde_json::from_str(text).unwrap();
/// assert_eq!(request, Request::new("My-urgent-request"));
/// assert_eq!(serde_json::to_string(&request).unwrap(), text);
///
/// let error = serde_json::from_str::<Request>(r#"{"id":"a","version":7}"#).unwrap_err();
/// assert!(error.to_string().starts_with("the message is of version 7, this side speaks version 0"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request<C = serde_json::Value> {
    /// Chosen by the client; every response carries it.
    pub id: String,
    /// Of the wire: [`VERSION`].
    pub version: u8,
    /// The worker that is asked, where a server has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<u32>,
    /// How long the client waits for each response, in milliseconds; absent or 0: without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How long the client waits for the final response, in milliseconds; absent or 0: without
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// What is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<C>,
}

impl<C> Request<C> {
    /// A request without a command.
    ///
    /// ```
    /// let request = kakehi_channel::Request::<()>::new("ID-1");
    /// assert_eq!((request.id.as_str(), request.version), ("ID-1", 0));
    /// ```
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            version: VERSION,
            worker_id: None,
            timeout_ms: None,
            deadline_ms: None,
            command: None,
        }
    }

    /// A request for `command`.
    ///
    /// ```
    /// let request = kakehi_channel::Request::with_command("ID-1", "reload");
    /// assert_eq!(
    ///     serde_json::to_string(&request).unwrap(),
    ///     r#"{"id":"ID-1","version":0,"command":"reload"}"#,
    /// );
    /// ```
    #[must_use]
    pub fn with_command(id: impl Into<String>, command: C) -> Self {
        Self { command: Some(command), ..Self::new(id) }
    }

    /// How long the client waits for each response; `None`: without limit.
    ///
    /// ```
    /// let mut request = kakehi_channel::Request::<()>::new("ID-1");
    /// request.timeout_ms = Some(0);
    /// assert_eq!(request.timeout(), None);
    /// ```
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        clock(self.timeout_ms)
    }

    /// How long the client waits for the final response; `None`: without limit.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut request = kakehi_channel::Request::<()>::new("ID-1");
    /// request.deadline_ms = Some(60_000);
    /// assert_eq!(request.deadline(), Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        clock(self.deadline_ms)
    }
}

fn clock(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.filter(|ms| *ms > 0).map(Duration::from_millis)
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Request<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { id, version, worker_id, timeout_ms, deadline_ms, command } =
            version::object(deserializer, "a request, which is a JSON object")?;
        Ok(Self { id, version, worker_id, timeout_ms, deadline_ms, command })
    }
}

#[derive(Deserialize)]
#[serde(rename = "request", bound = "C: Deserialize<'de>")]
struct Fields<C> {
    id: String,
    #[serde(deserialize_with = "version::ours")]
    version: u8,
    worker_id: Option<u32>,
    timeout_ms: Option<u64>,
    deadline_ms: Option<u64>,
    command: Option<C>,
}
