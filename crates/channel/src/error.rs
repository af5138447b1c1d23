//! The error of this crate.

use std::{error::Error as StdError, fmt, io, path::Path, time::Duration};

use bytes::Bytes;
use kakehi_time::duration;

/// The error of a channel. Its [`kind`](Self::kind) tells what failed, and
/// [`source`](StdError::source) returns the cause.
///
/// ```
/// use kakehi_channel::{Channel, Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Channel::<Request, Response>::connect("/nowhere").await.unwrap_err();
/// assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
/// assert!(error.to_string().starts_with("cannot connect to /nowhere: "));
/// # }
/// ```
pub struct ChannelError(Box<Kind>);

/// The kind of an error of a channel or of a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No message arrived within the timeout. The channel can still be used.
    Timeout,
    /// The deadline of a request passed.
    Deadline,
    /// The connection has ended: the peer closed it, between two frames or inside one, or it was
    /// reset. A client has closed it before.
    Disconnected,
    /// An incoming or outgoing frame is over the limit.
    TooLarge,
    /// A frame is not the expected message, or declares an impossible length. After the latter, the
    /// error [is fatal](ChannelError::is_fatal).
    Malformed,
    /// The format cannot encode the message. No byte was sent.
    Unencodable,
    /// The server answered ERROR.
    Answered,
    /// The server answered OK, with a content that cannot be decoded.
    Content,
    /// A response arrived that does not belong to the request: it has another id, or it came before
    /// the request was sent.
    Unexpected,
    /// A client cannot connect.
    Unconnected,
    /// The server runs as another user than the client expects.
    WrongServer,
    /// Another error of the system.
    Io,
}

type Source = Box<dyn StdError + Send + Sync>;

enum Kind {
    Io { doing: String, source: io::Error },
    Disconnected,
    Truncated { received: usize },
    TooLarge { size: usize, max: usize },
    InvalidLength { length: u64 },
    Malformed { source: Source, payload: Bytes },
    Unencodable { source: Source },
    Timeout { after: Duration },
}

/// Constructors, for formats and for code that follows responses.
///
/// ```
/// use kakehi_channel::{ChannelError, ErrorKind};
///
/// let error = ChannelError::malformed("no status");
/// assert_eq!(error.kind(), ErrorKind::Malformed);
/// assert_eq!(error.to_string(), "malformed message: no status");
///
/// let error = ChannelError::too_large(11, 10);
/// assert_eq!(error.to_string(), "a frame of 11 bytes or more is over the limit of 10 bytes");
///
/// let error = ChannelError::unencodable("a map with keys that are no strings");
/// assert_eq!(error.kind(), ErrorKind::Unencodable);
/// assert!(ChannelError::invalid_length(7).is_fatal());
/// ```
impl ChannelError {
    /// Creates an error for a payload that is not the expected message.
    #[must_use]
    pub fn malformed(source: impl Into<Source>) -> Self {
        Kind::Malformed { source: source.into(), payload: Bytes::new() }.into()
    }

    /// Creates an error for a message that the format cannot encode.
    #[must_use]
    pub fn unencodable(source: impl Into<Source>) -> Self {
        Kind::Unencodable { source: source.into() }.into()
    }

    /// Creates an error for a frame of at least `size` bytes, where `max` are allowed.
    #[must_use]
    pub fn too_large(size: usize, max: usize) -> Self {
        Kind::TooLarge { size, max }.into()
    }

    /// Creates an error for a frame that declares an impossible length, in bytes.
    #[must_use]
    pub fn invalid_length(length: u64) -> Self {
        Kind::InvalidLength { length }.into()
    }

    /// Creates an error for a connection that was closed before an expected message.
    #[must_use]
    pub fn disconnected() -> Self {
        Kind::Disconnected.into()
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        Kind::Timeout { after }.into()
    }

    pub(crate) fn connect(path: &Path, source: io::Error) -> Self {
        Kind::Io { doing: format!("cannot connect to {}", path.display()), source }.into()
    }

    pub(crate) fn truncated(received: usize) -> Self {
        Kind::Truncated { received }.into()
    }

    /// Adds the bytes of a malformed message, for code that decodes without a channel.
    #[must_use]
    pub fn with_payload(mut self, bytes: &[u8]) -> Self {
        if let Kind::Malformed { payload, .. } = &mut *self.0 {
            *payload = Bytes::copy_from_slice(bytes);
        }
        self
    }
}

/// The cause of a [`ChannelError`], with its details.
///
/// ```
/// use kakehi_channel::{ChannelError, ErrorKind};
///
/// let error = ChannelError::disconnected();
/// assert!(error.kind() == ErrorKind::Disconnected && error.is_fatal());
/// assert_eq!((error.io_kind(), error.payload()), (None, None));
/// ```
impl ChannelError {
    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        match &*self.0 {
            Kind::Io { source, .. } => match source.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
                    ErrorKind::Disconnected
                }
                _ => ErrorKind::Io,
            },
            Kind::Disconnected | Kind::Truncated { .. } => ErrorKind::Disconnected,
            Kind::TooLarge { .. } => ErrorKind::TooLarge,
            Kind::InvalidLength { .. } | Kind::Malformed { .. } => ErrorKind::Malformed,
            Kind::Unencodable { .. } => ErrorKind::Unencodable,
            Kind::Timeout { .. } => ErrorKind::Timeout,
        }
    }

    /// Whether a channel's stream ends after this error.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(*self.0, Kind::Malformed { .. } | Kind::Timeout { .. } | Kind::Unencodable { .. })
    }

    /// The kind of an IO error; `None` for other errors.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &*self.0 {
            Kind::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// The payload of a malformed frame, without delimiter or header; `None` for other errors.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match &*self.0 {
            Kind::Malformed { payload, .. } => Some(payload),
            _ => None,
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Io { doing, source } => write!(f, "{doing}: {source}"),
            Kind::Disconnected => f.write_str("the connection was closed before a message arrived"),
            Kind::Truncated { received } => {
                write!(f, "the connection ended inside a frame, after {received} bytes of it")
            }
            Kind::TooLarge { size, max } => {
                write!(f, "a frame of {size} bytes or more is over the limit of {max} bytes")
            }
            Kind::InvalidLength { length } => {
                write!(f, "a frame cannot be {length} bytes long: the length itself takes 8")
            }
            Kind::Malformed { source, .. } => write!(f, "malformed message: {source}"),
            Kind::Unencodable { source } => write!(f, "cannot encode the message: {source}"),
            Kind::Timeout { after } => write!(f, "timed out after {}", duration(*after)),
        }
    }
}

/// Shows sizes and causes, but no payload. A cause may quote a value of the message.
impl fmt::Debug for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelError({:?})", self.to_string())
    }
}

impl StdError for ChannelError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Io { source, .. } => Some(source),
            Kind::Malformed { source, .. } | Kind::Unencodable { source } => Some(&**source),
            _ => None,
        }
    }
}

impl From<Kind> for ChannelError {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<io::Error> for ChannelError {
    fn from(source: io::Error) -> Self {
        Kind::Io { doing: "the connection failed".into(), source }.into()
    }
}
