//! Requests of the fleet as connections of `kakehi-server`: each is a byte stream of its own.

use std::{
    fmt,
    future::poll_fn,
    io,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use kakehi_server::{Identity, Listener, Peer};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::unconstrained,
};

/// The capacity of a stream in each direction, in bytes.
const STREAM: usize = 128 * 1024;

/// The server's end of the stream of one request.
#[derive(Debug)]
pub(crate) struct RequestStream {
    stream: DuplexStream,
    identity: Arc<Identity>,
    has_left: Arc<AtomicBool>,
}

/// The node's end, with the connection of the server.
pub(crate) struct ClientEnd {
    pub(crate) stream: DuplexStream,
    has_left: Arc<AtomicBool>,
    /// `None`: it has ended, or the server refused it.
    connection: Option<Connection>,
}

/// A connection of the server. The task of the request polls it, so that a request wakes no second
/// task.
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ClientEnd {
    /// Polls the server's connection.
    pub(crate) fn poll_connection(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Ends the stream as a client that disconnects. The server cancels the handler, or detaches it,
    /// and the connection ends in a task of its own unless it ends at once.
    pub(crate) fn close(self) {
        let Self { stream, has_left, connection } = self;
        // Before the stream ends: the server asks when it reads the end.
        has_left.store(true, Ordering::SeqCst);
        drop(stream);
        if let Some(mut connection) = connection
            && (&mut connection).now_or_never().is_none()
        {
            tokio::spawn(connection);
        }
    }
}

/// The server of a node's requests. The node's task polls it, and the task of each request does to
/// have its stream accepted. So the request wakes neither that task nor one of the server.
pub(crate) struct Door {
    server: Mutex<Server>,
    slot: Arc<Slot>,
}

struct Server {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    /// Wakes the node's task.
    waker: Waker,
}

/// Where the server accepts the streams.
#[derive(Debug)]
pub(crate) struct Requests(Arc<Slot>);

/// The stream to accept next, and the connection of the one that was accepted last.
#[derive(Default)]
struct Slot(Mutex<(Option<RequestStream>, Option<Connection>)>);

impl Door {
    /// `serve` makes the server of a listener.
    pub(crate) fn new(
        serve: impl FnOnce(Requests) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        let slot = Arc::new(Slot::default());
        let future = serve(Requests(Arc::clone(&slot)));
        let server = Server { future, is_over: false, waker: Waker::noop().clone() };
        Self { server: Mutex::new(server), slot }
    }

    /// Opens a connection to the server, for a request of `identity`. `None`: the server has shut
    /// down.
    pub(crate) fn connect(&self, identity: Arc<Identity>) -> Option<ClientEnd> {
        let (ours, theirs) = tokio::io::duplex(STREAM);
        let has_left = Arc::new(AtomicBool::new(false));
        let theirs = RequestStream { stream: theirs, identity, has_left: Arc::clone(&has_left) };
        let mut server = lock(&self.server);
        lock(&self.slot.0).0 = Some(theirs);
        let waker = server.waker.clone();
        if server.poll(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
        let (left, connection) = std::mem::take(&mut *lock(&self.slot.0));
        left.is_none().then_some(ClientEnd { stream: ours, has_left, connection })
    }

    /// Runs the server to its end, in the node's task.
    pub(crate) async fn run(&self) {
        poll_fn(|cx| {
            let mut server = lock(&self.server);
            server.waker.clone_from(cx.waker());
            server.poll(cx)
        })
        .await;
    }
}

impl Server {
    /// Without the budget of the task: it must not be the reason that a stream is not accepted.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over {
            self.is_over = pin!(unconstrained(&mut self.future)).poll(cx).is_ready();
        }
        if self.is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Requests {
    type Stream = RequestStream;

    async fn accept(&self) -> io::Result<RequestStream> {
        // Without a waker: `Door::connect` polls.
        poll_fn(|_| {
            lock(&self.0.0).0.take().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
        })
        .await
    }

    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        // A panic must not reach the task of the request.
        let connection = AssertUnwindSafe(connection).catch_unwind().map(drop);
        lock(&self.0.0).1 = Some(Box::pin(connection));
    }

    fn peer(stream: &RequestStream) -> io::Result<Peer> {
        Ok(Peer::remote(Arc::clone(&stream.identity)))
    }

    fn has_left(stream: &RequestStream) -> bool {
        stream.has_left.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").finish_non_exhaustive()
    }
}

impl AsyncRead for RequestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for RequestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
