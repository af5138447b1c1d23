//! The one error of this crate.

use std::{error::Error as StdError, fmt, io, path::Path, time::Duration};

use bytes::Bytes;

/// What went wrong on a channel: ask by predicate, print for a person, follow
/// [`source`](StdError::source) for the cause.
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
pub struct Error(Box<Kind>);

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

/// For those who write a [`Format`](crate::Format) or follow responses.
impl Error {
    /// The payload of a frame is not the expected message.
    ///
    /// ```
    /// let error = kakehi_channel::Error::malformed("no status");
    /// assert!(error.is_malformed());
    /// assert_eq!(error.to_string(), "malformed message: no status");
    /// ```
    #[must_use]
    pub fn malformed(source: impl Into<Source>) -> Self {
        Kind::Malformed { source: source.into(), payload: Bytes::new() }.into()
    }

    /// The message cannot be written in this format.
    ///
    /// ```
    /// let error = kakehi_channel::Error::unencodable("a map with keys that are no strings");
    /// assert!(error.is_unencodable());
    /// ```
    #[must_use]
    pub fn unencodable(source: impl Into<Source>) -> Self {
        Kind::Unencodable { source: source.into() }.into()
    }

    /// A frame of at least `size` bytes, where `max` are allowed.
    ///
    /// ```
    /// let error = kakehi_channel::Error::too_large(11, 10);
    /// assert_eq!(error.to_string(), "a frame of 11 bytes or more is over the limit of 10 bytes");
    /// ```
    #[must_use]
    pub fn too_large(size: usize, max: usize) -> Self {
        Self::too_large_u64(size as u64, max)
    }

    pub(crate) fn too_large_u64(size: u64, max: usize) -> Self {
        Kind::TooLarge { size, max }.into()
    }

    /// A frame declares a length, in bytes, that no frame can have.
    ///
    /// ```
    /// assert!(kakehi_channel::Error::invalid_length(7).is_invalid_length());
    /// ```
    #[must_use]
    pub fn invalid_length(length: u64) -> Self {
        Kind::InvalidLength { length }.into()
    }

    /// The connection ended where a message was still due.
    ///
    /// ```
    /// assert!(kakehi_channel::Error::disconnected().is_disconnected());
    /// ```
    #[must_use]
    pub fn disconnected() -> Self {
        Kind::Disconnected.into()
    }

    /// Nothing came for as long as `after`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let error = kakehi_channel::Error::timeout(Duration::from_secs(2));
    /// assert_eq!(error.to_string(), "timed out after 2s");
    /// ```
    #[must_use]
    pub fn timeout(after: Duration) -> Self {
        Kind::Timeout { after }.into()
    }

    pub(crate) fn connect(path: &Path, source: io::Error) -> Self {
        Kind::Io { doing: format!("cannot connect to {}", path.display()), source }.into()
    }

    pub(crate) fn truncated(received: usize) -> Self {
        Kind::Truncated { received }.into()
    }

    /// Keeps the bytes of a malformed message.
    pub(crate) fn with_payload(mut self, bytes: &[u8]) -> Self {
        if let Kind::Malformed { payload, .. } = &mut *self.0 {
            *payload = Bytes::copy_from_slice(bytes);
        }
        self
    }
}

/// What it is.
///
/// ```
/// let error = kakehi_channel::Error::disconnected();
/// assert!(error.is_disconnected() && error.is_fatal());
/// assert!(!error.is_timeout() && !error.is_malformed() && !error.is_too_large());
/// assert!(!error.is_truncated() && !error.is_invalid_length() && !error.is_unencodable());
/// assert_eq!((error.io_kind(), error.payload()), (None, None));
/// ```
impl Error {
    /// Nothing came in time. The channel goes on: one may wait again.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(*self.0, Kind::Timeout { .. })
    }

    /// The connection is over: by the peer's end of it, at a good place or a bad one, or by the
    /// system's word.
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

    /// The connection ended inside a frame.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(*self.0, Kind::Truncated { .. })
    }

    /// A frame is over the limit, on its way in or out.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(*self.0, Kind::TooLarge { .. })
    }

    /// A frame declares a length that cannot be.
    #[must_use]
    pub fn is_invalid_length(&self) -> bool {
        matches!(*self.0, Kind::InvalidLength { .. })
    }

    /// A frame arrived whole, but is not the expected message. The next one is read as usual.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(*self.0, Kind::Malformed { .. })
    }

    /// The message to be sent cannot be written in this format. Nothing of it was sent.
    #[must_use]
    pub fn is_unencodable(&self) -> bool {
        matches!(*self.0, Kind::Unencodable { .. })
    }

    /// When this came out of a channel's stream, the stream is over.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !(self.is_malformed() || self.is_timeout() || self.is_unencodable())
    }

    /// What the system said, if it is the system's error.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match &*self.0 {
            Kind::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// The bytes that are not a message, without delimiter or header.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match &*self.0 {
            Kind::Malformed { payload, .. } => Some(payload),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Io { doing, source } => write!(f, "{doing}: {source}"),
            Kind::Disconnected => f.write_str("the connection ended where a message was due"),
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
            Kind::Timeout { after } => write!(f, "timed out after {after:?}"),
        }
    }
}

/// Shows figures and causes, not the payload of a message. A cause may quote a value of it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?})", self.to_string())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Io { source, .. } => Some(source),
            Kind::Malformed { source, .. } | Kind::Unencodable { source } => Some(&**source),
            _ => None,
        }
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Kind::Io { doing: "the connection failed".into(), source }.into()
    }
}
