//! The one error of this crate: what happened, and what became of the request.

use std::{error::Error as StdError, fmt, io};

use kakehi_channel::{Refusal, Reply, Response};

use crate::{Outcome, clocks::Clock, connect::Unconnected, kind::Kind};

/// What went wrong with a request: ask by predicate, print for a person, follow
/// [`source`](StdError::source) for the cause.
///
/// Each has an [`Outcome`]: it says what became of the request, which matters more than what
/// happened. The other predicates say what happened. `Rx` is the type of a response.
///
/// ```
/// use kakehi_client::{Client, Outcome};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Client::connect("/nowhere").await.unwrap_err();
/// assert!(error.is_not_sent() && error.is_unconnected());
/// assert_eq!(error.outcome(), Outcome::NotSent);
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

/// What the server said.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_client::{Channel, Connection, Refusal, Request, Response};
///
/// let (ours, mut theirs) = Channel::<Request, Response>::pair().unwrap();
/// theirs.send(Response::refused("ID-1", Refusal::Busy, "2 runs already")).await.unwrap();
/// let error = Connection::new(ours).request("backup").id("ID-1").await.unwrap_err();
/// assert_eq!(error.refusal(), Some(Refusal::Busy));
/// assert_eq!(error.response().expect("it is kept").message, "2 runs already");
/// let response = error.into_response().expect("the same");
/// # let _ = response;
/// # }
/// ```
impl<Rx> Error<Rx> {
    pub(crate) fn new(outcome: Outcome, kind: impl Into<Kind>) -> Self {
        Self(Box::new(Inner { outcome, kind: kind.into(), response: None }))
    }

    /// About a response that cannot be taken for an answer.
    pub(crate) fn with_response(self, response: Rx) -> Self {
        let mut inner = self.0;
        inner.response = Some(response);
        Self(inner)
    }

    pub(crate) fn answer(outcome: Outcome, response: Rx) -> Self
    where
        Rx: Reply,
    {
        let message = response.message().unwrap_or_default().to_owned();
        let refusal = response.refusal();
        Self::new(outcome, Kind::Answer { message, refusal }).with_response(response)
    }

    /// What became of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The response that the error is about: the final ERROR, whole; or one that belongs to
    /// another request, or has a status that is not known here.
    #[must_use]
    pub fn response(&self) -> Option<&Rx> {
        self.0.response.as_ref()
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_response(self) -> Option<Rx> {
        self.0.response
    }

    /// Why the server did not start, if it said so.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.0.kind {
            Kind::Answer { refusal, .. } => *refusal,
            _ => None,
        }
    }

    /// What the system said, if the error is the system's.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.kind.io_kind()
    }
}

/// What became of the request: exactly one of these holds.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// let client = kakehi_client::Client::connect(path).await?;
/// let error = client.request("fail").await.unwrap_err();
/// assert!(error.is_failed() && !error.is_refused() && !error.is_unknown());
/// assert_eq!(error.to_string(), "the server answered ERROR: no such job");
/// assert_eq!(error.response().expect("it is kept").message, "no such job");
/// # Ok(()) }
/// ```
impl<Rx> Error<Rx> {
    /// Nothing of the request left this process.
    #[must_use]
    pub fn is_not_sent(&self) -> bool {
        self.outcome() == Outcome::NotSent
    }

    /// The server said no before it started anything.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.outcome() == Outcome::Refused
    }

    /// The server answered that it failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.outcome() == Outcome::Failed
    }

    /// It was sent, and nobody can say whether it was done.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.outcome() == Outcome::Unknown
    }
}

/// What happened.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use kakehi_client::{Channel, Connection, Request, Response};
///
/// let (ours, _theirs) = Channel::<Request, Response>::pair().unwrap();
/// let mut connection = Connection::new(ours);
/// let error = connection.request("sleep").timeout(Duration::from_secs(2)).await.unwrap_err();
/// assert!(error.is_timeout() && error.is_unknown() && !error.is_deadline());
/// assert!(!error.is_disconnected() && !error.is_unexpected() && !error.is_malformed());
/// assert!(!error.is_too_large() && !error.is_unencodable());
/// assert_eq!(error.to_string(), "timed out after 2s waiting for a response");
///
/// let error = connection.request("again").await.unwrap_err();
/// assert!(error.is_disconnected() && error.is_not_sent());
///
/// let error = kakehi_client::Client::connect("/etc/passwd").await.unwrap_err();
/// assert!(error.is_unconnected() && error.is_not_a_socket() && !error.is_wrong_server());
/// # }
/// ```
impl<Rx> Error<Rx> {
    /// A clock ran out, the one for each response or the one for all.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, Kind::Clock { .. })
    }

    /// The clock for all of a request ran out.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self.0.kind, Kind::Clock { clock: Clock::Deadline(_), .. })
    }

    /// No connection could be made, for the reason that [`io_kind`](Self::io_kind) says, if the
    /// system gave one.
    #[must_use]
    pub fn is_unconnected(&self) -> bool {
        matches!(self.0.kind, Kind::Unconnected(_))
    }

    /// What is on the path is not a socket.
    #[must_use]
    pub fn is_not_a_socket(&self) -> bool {
        matches!(self.0.kind, Kind::Unconnected(Unconnected::NotASocket { .. }))
    }

    /// The server runs as another user than was expected.
    #[must_use]
    pub fn is_wrong_server(&self) -> bool {
        matches!(self.0.kind, Kind::Unconnected(Unconnected::WrongServer { .. }))
    }

    /// The connection is over: it ended before the final response, or had ended before.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        match &self.0.kind {
            Kind::Channel(error) => error.is_disconnected(),
            Kind::Closed => true,
            _ => false,
        }
    }

    /// A response came that is not the request's: of another id, or one that nobody had asked
    /// for, as a second final one is.
    #[must_use]
    pub fn is_unexpected(&self) -> bool {
        matches!(self.0.kind, Kind::OtherId { .. } | Kind::Unexpected)
    }

    /// A response came that is not one of this wire, or whose status is not known here.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        match &self.0.kind {
            Kind::Channel(error) => error.is_malformed() || error.is_invalid_length(),
            Kind::UnknownStatus => true,
            _ => false,
        }
    }

    /// The request or a response is over the limit.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(&self.0.kind, Kind::Channel(error) if error.is_too_large())
    }

    /// The command cannot be written in this format.
    #[must_use]
    pub fn is_unencodable(&self) -> bool {
        matches!(&self.0.kind, Kind::Channel(error) if error.is_unencodable())
    }
}

/// What the server says in an ERROR is shown as it came: a terminal may have to be protected.
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
        self.0.kind.source()
    }
}
