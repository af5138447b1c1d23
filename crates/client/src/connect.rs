//! How a client connects, and when it tries again.

use std::{
    fmt, fs,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use kakehi_channel::{BusyPoll, Channel, Format};
use tokio::net::UnixStream;

use crate::ClientSettings;

/// How a client tries again: while it cannot connect, because the server restarts or its queue of
/// connections is full, and while the server refuses a request because it is busy or shutting
/// down. The request was not started then.
///
/// The delay before each further try is twice the one before. Up to half of it is random, so that
/// many clients do not return at once. The client tries until the request's timeout or deadline
/// passes; without either, forever.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Reconnect;
///
/// let policy = Reconnect { max: Duration::from_secs(5), ..Reconnect::default() };
/// assert_eq!(policy.first, Duration::from_millis(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The longest delay before the second try; at least 1 ms. Default: 10 ms.
    pub first: Duration,
    /// The longest delay before each later try; at least 1 ms. Default: 1 s.
    pub max: Duration,
}

impl Reconnect {
    /// The delay after this many failures: a random time in the upper half of the backoff.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        const LEAST: Duration = Duration::from_millis(1);
        let doublings = failures.saturating_sub(1).min(20);
        let backoff = self.first.max(LEAST).saturating_mul(1 << doublings).min(self.max.max(LEAST));
        let half = backoff / 2;
        let range = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Each `RandomState` differs, which keeps clients apart without a dependency.
        half + Duration::from_nanos(RandomState::new().hash_one(failures) % range)
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { first: Duration::from_millis(10), max: Duration::from_secs(1) }
    }
}

/// A channel to the server.
type Dialed<Tx, Rx, F> = Channel<Tx, Rx, F, BusyPoll<UnixStream>>;

/// The address of the server, and the settings of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) path: PathBuf,
    pub(crate) settings: ClientSettings,
}

impl Connector {
    /// Connects once.
    pub(crate) async fn connect<Tx, Rx, F>(&self) -> Result<Dialed<Tx, Rx, F>, Unconnected>
    where
        F: Format + Default,
    {
        let failed = |source| Unconnected::new(&self.path, source);
        let stream = UnixStream::connect(&self.path).await.map_err(failed)?;
        let ClientSettings { server_uid, incoming, outgoing, busy_poll, .. } = self.settings;
        if let Some(expected) = server_uid {
            let found = stream.peer_cred().map_err(failed)?.uid();
            if found != expected {
                let path = self.path.clone();
                return Err(Unconnected::WrongServer { path, expected, found });
            }
        }
        let channel = Channel::with_limits(stream, incoming, outgoing);
        Ok(channel.busy_poll(|socket| BusyPoll::new(socket, busy_poll)))
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
    /// The server is busy or shutting down. Only the cause of a timeout or deadline.
    Refused {
        message: String,
    },
}

impl Unconnected {
    fn new(path: &Path, source: io::Error) -> Self {
        // The system does not tell a file that is not a socket from a socket without a server.
        let is_refused = source.kind() == io::ErrorKind::ConnectionRefused;
        if is_refused && fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Self::NotASocket { path: path.to_owned() };
        }
        Self::Io { path: path.to_owned(), source }
    }

    /// Whether another try may succeed soon.
    pub(crate) fn may_pass(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
        // Reset: the server exited with the connection still in its queue.
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
                write!(f, "the server on {path} runs as uid {found}, expected uid {expected}")
            }
        }
    }
}
