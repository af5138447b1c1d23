//! Binds the Unix socket of a daemon, or takes over a socket from systemd. A bound socket is
//! private from its creation, and only one server listens at a path. [`Peer`] is the process at the
//! other end of a connection. [`Access`] selects the users that may connect.

mod bind;
mod error;
mod lock;
mod peer;
mod place;

use std::{
    env, fmt, io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    process,
};

use listenfd::ListenFd;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::sockopt::socket_acceptconn,
};
use tokio::net::{UnixListener, UnixStream};

use self::bind::Claim;
pub use self::{
    bind::Bind,
    error::{BindError, BindErrorKind},
    peer::{Access, Identity, Peer},
};

/// A listening Unix stream socket.
///
/// A socket from [`bind`](Self::bind) has mode 0600 from its creation, unless [`Bind::mode`] widens
/// it before the first connection. It is the only server at its path, because it holds the lock
/// file `PATH.lock`. When dropped, it removes its own file, and leaves the lock file.
///
/// ```
/// use kakehi_socket::Socket;
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
    // Before the listener, so it is dropped first. The open listener keeps its inode, so that no
    // other file gets the inode number while the claim compares it.
    claim: Option<Claim>,
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl Socket {
    /// Prepares to listen at `path`, which has at most 107 bytes. Call [`listen`](Bind::listen) on
    /// the result.
    ///
    /// ```
    /// use kakehi_socket::Socket;
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

    /// Listens on an existing socket. Its file is never removed.
    ///
    /// # Errors
    /// An error of the system call that makes the socket non-blocking, sets close-on-exec, or
    /// registers the socket with the runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// ```
    /// use kakehi_socket::Socket;
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

    /// Listens on the socket that systemd passed by socket activation. Its file is never removed.
    /// `None`: this process was not activated by a socket, so [`bind`](Self::bind) one.
    ///
    /// The function removes the variables `LISTEN_PID` and `LISTEN_FDS` from the environment, so
    /// that no child process takes the socket; a second call returns `None`. Call it before other
    /// threads start, because C code may read the environment in them.
    ///
    /// # Errors
    /// A [`BindError`] of the kind [`Activation`](BindErrorKind::Activation) unless systemd passed
    /// exactly one listening Unix stream socket, as `ListenStream=` with `Accept=no` does.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// ```
    /// use kakehi_socket::Socket;
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
        let Some(listener) = take_activated()? else { return Ok(None) };
        Self::from_std(listener).map(Some).map_err(unusable)
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// An error of the system call.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future loses no connection.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// The path as given to [`bind`](Self::bind), or the path that an existing socket is bound to.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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

/// Takes the socket that systemd passed to this process, as `sd_listen_fds(3)` does.
fn take_activated() -> Result<Option<StdListener>, BindError> {
    // `listenfd` also takes descriptors without a `LISTEN_PID`, which may be meant for a parent.
    if number("LISTEN_PID")? != Some(process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS")? {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(n) => return Err(BindError::activation(format!("systemd passed {n} sockets, not 1"))),
    }
    let Some(listener) = ListenFd::from_env().take_unix_listener(0).map_err(unusable)? else {
        return Ok(None);
    };
    match socket_acceptconn(&listener) {
        Ok(true) => Ok(Some(listener)),
        Ok(false) => Err(BindError::activation("the socket does not listen")),
        Err(error) => Err(unusable(error.into())),
    }
}

fn number(name: &str) -> Result<Option<u32>, BindError> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    let value = value.to_string_lossy();
    let not_a_number = |_| BindError::activation(format!("{name}={value:?} is not a number"));
    value.parse().map(Some).map_err(not_a_number)
}

fn unusable(error: io::Error) -> BindError {
    BindError::activation(error.to_string()).with_source(error)
}
