//! How a connection is made: the checks of what is there, and trying again where that was asked.

use std::{
    fmt, fs,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kakehi_channel::{BUSY_POLL, Limits};
use tokio::net::UnixStream;

/// How a client tries again where no connection can be made now, but soon may be: the socket is
/// not there, nobody listens on it, the server's queue of connections is full, or the server ended
/// with the connection in its queue; and where the server refuses for that it is busy, or is
/// shutting down, before anything of the request was shown.
///
/// It waits between two tries, twice as long each time, and a random part of that less, so that
/// many clients do not come back at once. It goes on until one of the request's clocks runs out;
/// without any clock, for ever.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Reconnect;
///
/// let policy = Reconnect::default();
/// assert_eq!(policy, Reconnect::new(Duration::from_millis(10), Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    first: Duration,
    max: Duration,
}

impl Reconnect {
    /// Waits up to `first` before the second try, and never longer than `max`. Both are at least
    /// 1 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_client::Reconnect;
    ///
    /// let patient = Reconnect::new(Duration::from_millis(100), Duration::from_secs(30));
    /// # assert_ne!(patient, Reconnect::default());
    /// ```
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// How long to wait after so many failures: a random time in the upper half of the backoff.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        const LEAST: Duration = Duration::from_millis(1);
        let doublings = failures.saturating_sub(1).min(20);
        let backoff = self.first.max(LEAST).saturating_mul(1 << doublings).min(self.max.max(LEAST));
        let half = backoff / 2;
        let range = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Each `RandomState` differs: enough to keep clients apart, and no dependency.
        half + Duration::from_nanos(RandomState::new().hash_one(failures) % range)
    }
}

impl Default for Reconnect {
    /// 10 ms at first, 1 s at most.
    fn default() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// Where the server is, and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) path: PathBuf,
    pub(crate) server_uid: Option<u32>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) incoming: Limits,
    pub(crate) outgoing: Limits,
    pub(crate) busy_poll: Duration,
}

impl Connector {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            server_uid: None,
            reconnect: None,
            incoming: Limits::CLIENT,
            outgoing: Limits::DEFAULT,
            busy_poll: BUSY_POLL,
        }
    }

    /// Tries once.
    pub(crate) async fn connect(&self) -> Result<UnixStream, Unconnected> {
        let failed = |source| Unconnected::new(&self.path, source);
        let stream = UnixStream::connect(&self.path).await.map_err(failed)?;
        let Some(expected) = self.server_uid else { return Ok(stream) };
        match stream.peer_cred().map_err(failed)?.uid() {
            found if found == expected => Ok(stream),
            found => Err(Unconnected::WrongServer { path: self.path.clone(), expected, found }),
        }
    }

    /// How long to wait before the next try, if there is to be one.
    pub(crate) fn retry(&self, error: &Unconnected, failures: u32) -> Option<Duration> {
        let policy = self.reconnect.filter(|_| error.may_pass())?;
        Some(policy.delay(failures))
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unconnected {
    Io {
        path: PathBuf,
        source: io::Error,
    },
    NotASocket {
        path: PathBuf,
    },
    WrongServer {
        path: PathBuf,
        expected: u32,
        found: u32,
    },
    /// The server has no room, or is ending: only the cause of a clock's end.
    Refused {
        message: String,
    },
}

impl Unconnected {
    fn new(path: &Path, source: io::Error) -> Self {
        // To connect to what is no socket is refused as if nobody listened on it.
        let is_refused = source.kind() == io::ErrorKind::ConnectionRefused;
        if is_refused && fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Self::NotASocket { path: path.to_owned() };
        }
        Self::Io { path: path.to_owned(), source }
    }

    /// Whether it may be different soon.
    fn may_pass(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
        // Reset: the server ended with the connection still in its queue.
        matches!(self.io_kind(), Some(ConnectionRefused | ConnectionReset | NotFound | WouldBlock))
    }

    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source().map(io::Error::kind)
    }

    pub(crate) fn source(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } if source.kind() == io::ErrorKind::WouldBlock => {
                let path = path.display();
                write!(f, "cannot connect to {path}: the server's queue of connections is full")
            }
            Self::Io { path, source } => {
                write!(f, "cannot connect to {}: {source}", path.display())
            }
            Self::NotASocket { path } => {
                write!(f, "cannot connect to {}: it is not a socket", path.display())
            }
            Self::Refused { message } => write!(f, "the server refused: {message}"),
            Self::WrongServer { path, expected, found } => {
                let path = path.display();
                write!(f, "the server on {path} is of uid {found}, expected was uid {expected}")
            }
        }
    }
}
