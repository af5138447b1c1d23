//! A whole server in memory, for tests of its commands.

use std::{
    future::IntoFuture,
    io,
    pin::Pin,
    task::{Context as Task, Poll},
};

use kakehi_channel::{Channel, Json, Request, Response};
use kakehi_client::{CommandRequest, Connection};
use kakehi_command::Command;
use kakehi_server::{Access, Handle, Handler, Listener, Peer, Protocol, Serve, serve};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::{Mutex, mpsc},
};

/// How many bytes each direction of a stream holds, as those of a Unix socket do.
const CAPACITY: usize = 64 * 1024;

/// How many connections may wait to be accepted.
const WAITING: usize = 256;

/// Serves `handler` in memory, with all that a server does: authorization, limits, timeouts,
/// deadlines and drain. It needs a runtime, and works in paused time.
///
/// ```
/// use kakehi::client::ErrorKind;
/// use std::time::Duration;
/// use kakehi::server::{Context, Failure};
/// use kakehi::{Command, Router, testing};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Command)]
/// struct Sleep {
///     seconds: u64,
/// }
///
/// async fn sleep((): (), sleep: Sleep, _: Context<()>) -> Result<(), Failure> {
///     tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let server = testing::connect(Router::new(()).command(sleep));
/// let mut client = server.as_uid(1000);
/// client.call(Sleep { seconds: 3600 }).await.expect("an hour passes at once");
/// let error = client.call(Sleep { seconds: 9 }).deadline(Duration::from_secs(1)).await;
/// assert!(error.is_err_and(|error| error.kind() == ErrorKind::Deadline));
/// # }
/// ```
pub fn connect<C, F, H>(handler: H) -> TestServer
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
{
    connect_with(|listener| {
        serve(listener, handler).access(Access { everybody: true, ..Access::default() })
    })
}

/// The same for a server with other settings than the default ones.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi::{Router, server::{Limits, serve}, testing};
///
/// let server = testing::connect_with(|listener| {
///     serve(listener, Router::new(())).limits(Limits { connections: 1, ..Limits::default() })
/// });
/// # let _ = server.as_uid(0);
/// # }
/// ```
pub fn connect_with<C, F, H>(
    configure: impl FnOnce(InMemory) -> Serve<C, H, InMemory, F>,
) -> TestServer
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let handle = Handle::default();
    let server = configure(InMemory(Mutex::new(receiver))).handle(&handle);
    tokio::spawn(server.into_future());
    TestServer { sender, handle }
}

/// A server in memory: see [`connect`]. It runs until its runtime ends, or until its
/// [`handle`](Self::handle) shuts it down.
#[derive(Debug)]
pub struct TestServer {
    sender: mpsc::Sender<Stream>,
    handle: Handle,
}

/// A client of a [`TestServer`]. It connects again after the server closed the connection, for
/// example after a refusal.
#[derive(Debug)]
pub struct TestClient {
    connection: Connection<Request, Response, Json, DuplexStream>,
    sender: mpsc::Sender<Stream>,
    peer: Peer,
}

impl TestClient {
    fn new(sender: mpsc::Sender<Stream>, peer: Peer) -> Self {
        Self { connection: open(&sender, &peer), sender, peer }
    }

    /// Begins a request for a typed command.
    ///
    /// # Panics
    /// If the server has ended, or if more than 256 connections wait to be accepted.
    pub fn call<C: Command>(&mut self, command: C) -> CommandRequest<'_, C, DuplexStream> {
        self.connection().call(command)
    }

    /// The connection, for requests that are whole messages.
    ///
    /// # Panics
    /// If the server has ended, or if more than 256 connections wait to be accepted.
    pub fn connection(&mut self) -> &mut Connection<Request, Response, Json, DuplexStream> {
        if !self.connection.is_open() {
            self.connection = open(&self.sender, &self.peer);
        }
        &mut self.connection
    }
}

#[expect(clippy::expect_used, reason = "a test fails by a panic")]
fn open(
    sender: &mpsc::Sender<Stream>,
    peer: &Peer,
) -> Connection<Request, Response, Json, DuplexStream> {
    let (ours, theirs) = tokio::io::duplex(CAPACITY);
    let stream = Stream { stream: theirs, peer: peer.clone() };
    sender.try_send(stream).expect("the server accepts no connection");
    Connection::new(Channel::new(ours))
}

impl TestServer {
    /// Connects as a process of the user `uid`, whose group has the same number.
    ///
    /// # Panics
    /// If the server has ended, or if more than 256 connections wait to be accepted.
    #[must_use]
    pub fn as_uid(&self, uid: u32) -> TestClient {
        self.as_peer(Peer { uid, gid: uid, ..Peer::own() })
    }

    /// Connects as any peer.
    ///
    /// # Panics
    /// If the server has ended, or if more than 256 connections wait to be accepted.
    #[must_use]
    pub fn as_peer(&self, peer: Peer) -> TestClient {
        TestClient::new(self.sender.clone(), peer)
    }

    /// The handle on the server: its counters, and its shutdown.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// The listener of a [`TestServer`].
#[derive(Debug)]
pub struct InMemory(Mutex<mpsc::Receiver<Stream>>);

/// One of its connections.
#[derive(Debug)]
pub struct Stream {
    stream: DuplexStream,
    peer: Peer,
}

impl Listener for InMemory {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<Stream> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }

    fn peer(stream: &Stream) -> io::Result<Peer> {
        Ok(stream.peer.clone())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
