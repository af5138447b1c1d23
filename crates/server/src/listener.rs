//! `Listener`: the source of a server's connections.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::FutureExt;
use kakehi_channel::{BusyPoll, ByteStream};
use kakehi_socket::Socket;
use tokio::{
    io::{AsyncWrite, Interest, Ready},
    net::UnixStream,
};

use crate::Peer;

/// Accepts the connections of a server. [`Socket`] is the usual listener.
///
/// A listener of in-memory streams lets a test run a whole server in paused time:
///
/// ```
/// use kakehi_channel::{Channel, Json, Request, Response};
/// use kakehi_server::{Context, Handle, Listener, Peer, serve};
/// use std::io;
/// use tokio::{io::DuplexStream, sync::{Mutex, mpsc}};
///
/// struct InMemory(Mutex<mpsc::Receiver<DuplexStream>>);
///
/// impl Listener for InMemory {
///     type Stream = DuplexStream;
///
///     async fn accept(&self) -> io::Result<DuplexStream> {
///         match self.0.lock().await.recv().await {
///             Some(stream) => Ok(stream),
///             None => std::future::pending().await,
///         }
///     }
///
///     fn peer(_: &DuplexStream) -> io::Result<Peer> {
///         Ok(Peer::own())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (connect, accepted) = mpsc::channel(1);
/// let handle = Handle::default();
/// let handler = async |_: Request, _: Context| Ok::<_, String>("hello");
/// let server = serve(InMemory(Mutex::new(accepted)), handler).handle(&handle);
/// let server = tokio::spawn(server.into_future());
///
/// let (ours, theirs) = tokio::io::duplex(1024);
/// connect.send(theirs).await?;
/// let mut channel = Channel::<Request, Response, Json, _>::new(ours);
/// channel.send(Request::new("ID-1")).await?;
/// assert_eq!(channel.next().await.expect("an answer")?.message, "hello");
/// handle.shutdown();
/// server.await?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not accept connections",
    label = "not a listener",
    note = "bind a socket with `Socket::bind(path).listen()?`",
    note = "a socket that already listens becomes one with `Socket::from_std(listener)?`"
)]
pub trait Listener: Send + Sync + 'static {
    /// The byte stream of a connection.
    type Stream: ByteStream + Send + 'static;

    /// Wraps a stream so that its connection can poll for up to `time` before it sleeps: see
    /// [`Limits::busy_poll`](crate::Limits::busy_poll). Default: the connection does not poll.
    fn busy_poll(stream: Self::Stream, time: Duration) -> BusyPoll<Self::Stream> {
        let _ = time;
        BusyPoll::never(stream)
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    /// An error does not end the server. It waits up to a second, or until a connection has ended,
    /// and accepts again. After [`io::ErrorKind::ConnectionAborted`] it accepts again at once.
    ///
    /// # Cancel safety
    /// An implementation must be cancel safe: a dropped future must not lose a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Runs the connection that was accepted last. Default: in a task of its own.
    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(connection);
    }

    /// Identifies the client.
    ///
    /// # Errors
    /// The client cannot be identified. The server refuses it.
    fn peer(stream: &Self::Stream) -> io::Result<Peer>;

    /// Whether the client has closed both directions, not only its sending side. Default: `false`, so
    /// a half-closed stream counts as connected until a write fails.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use kakehi_server::{Listener, Socket};
    ///
    /// let (ours, theirs) = tokio::net::UnixStream::pair()?;
    /// assert!(!Socket::has_left(&ours));
    /// drop(theirs);
    /// ours.readable().await?;
    /// assert!(Socket::has_left(&ours));
    /// # Ok(()) }
    /// ```
    fn has_left(stream: &Self::Stream) -> bool {
        let _ = stream;
        false
    }

    /// Writes without waiting, to refuse a connection that was just accepted. Returns the number of
    /// bytes written.
    ///
    /// # Errors
    /// An error of the stream; [`io::ErrorKind::WouldBlock`] if it takes no byte.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use kakehi_server::{Listener, Socket};
    ///
    /// let (mut ours, _theirs) = tokio::net::UnixStream::pair()?;
    /// assert_eq!(Socket::try_write(&mut ours, b"busy")?, 4);
    /// # Ok(()) }
    /// ```
    fn try_write(stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Listener for Socket {
    type Stream = UnixStream;

    fn busy_poll(stream: UnixStream, time: Duration) -> BusyPoll<UnixStream> {
        BusyPoll::new(stream, time)
    }

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await
    }

    fn peer(stream: &UnixStream) -> io::Result<Peer> {
        Peer::of(stream)
    }

    fn has_left(stream: &UnixStream) -> bool {
        let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(Ready::is_write_closed))
    }

    /// Asks the kernel. tokio does not know yet that a new socket is writable.
    fn try_write(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(stream, bytes)?)
    }
}
