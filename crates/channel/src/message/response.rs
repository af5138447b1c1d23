//! The response of Kakehi's protocol, and what a client reads in a response of any protocol.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use super::version::{self, Word};
use crate::VERSION;

/// A response: a JSON object in Kakehi's protocol. A request gets any number of progress responses
/// ([`Status::Processing`]), then exactly one final response.
///
/// The content is of any type that serde can read and write. `S` is `String` in received responses;
/// a sender may use `&str`.
///
/// ```
/// use kakehi_channel::{Response, Status};
///
/// let text = r#"{"id":"ID-1","version":0,"status":"PROCESSING","message":"Not done yet"}"#;
/// let response: Response = serde_json::from_str(text).unwrap();
/// assert_eq!(response, Response::processing("ID-1", "Not done yet"));
/// assert_eq!(serde_json::to_string(&response).unwrap(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Response<T = serde_json::Value, S = String> {
    /// The id of the request; empty if the server does not know it.
    pub id: S,
    /// The version of the protocol: [`VERSION`].
    pub version: u8,
    /// Whether more responses follow, and otherwise how the request ended.
    pub status: Status,
    /// A text for people.
    pub message: S,
    /// Data for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<T>,
    /// With [`Status::Error`]: why the server refused the request before it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// Constructors.
///
/// ```
/// use kakehi_channel::{Refusal, Response, Status};
///
/// assert!(!Response::<()>::processing("ID-1", "half done").status.is_final());
/// assert!(Response::<()>::ok("ID-1", "done").status.is_final());
/// assert_eq!(Response::<()>::error("ID-1", "no such job").status, Status::Error);
/// assert_eq!(Response::ok("ID-1", "counted").with_content(42).content, Some(42));
/// assert_eq!(
///     serde_json::to_string(&Response::<()>::refused("ID-1", Refusal::Busy, "later")).unwrap(),
///     r#"{"id":"ID-1","version":0,"status":"ERROR","message":"later","refused":"busy"}"#,
/// );
/// ```
impl<T> Response<T> {
    /// Creates a progress response.
    #[must_use]
    pub fn processing(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Processing, message)
    }

    /// Creates a final response with [`Status::Ok`].
    #[must_use]
    pub fn ok(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    /// Creates a final response with [`Status::Error`].
    #[must_use]
    pub fn error(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Error, message)
    }

    /// Creates a final response that refuses the request.
    #[must_use]
    pub fn refused(id: impl Into<String>, why: Refusal, message: impl Into<String>) -> Self {
        Self { refused: Some(why), ..Self::error(id, message) }
    }

    /// Adds content.
    #[must_use]
    pub fn with_content(self, content: T) -> Self {
        Self { content: Some(content), ..self }
    }

    fn new(id: impl Into<String>, status: Status, message: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            version: VERSION,
            status,
            message: message.into(),
            content: None,
            refused: None,
        }
    }
}

/// The status of a request.
///
/// ```
/// use kakehi_channel::Status;
///
/// assert_eq!(serde_json::to_string(&Status::Processing).unwrap(), "\"PROCESSING\"");
/// assert_eq!(Status::Ok.to_string(), "OK");
/// assert!(Status::Ok.is_final() && Status::Error.is_final() && !Status::Processing.is_final());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// The request was carried out.
    Ok,
    /// The request is being carried out. More responses follow.
    Processing,
    /// The request failed or was refused.
    Error,
}

impl Status {
    /// Whether a response with this status is the final one.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Processing
    }
}

/// The word of the protocol.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Processing => "PROCESSING",
            Self::Error => "ERROR",
        })
    }
}

/// Why a server refused a request before it started.
///
/// ```
/// use kakehi_channel::Refusal;
///
/// assert_eq!(serde_json::to_string(&Refusal::ShuttingDown).unwrap(), "\"shutting_down\"");
/// let unknown: Refusal = serde_json::from_str("\"of a later version\"").unwrap();
/// assert_eq!(unknown, Refusal::Other);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// The caller is not allowed to send the request.
    Denied,
    /// A limit on connections or memory is reached. A later attempt may succeed.
    Busy,
    /// The server is shutting down. Its successor may answer.
    ShuttingDown,
    /// The request cannot be decoded, or has another version.
    Malformed,
    /// The request is over the size limit.
    TooLarge,
    /// The request took too long to arrive.
    TooSlow,
    /// The server has no such command.
    Unsupported,
    /// A reason that this version of the crate does not know.
    #[serde(other)]
    Other,
}

/// The parts of a response that a client needs to find the final one, in any protocol.
///
/// ```
/// use kakehi_channel::{Refusal, Response, ResponseMessage, Status};
///
/// /// A response of a protocol without ids.
/// struct Answer {
///     failed: bool,
/// }
///
/// impl ResponseMessage for Answer {
///     type Event = Self;
///     type Reply = Self;
///
///     fn status(&self) -> Option<Status> {
///         Some(if self.failed { Status::Error } else { Status::Ok })
///     }
///     fn id(&self) -> Option<&str> {
///         None
///     }
///     fn into_event(self) -> Result<Self, Self> {
///         Ok(self)
///     }
///     fn into_reply(self) -> Result<Self, Self> {
///         Ok(self)
///     }
/// }
///
/// assert_eq!(Answer { failed: false }.status(), Some(Status::Ok));
///
/// let done = Response::<()>::ok("ID-1", "done");
/// assert_eq!((done.id(), done.message(), done.refusal()), (Some("ID-1"), Some("done"), None));
/// let busy = Response::<()>::refused("ID-1", Refusal::Busy, "256 connections already");
/// assert_eq!(busy.refusal(), Some(Refusal::Busy));
///
/// assert!(Response::<()>::processing("ID-1", "").is_keep_alive());
/// assert!(!Response::<()>::processing("ID-1", "half done").is_keep_alive());
/// assert!(!Response::<()>::ok("ID-1", "").is_keep_alive());
///
/// let text = br#"{"id":"a","version":0,"status":"OK","message":"done","content":"new"}"#;
/// let response: Response<u32> = ResponseMessage::envelope(text).expect("an envelope");
/// assert_eq!((response.status, response.content), (Status::Ok, None));
/// ```
pub trait ResponseMessage: Sized {
    /// The item of a stream of responses.
    type Event;

    /// The value of a call that returns only the final response.
    type Reply;

    /// The status of the request; `None` if the client does not know the status of the response.
    /// The client then reports an unknown outcome.
    fn status(&self) -> Option<Status>;

    /// The id of the request; `None` in a protocol without ids.
    fn id(&self) -> Option<&str>;

    /// Whether the response is a keep-alive. Default: no.
    fn is_keep_alive(&self) -> bool {
        false
    }

    /// The text for people. Default: none.
    fn message(&self) -> Option<&str> {
        None
    }

    /// Why the server refused the request. Default: not refused.
    fn refusal(&self) -> Option<Refusal> {
        None
    }

    /// Converts each response to the item of the stream.
    ///
    /// # Errors
    /// An ERROR, of a type that leaves it to the client's error.
    fn into_event(self) -> Result<Self::Event, Self>;

    /// Converts the final OK.
    ///
    /// # Errors
    /// The response has no reply.
    fn into_reply(self) -> Result<Self::Reply, Self>;

    /// Decodes a payload without its content, where the content is not of the expected type: a
    /// client calls it after the whole message could not be decoded. `None`, the default, means
    /// that the rest cannot be decoded either.
    #[must_use]
    fn envelope(payload: &[u8]) -> Option<Self> {
        let _ = payload;
        None
    }
}

impl<T> ResponseMessage for Response<T> {
    type Event = Self;
    type Reply = Self;

    fn status(&self) -> Option<Status> {
        Some(self.status)
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn is_keep_alive(&self) -> bool {
        self.status == Status::Processing && self.message.is_empty() && self.content.is_none()
    }

    fn message(&self) -> Option<&str> {
        Some(&self.message)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.refused
    }

    #[inline]
    fn into_event(self) -> Result<Self, Self> {
        Ok(self)
    }

    #[inline]
    fn into_reply(self) -> Result<Self, Self> {
        Ok(self)
    }

    fn envelope(payload: &[u8]) -> Option<Self> {
        // serde_json does not check the strings that it skips.
        str::from_utf8(payload).ok()?;
        let response: Response<IgnoredAny> = serde_json::from_slice(payload).ok()?;
        let Response { id, version, status, message, refused, content: _ } = response;
        if refused.is_some() && status != Status::Error {
            return None;
        }
        Some(Self { id, version, status, message, content: None, refused })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Response<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { id, version, status, message, content, refused } =
            version::object(deserializer, "a response, which is a JSON object")?;
        let (Word(status), refused) = (status, refused.map(|Word(why)| why));
        Ok(Self { id, version, status, message, content, refused })
    }
}

#[derive(Deserialize)]
#[serde(rename = "response", bound = "T: Deserialize<'de>")]
struct Fields<T> {
    id: String,
    #[serde(deserialize_with = "version::read_version")]
    version: u8,
    status: Word<Status>,
    message: String,
    content: Option<T>,
    refused: Option<Word<Refusal>>,
}
