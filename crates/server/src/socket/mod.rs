//! The socket that a server listens on: made here, or handed to it.

mod bind;
mod claim;
mod error;
mod existing;
mod lock;
mod place;
mod systemd;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

pub use bind::Bind;
use claim::Claim;
pub use error::{BindError, BindErrorKind};

/// A Unix stream socket that listens.
///
/// Made by [`bind`](Self::bind), it lets nobody but its owner connect at any moment, unless a wider
/// mode was asked for; the only server at its path, it holds `PATH.lock` for as long as it lives.
/// Dropped, it removes its own file and nobody else's; the lock file stays.
///
/// ```
/// use kakehi_server::Socket;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::UnixStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("daemon.sock");
/// let socket = Socket::bind(&path).listen()?;
///
/// let mut client = UnixStream::connect(&path).await?;
/// socket.accept().await?.write_all(b"welcome").await?;
/// let mut greeting = String::new();
/// client.read_to_string(&mut greeting).await?;
/// assert_eq!(greeting, "welcome");
///
/// drop(socket);
/// assert!(!path.exists());
/// # Ok(()) }
/// ```
pub struct Socket {
    // Before the listener, so dropped before it: the open listener pins its inode, whose number
    // is therefore no other file's while the claim compares.
    claim: Option<Claim>,
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl Socket {
    /// To listen at `path`, of at most 107 bytes, by [`listen`](Bind::listen); with mode 0600,
    /// unless another one is asked for before.
    ///
    /// ```
    /// use kakehi_server::Socket;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("daemon.sock");
    /// let first = Socket::bind(&path).listen()?;
    /// assert_eq!(first.path(), Some(path.as_path()));
    ///
    /// let second = Socket::bind(&path).listen().unwrap_err();
    /// assert!(second.is_in_use());
    /// # Ok(()) }
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> Bind {
        Bind::new(path.as_ref())
    }

    /// Listens on a socket that somebody else made. Its file is never removed.
    ///
    /// # Errors
    /// What the system says to making it non-blocking and closed on exec, and to watching it.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// ```
    /// use kakehi_server::Socket;
    /// use std::os::unix::net::UnixListener;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("daemon.sock");
    /// let socket = Socket::from_std(UnixListener::bind(&path)?)?;
    /// drop(socket);
    /// assert!(path.exists());
    /// # Ok(()) }
    /// ```
    pub fn from_std(listener: StdListener) -> io::Result<Self> {
        fcntl_setfd(&listener, FdFlags::CLOEXEC)?;
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_path_buf);
        Ok(Self { claim: None, listener: UnixListener::from_std(listener)?, path })
    }

    /// Listens on the socket that systemd hands over by socket activation. Its file is never
    /// removed. `None` when this process was not activated so: then [`bind`](Self::bind).
    ///
    /// The variables `LISTEN_PID` and `LISTEN_FDS` are removed from the environment together with
    /// the socket, so that no child takes it for its own; a second call gives `None`. So call this
    /// first thing, before there are threads in which C code reads the environment.
    ///
    /// # Errors
    /// A [`BindError`] of the kind [`Activation`](BindErrorKind::Activation) unless it is one Unix
    /// stream socket that listens, as of `ListenStream=` with `Accept=no`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// ```
    /// use kakehi_server::Socket;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("daemon.sock");
    /// let socket = match Socket::from_systemd()? {
    ///     Some(socket) => socket,
    ///     None => Socket::bind(&path).listen()?,
    /// };
    /// # Ok(()) }
    /// ```
    pub fn from_systemd() -> Result<Option<Self>, BindError> {
        let Some(listener) = systemd::take_listener()? else { return Ok(None) };
        Self::from_std(listener).map(Some).map_err(systemd::unusable)
    }

    /// Where it listens: the path as it was given to [`bind`](Self::bind), or the one that a handed
    /// socket is bound to, if any.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The next connection. Cancel safe: no connection is lost by dropping the future.
    ///
    /// # Errors
    /// What the system says. It may be about one connection only, or pass (as `EMFILE`, too many
    /// open files, does): the caller decides whether and when to go on.
    ///
    /// ```
    /// use kakehi_server::Socket;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("daemon.sock");
    /// let socket = Socket::bind(&path).listen()?;
    /// let client = tokio::net::UnixStream::connect(&path).await?;
    /// let server = socket.accept().await?;
    /// assert_eq!(server.peer_cred()?.pid(), Some(std::process::id().cast_signed()));
    /// # Ok(()) }
    /// ```
    pub async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        Ok(stream)
    }

    /// The next connection, by polling; only the last task to poll is woken.
    ///
    /// # Errors
    /// As of [`accept`](Self::accept).
    ///
    /// ```
    /// use kakehi_server::Socket;
    /// use std::future::poll_fn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("daemon.sock");
    /// let socket = Socket::bind(&path).listen()?;
    /// let client = tokio::net::UnixStream::connect(&path).await?;
    /// let server = poll_fn(|cx| socket.poll_accept(cx)).await?;
    /// # Ok(()) }
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        let (stream, _) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Ok(stream))
    }

    /// The address that the system knows it by.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("daemon.sock");
    /// let socket = kakehi_server::Socket::bind(&path).listen()?;
    /// assert_eq!(socket.local_addr()?.as_pathname(), Some(path.as_path()));
    /// # Ok(()) }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("path", &self.path)
            .field("removed_on_drop", &self.claim.is_some())
            .finish_non_exhaustive()
    }
}
