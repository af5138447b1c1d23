//! What a server answers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::version::{self, Word};
use crate::VERSION;

/// A response: a JSON object on Kakehi's own wire. A request gets any number of
/// [`Status::Processing`] ones, then exactly one that is final.
///
/// The content is any type that serde can read and write. `S` is a string: an owned one for what
/// is received, `&str` to send what is only borrowed.
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
    /// The request's; empty where the server cannot know it.
    pub id: S,
    /// Of the wire: [`VERSION`].
    pub version: u8,
    /// Whether more will follow, and if not, how it ended.
    pub status: Status,
    /// For a person.
    pub message: S,
    /// For a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<T>,
    /// With [`Status::Error`]: the server said no before anything was started, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

impl<T> Response<T> {
    /// Progress: more will follow.
    ///
    /// ```
    /// let response = kakehi_channel::Response::<()>::processing("ID-1", "half done");
    /// assert!(!response.status.is_final());
    /// ```
    #[must_use]
    pub fn processing(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Processing, message)
    }

    /// The final answer: it is done.
    ///
    /// ```
    /// let response = kakehi_channel::Response::<()>::ok("ID-1", "done");
    /// assert!(response.status.is_final());
    /// ```
    #[must_use]
    pub fn ok(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    /// The final answer: it failed, or was refused.
    ///
    /// ```
    /// let response = kakehi_channel::Response::<()>::error("ID-1", "no such job");
    /// assert_eq!(response.status, kakehi_channel::Status::Error);
    /// ```
    #[must_use]
    pub fn error(id: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(id, Status::Error, message)
    }

    /// The final answer of a server that did not start.
    ///
    /// ```
    /// use kakehi_channel::{Refusal, Response};
    ///
    /// let response = Response::<()>::refused("ID-1", Refusal::ShuttingDown, "shutting down");
    /// assert_eq!(
    ///     serde_json::to_string(&response).unwrap(),
    ///     r#"{"id":"ID-1","version":0,"status":"ERROR","message":"shutting down","refused":"shutting_down"}"#,
    /// );
    /// ```
    #[must_use]
    pub fn refused(id: impl Into<String>, why: Refusal, message: impl Into<String>) -> Self {
        Self { refused: Some(why), ..Self::error(id, message) }
    }

    /// The same response with `content`.
    ///
    /// ```
    /// let response = kakehi_channel::Response::ok("ID-1", "counted").with_content(42);
    /// assert_eq!(response.content, Some(42));
    /// ```
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

/// Where a request stands.
///
/// ```
/// use kakehi_channel::Status;
///
/// assert_eq!(serde_json::to_string(&Status::Processing).unwrap(), "\"PROCESSING\"");
/// assert_eq!(Status::Ok.to_string(), "OK");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It is done.
    Ok,
    /// It goes on: more responses will follow.
    Processing,
    /// It failed, or was refused.
    Error,
}

impl Status {
    /// Whether this is the last response to its request.
    ///
    /// ```
    /// use kakehi_channel::Status;
    ///
    /// assert!(Status::Ok.is_final() && Status::Error.is_final());
    /// assert!(!Status::Processing.is_final());
    /// ```
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Processing
    }
}

/// As on the wire.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Processing => "PROCESSING",
            Self::Error => "ERROR",
        })
    }
}

/// Why a server did not start what it was asked for.
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
    /// Who asks may not.
    Denied,
    /// A limit on connections or memory is reached: it may work later.
    Busy,
    /// The server is ending: its successor may answer.
    ShuttingDown,
    /// The request is not one, or of a version that is not spoken.
    Malformed,
    /// The request is over the limit.
    TooLarge,
    /// The request took too long to arrive.
    TooSlow,
    /// A reason that this side does not know.
    #[serde(other)]
    Other,
}

/// What a client must know of a response to follow it to the final one, on any wire.
///
/// ```
/// use kakehi_channel::{Reply, Response, Status};
///
/// /// Of a wire that has no ids.
/// struct Answer {
///     failed: bool,
/// }
///
/// impl Reply for Answer {
///     fn status(&self) -> Option<Status> {
///         Some(if self.failed { Status::Error } else { Status::Ok })
///     }
///     fn id(&self) -> Option<&str> {
///         None
///     }
/// }
///
/// assert_eq!(Answer { failed: false }.status(), Some(Status::Ok));
/// let response = Response::<()>::ok("ID-1", "done");
/// assert_eq!(response.id(), Some("ID-1"));
/// ```
pub trait Reply {
    /// Where the request stands; `None`: the response has a status that is not known here, so
    /// that nothing can be said of what follows.
    fn status(&self) -> Option<Status>;

    /// The id of the request that is answered; `None` on a wire without ids.
    fn id(&self) -> Option<&str>;

    /// Whether it says nothing but that the server is alive.
    ///
    /// ```
    /// use kakehi_channel::{Reply, Response};
    ///
    /// assert!(Response::<()>::processing("ID-1", "").is_keep_alive());
    /// assert!(!Response::<()>::processing("ID-1", "half done").is_keep_alive());
    /// assert!(!Response::<()>::ok("ID-1", "").is_keep_alive());
    /// ```
    fn is_keep_alive(&self) -> bool {
        false
    }

    /// What it tells a person, if anything.
    ///
    /// ```
    /// use kakehi_channel::{Reply, Response};
    ///
    /// assert_eq!(Response::<()>::ok("ID-1", "done").message(), Some("done"));
    /// ```
    fn message(&self) -> Option<&str> {
        None
    }

    /// Why the server did not start, if it says so.
    ///
    /// ```
    /// use kakehi_channel::{Refusal, Reply, Response};
    ///
    /// let busy = Response::<()>::refused("ID-1", Refusal::Busy, "256 connections already");
    /// assert_eq!(busy.refusal(), Some(Refusal::Busy));
    /// assert_eq!(Response::<()>::error("ID-1", "no such job").refusal(), None);
    /// ```
    fn refusal(&self) -> Option<Refusal> {
        None
    }
}

impl<T> Reply for Response<T> {
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
    #[serde(deserialize_with = "version::ours")]
    version: u8,
    status: Word<Status>,
    message: String,
    content: Option<T>,
    refused: Option<Word<Refusal>>,
}
