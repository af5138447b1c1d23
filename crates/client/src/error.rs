//! The error of a request, and the request's outcome.

use std::{error::Error as StdError, fmt, io, time::Duration};

use kakehi_channel::{ChannelError, ErrorKind, Refusal, Response, ResponseMessage};
use kakehi_time::duration;

use crate::{connect::Unconnected, timers::Expired};

/// Whether the server carried out a request that failed. The client never guesses: without
/// certainty, the outcome is [`Unknown`](Self::Unknown).
///
/// ```
/// use kakehi_client::Outcome;
///
/// assert_eq!((Outcome::NotSent.name(), Outcome::Unknown.name()), ("not_sent", "unknown"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The request did not leave this process. It can be sent again.
    NotSent,
    /// The server refused the request before it started anything.
    Refused,
    /// The server answered ERROR.
    Failed,
    /// The server answered OK, but the content of that answer is not of the expected type. The
    /// request was done.
    Done,
    /// At least a part of the request was sent, and no final response came. It may have been done,
    /// may still run, or may never have been read.
    Unknown,
}

impl Outcome {
    /// Its name in logs and in JSON: `not_sent`, `refused`, `failed`, `done` or `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An error of a request. Its [`kind`](Self::kind) names the error, `Display` explains it to a
/// person, and [`source`](StdError::source) is its cause.
///
/// Each error has an [`Outcome`], which says what became of the request. `Rx` is the type of a
/// response.
///
/// ```
/// use kakehi_client::{Client, ErrorKind, Outcome};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Client::connect("/nowhere").await.unwrap_err();
/// assert!(error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Unconnected);
/// assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
/// assert!(error.to_string().starts_with("cannot connect to /nowhere: "));
/// # }
/// ```
pub struct Error<Rx = Response>(Box<Inner<Rx>>);

struct Inner<Rx> {
    outcome: Outcome,
    kind: Kind,
    response: Option<Rx>,
}

/// The kind of an error.
pub(crate) enum Kind {
    /// The server's final response is ERROR.
    Answered {
        message: String,
        refusal: Option<Refusal>,
        /// It arrived after the deadline.
        is_late: bool,
    },
    /// The server's final response is OK, and only its envelope can be decoded.
    Unreadable {
        message: String,
        source: ChannelError,
    },
    Unconnected(Unconnected),
    Expired {
        expired: Expired,
        waiting_for: WaitingFor,
        cause: Option<Box<Unconnected>>,
    },
    Channel(ChannelError),
    OtherId {
        expected: String,
        found: String,
    },
    UnknownStatus,
    Unexpected,
    Closed,
    Over,
    /// Of a transport other than a socket.
    Transport(String),
}

/// The wait during which the timeout or the deadline passed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitingFor {
    Slot,
    Connection,
    Write,
    Response,
}

impl Kind {
    pub(crate) fn expired(expired: Expired, waiting_for: WaitingFor) -> Self {
        Self::Expired { expired, waiting_for, cause: None }
    }
}

/// The server's answer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_client::{Channel, Connection, Refusal, Request, Response};
///
/// let (ours, mut theirs) = Channel::<Request, Response>::pair().unwrap();
/// theirs.send(Response::refused("ID-1", Refusal::Busy, "2 runs already")).await.unwrap();
/// let error = Connection::new(ours).request("backup").id("ID-1").await.unwrap_err();
/// assert_eq!(error.refusal(), Some(Refusal::Busy));
/// assert_eq!(error.response().expect("the server's response").message, "2 runs already");
/// assert_eq!(error.to_string(), "the server refused: 2 runs already");
/// # }
/// ```
impl<Rx> Error<Rx> {
    /// An error of another transport than a socket; `message` says what happened.
    #[doc(hidden)]
    #[must_use]
    pub fn transport(outcome: Outcome, message: String) -> Self {
        Self::new(outcome, Kind::Transport(message))
    }

    /// A timeout or a deadline passed.
    #[doc(hidden)]
    #[must_use]
    pub fn expired(outcome: Outcome, after: Duration, is_deadline: bool) -> Self {
        let expired = if is_deadline { Expired::Deadline(after) } else { Expired::Timeout(after) };
        Self::new(outcome, Kind::expired(expired, WaitingFor::Response))
    }

    /// The final response is ERROR.
    #[doc(hidden)]
    #[must_use]
    pub fn answered(response: Rx) -> Self
    where
        Rx: ResponseMessage,
    {
        let is_refused = response.refusal().is_some();
        let outcome = if is_refused { Outcome::Refused } else { Outcome::Failed };
        Self::from_answer(outcome, response, false)
    }

    pub(crate) fn new(outcome: Outcome, kind: impl Into<Kind>) -> Self {
        Self(Box::new(Inner { outcome, kind: kind.into(), response: None }))
    }

    pub(crate) fn with_response(mut self, response: Rx) -> Self {
        self.0.response = Some(response);
        self
    }

    /// A final response other than OK. `is_late`: it arrived after the deadline.
    pub(crate) fn from_answer(outcome: Outcome, response: Rx, is_late: bool) -> Self
    where
        Rx: ResponseMessage,
    {
        let message = response.message().unwrap_or_default().to_owned();
        let refusal = response.refusal();
        Self::new(outcome, Kind::Answered { message, refusal, is_late }).with_response(response)
    }

    /// An OK of which only the envelope, `response`, can be decoded.
    #[doc(hidden)]
    #[must_use]
    pub fn unreadable(source: ChannelError, response: Rx) -> Self
    where
        Rx: ResponseMessage,
    {
        let message = response.message().unwrap_or_default().to_owned();
        Self::new(Outcome::Done, Kind::Unreadable { message, source }).with_response(response)
    }

    /// Returns the outcome of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The response that the error is about: the final ERROR, the final OK without the content
    /// that cannot be decoded, or a response with another id or an unknown status.
    #[must_use]
    pub fn response(&self) -> Option<&Rx> {
        self.0.response.as_ref()
    }

    /// The bytes of the response that cannot be decoded.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.0.kind {
            Kind::Channel(error) | Kind::Unreadable { source: error, .. } => {
                error.payload().map(AsRef::as_ref)
            }
            _ => None,
        }
    }

    /// Why the server refused the request, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.0.kind {
            Kind::Answered { refusal, .. } => *refusal,
            _ => None,
        }
    }

    /// The kind of the IO error, if the system reported one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.0.kind {
            Kind::Unconnected(error) => error.io_kind(),
            Kind::Expired { cause: Some(error), .. } => error.io_kind(),
            Kind::Channel(error) => error.io_kind(),
            _ => None,
        }
    }
}

/// The cause of an [`Error`], with its details.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use kakehi_client::{Channel, Connection, ErrorKind, Outcome, Request, Response};
///
/// let (ours, _theirs) = Channel::<Request, Response>::pair().unwrap();
/// let mut connection = Connection::new(ours);
/// let error = connection.request("sleep").timeout(Duration::from_secs(2)).await.unwrap_err();
/// assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
/// assert_eq!(error.to_string(), "timed out after 2.0 s waiting for a response");
///
/// let error = connection.request("again").await.unwrap_err();
/// assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Outcome::NotSent));
///
/// let error = kakehi_client::Client::connect("/etc/passwd").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unconnected);
/// # }
/// ```
impl<Rx> Error<Rx> {
    /// The kind of the error. If the server cancels a request at its deadline and answers ERROR, it
    /// is [`Deadline`](ErrorKind::Deadline).
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0.kind {
            Kind::Answered { is_late: true, .. }
            | Kind::Expired { expired: Expired::Deadline(_), .. } => ErrorKind::Deadline,
            Kind::Expired { .. } => ErrorKind::Timeout,
            Kind::Answered { .. } | Kind::Over => ErrorKind::Answered,
            Kind::Unreadable { .. } => ErrorKind::Content,
            Kind::Unconnected(Unconnected::WrongServer { .. }) => ErrorKind::WrongServer,
            Kind::Unconnected(_) => ErrorKind::Unconnected,
            Kind::Channel(error) => error.kind(),
            Kind::OtherId { .. } | Kind::Unexpected => ErrorKind::Unexpected,
            Kind::UnknownStatus => ErrorKind::Malformed,
            Kind::Closed => ErrorKind::Disconnected,
            Kind::Transport(_) => match self.outcome() {
                Outcome::NotSent => ErrorKind::Unconnected,
                Outcome::Unknown => ErrorKind::Disconnected,
                _ => ErrorKind::Io,
            },
        }
    }
}

/// Includes the server's message unchanged. Escape it before printing it to a terminal.
impl<Rx> fmt::Display for Error<Rx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl<Rx> fmt::Debug for Error<Rx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, {:?})", self.outcome(), self.to_string())
    }
}

impl<Rx> StdError for Error<Rx> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let unconnected = match &self.0.kind {
            Kind::Unconnected(error) => error,
            Kind::Expired { cause: Some(error), .. } => error,
            Kind::Channel(error) | Kind::Unreadable { source: error, .. } => return Some(error),
            _ => return None,
        };
        unconnected.source().map(|source| source as _)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { message, refusal: Some(_), .. } => {
                write!(f, "the server refused: {message}")
            }
            Self::Answered { message, .. } => write!(f, "the server answered ERROR: {message}"),
            Self::Unreadable { message, source } => {
                write!(f, "the server answered OK ({message:?}), but its content is a {source}")
            }
            Self::Unconnected(error) => error.fmt(f),
            Self::Expired { expired, waiting_for, cause } => {
                match expired {
                    Expired::Timeout(after) => write!(f, "timed out after {}", duration(*after))?,
                    Expired::Deadline(after) => {
                        write!(f, "the deadline of {} passed", duration(*after))?;
                    }
                }
                write!(f, " waiting {waiting_for}")?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Channel(error) => error.fmt(f),
            Self::OtherId { expected, found } => {
                write!(f, "a response to the request {found:?} came instead of {expected:?}")
            }
            Self::UnknownStatus => f.write_str("the response has an unknown status"),
            Self::Unexpected => f.write_str("a response arrived before a request was sent"),
            Self::Closed => {
                f.write_str("the connection is closed: a request on it failed or was given up")
            }
            Self::Over => f.write_str("the final response was returned before"),
            Self::Transport(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "for a connection to be free",
            Self::Connection => "to be connected",
            Self::Write => "for the server to read the request",
            Self::Response => "for a response",
        })
    }
}

/// A response that cannot be decoded: the outcome is unknown.
impl<Rx> From<ChannelError> for Error<Rx> {
    fn from(source: ChannelError) -> Self {
        Self::new(Outcome::Unknown, source)
    }
}

impl From<ChannelError> for Kind {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<Unconnected> for Kind {
    fn from(error: Unconnected) -> Self {
        Self::Unconnected(error)
    }
}
