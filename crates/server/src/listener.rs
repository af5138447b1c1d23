//! Where a server's connections come from.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use kakehi_channel::TryRead;
use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, Ready},
    net::UnixStream,
};

use crate::{Peer, Socket};

/// Where a server's connections come from: a [`Socket`], or anything else that accepts.
///
/// With one of one's own, a daemon can be tested with all its limits, its shutdown and its drain,
/// without a socket and in paused time:
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
pub trait Listener: Send + Sync + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// How a stream is read without waiting, for a connection to poll for the next request before
    /// it sleeps: see [`Serve::busy_poll`](crate::Serve::busy_poll). By default it cannot be.
    const TRY_READ: Option<TryRead<Self::Stream>> = None;

    /// The next connection. It must be cancel safe.
    ///
    /// # Errors
    /// They end no server: it waits a while, or until a connection has ended, and accepts again;
    /// after [`io::ErrorKind::ConnectionAborted`] at once.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Who is on the other side.
    ///
    /// # Errors
    /// Who cannot be identified is refused.
    fn peer(stream: &Self::Stream) -> io::Result<Peer>;

    /// Whether the peer has closed the connection, rather than only its sending side. By default
    /// that is not known: who half-closes counts as there, until a write fails.
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

    /// Writes what the stream takes at once: why a connection that was just accepted is refused.
    ///
    /// # Errors
    /// What the stream says; [`io::ErrorKind::WouldBlock`] if it takes nothing.
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

    /// Past tokio, which would say "not ready" until it has asked the system the next time.
    const TRY_READ: Option<TryRead<UnixStream>> =
        Some(|stream, bytes| Ok(rustix::net::recv(stream, bytes, RecvFlags::DONTWAIT)?.1));

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

    /// Past tokio, which does not know yet that a newborn socket is writable.
    fn try_write(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(stream, bytes)?)
    }
}
