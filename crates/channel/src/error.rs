//! The error of this crate.

use std::{error::Error as StdError, fmt, io, path::Path, time::Duration};

use bytes::Bytes;

use crate::durations::duration;

/// The error of a channel. Predicates tell what failed, and [`source`](StdError::source) returns the
/// cause.
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

type Source = Box<dyn StdError + Send + Sync>;

enum Kind {
    Io { doing: String, source: io::Error },
    Disconnected,
    Truncated { received: usize },
    TooLarge { size: u64, max: usize },
    InvalidLength { length: u64 },
    Malformed { source: Source, payload: Bytes },
    Unencodable { source: Source },
    Timeout { after: Duration },
}

/// Constructors, for formats and for code that follows responses.
///
/// ```
/// use kakehi_channel::ChannelError;
///
/// let error = ChannelError::malformed("no status");
/// assert!(error.is_malformed());
/// assert_eq!(error.to_string(), "malformed message: no status");
///
/// let error = ChannelError::too_large(11, 10);
/// assert_eq!(error.to_string(), "a frame of 11 bytes or more is over the limit of 10 bytes");
///
/// assert!(ChannelError::unencodable("a map with keys that are no strings").is_unencodable());
/// assert!(ChannelError::invalid_length(7).is_invalid_length());
/// assert!(ChannelError::disconnected().is_disconnected());
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
        Self::too_large_u64(size as u64, max)
    }

    pub(crate) fn too_large_u64(size: u64, max: usize) -> Self {
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

    /// Adds the bytes of a malformed message.
    pub(crate) fn with_payload(mut self, bytes: &[u8]) -> Self {
        if let Kind::Malformed { payload, .. } = &mut *self.0 {
            *payload = Bytes::copy_from_slice(bytes);
        }
        self
    }
}

/// Predicates.
///
/// ```
/// let error = kakehi_channel::ChannelError::disconnected();
/// assert!(error.is_disconnected() && error.is_fatal());
/// assert!(!error.is_timeout() && !error.is_malformed() && !error.is_too_large());
/// assert!(!error.is_truncated() && !error.is_invalid_length() && !error.is_unencodable());
/// assert_eq!((error.io_kind(), error.payload()), (None, None));
/// ```
impl ChannelError {
    /// Whether no message arrived in time. The channel can still be used.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(*self.0, Kind::Timeout { .. })
    }

    /// Whether the connection has ended: the peer closed it, between two frames or inside one, or
    /// it was reset.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        match &*self.0 {
            Kind::Disconnected | Kind::Truncated { .. } => true,
            Kind::Io { source, .. } => matches!(
                source.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            ),
            _ => false,
        }
    }

    /// Whether the peer closed the connection inside a frame.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(*self.0, Kind::Truncated { .. })
    }

    /// Whether an incoming or outgoing frame is over the limit.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(*self.0, Kind::TooLarge { .. })
    }

    /// Whether a frame declares an impossible length.
    #[must_use]
    pub fn is_invalid_length(&self) -> bool {
        matches!(*self.0, Kind::InvalidLength { .. })
    }

    /// Whether a whole frame is not the expected message. The next frame is read as usual.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(*self.0, Kind::Malformed { .. })
    }

    /// Whether the format cannot encode the message. No byte was sent.
    #[must_use]
    pub fn is_unencodable(&self) -> bool {
        matches!(*self.0, Kind::Unencodable { .. })
    }

    /// Whether a channel's stream ends after this error.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !(self.is_malformed() || self.is_timeout() || self.is_unencodable())
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
