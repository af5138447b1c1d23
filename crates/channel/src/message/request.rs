//! The request of Kakehi's protocol.

use std::time::Duration;

use kakehi_trace::Field;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::version;
use crate::{TraceContext, VERSION};

/// A request: a JSON object in Kakehi's protocol.
///
/// The command is of any type that serde can read and write. Absent fields are not written, and
/// unknown fields are ignored.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<C = serde_json::Value> {
    /// The id, chosen by the client. Every response contains it.
    pub id: String,
    /// The version of the protocol: [`VERSION`].
    pub version: u8,
    /// The worker of a Sōzu proxy that the request is for.
    pub worker_id: Option<u32>,
    /// The timeout of the client for each response, in milliseconds. Absent or 0: no timeout.
    pub timeout_ms: Option<u64>,
    /// The deadline of the client for the final response, in milliseconds from the request. Absent
    /// or 0: no deadline.
    pub deadline_ms: Option<u64>,
    /// The trace that the request belongs to.
    pub trace: Option<TraceContext>,
    /// The command.
    pub command: Option<C>,
}

/// ```
/// use std::time::Duration;
/// use kakehi_channel::Request;
///
/// let mut request = Request::with_command("ID-1", "reload");
/// assert_eq!(
///     serde_json::to_string(&request).unwrap(),
///     r#"{"id":"ID-1","version":0,"command":"reload"}"#,
/// );
/// (request.timeout_ms, request.deadline_ms) = (Some(0), Some(60_000));
/// assert_eq!((request.timeout(), request.deadline()), (None, Some(Duration::from_secs(60))));
/// ```
impl<C> Request<C> {
    /// Creates a request without a command.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            version: VERSION,
            worker_id: None,
            timeout_ms: None,
            deadline_ms: None,
            trace: None,
            command: None,
        }
    }

    /// Creates a request for `command`.
    #[must_use]
    pub fn with_command(id: impl Into<String>, command: C) -> Self {
        Self { command: Some(command), ..Self::new(id) }
    }

    /// The timeout of the client for each response; `None` without one.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        clock(self.timeout_ms)
    }

    /// The deadline of the client for the final response; `None` without one.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        clock(self.deadline_ms)
    }
}

fn clock(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.filter(|ms| *ms > 0).map(Duration::from_millis)
}

impl<C: Serialize> Serialize for Request<C> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, version, worker_id, timeout_ms, deadline_ms, trace, command } = self;
        let (version, worker_id, timeout_ms) = (*version, *worker_id, *timeout_ms);
        Sent {
            id,
            version,
            worker_id,
            timeout_ms,
            deadline_ms: *deadline_ms,
            traceparent: trace.as_ref().map(TraceContext::traceparent),
            tracestate: trace.as_ref().and_then(TraceContext::tracestate),
            command: command.as_ref(),
        }
        .serialize(serializer)
    }
}

/// The serialized fields of a request.
#[derive(Serialize)]
#[serde(rename = "Request")]
struct Sent<'a, C> {
    id: &'a str,
    version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a C>,
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Request<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = version::object(deserializer, "a request, which is a JSON object")?;
        let Fields { id, version, worker_id, timeout_ms, deadline_ms, command, .. } = fields;
        let trace = fields.traceparent.context(&fields.tracestate);
        Ok(Self { id, version, worker_id, timeout_ms, deadline_ms, trace, command })
    }
}

/// The deserialized fields of a request.
#[derive(Deserialize)]
#[serde(rename = "request", bound = "C: Deserialize<'de>")]
struct Fields<C> {
    id: String,
    #[serde(deserialize_with = "version::read_version")]
    version: u8,
    worker_id: Option<u32>,
    timeout_ms: Option<u64>,
    deadline_ms: Option<u64>,
    #[serde(default)]
    traceparent: Field,
    #[serde(default)]
    tracestate: Field,
    command: Option<C>,
}
