//! The server: it accepts, admits, and ends in order.

mod accept;

use std::{fmt, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use kakehi_channel::{BUSY_POLL, Json, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tracing::{Span, info, warn};

use self::accept::Acceptor;
use crate::{
    Access, Handle, Handler, Limits, Listener, Peer, Socket, Wire,
    connection::Connection,
    hub::{Hub, Phase},
    outbox::Outbox,
};

/// What a connection may still take to tell its client the end, once the server closes.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves `handler` on a [`Socket`], or any other [`Listener`], until its shutdown: a builder that
/// is awaited.
///
/// ```
/// use kakehi_channel::Request;
/// use kakehi_server::{Context, Socket, serve};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.sock");
/// let socket = Socket::bind(path).listen()?;
/// serve(socket, async |request: Request<String>, context: Context| {
///     context.progress("looking").await?;
///     Ok::<_, kakehi_channel::Error>(format!("hello {}", request.command.unwrap_or_default()))
/// })
/// .shutdown(async {
///     // tokio::signal::ctrl_c().await
/// })
/// .await;
/// # Ok(()) }
/// ```
pub fn serve<C, H, L, F>(listener: L, handler: H) -> Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    L: Listener,
    F: Wire<C>,
{
    Serve {
        listener,
        server: Server::new(handler),
        access: Access::default(),
        drain: Duration::from_secs(5),
        shutdown: Box::pin(std::future::pending()),
        wire: PhantomData,
    }
}

/// Serves one byte stream, for whoever it belongs to, until it ends. Half-closed counts as there:
/// only the kernel can tell more, and this stream may not be its own.
///
/// ```
/// use kakehi_channel::{Channel, Json, Request, Response};
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = tokio::io::duplex(1024);
/// let handler = async |_: Request, _: Context| Ok::<_, String>("hello");
/// tokio::spawn(serve_stream(ours, Peer::own(), handler, Limits::default()));
///
/// let mut channel = Channel::<Request, Response, Json, _>::new(theirs);
/// channel.send(Request::new("ID-1")).await?;
/// assert_eq!(channel.next().await.expect("an answer")?.message, "hello");
/// # Ok(()) }
/// ```
///
/// # Cancel safety
/// Dropped, it drops the handler and the stream: the client sees the end of the connection.
pub async fn serve_stream<C, H, F, S>(stream: S, peer: Peer, handler: H, limits: Limits)
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server = Arc::new(Server { limits, ..Server::new(handler) });
    let outbox = Arc::new(server.outbox(peer));
    let mut connection = Connection::<C, H, F, _>::new(stream, (|_| false, None), outbox, server);
    connection.run(Span::none).await;
}

/// A server to be: set it up, then `.await` it.
///
/// ```
/// use std::time::Duration;
/// use kakehi_channel::Request;
/// use kakehi_server::{Access, Context, Handle, Limits, Socket, serve};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.sock");
/// let handle = Handle::default();
/// let server = serve(Socket::bind(path).listen()?, async |_: Request<String>, _: Context| {
///     Ok::<_, String>(())
/// })
/// .handle(&handle)
/// .limits(Limits { connections: 16, ..Limits::default() })
/// .access(Access::default().uid(1000))
/// .authorize(|peer, request| match request.command.as_deref() {
///     Some("stop") if peer.uid != 0 => Err("only root may stop this".into()),
///     _ => Ok(()),
/// })
/// .drain(Duration::from_secs(2));
///
/// handle.shutdown(); // or by `.shutdown(a future)`
/// server.await;
/// assert_eq!(handle.stats().connections, 0);
/// # Ok(()) }
/// ```
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<C, H, L = Socket, F = Json> {
    listener: L,
    server: Server<C, H>,
    access: Access,
    drain: Duration,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    wire: PhantomData<fn() -> F>,
}

/// What the connections of a server share.
pub(crate) struct Server<C, H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) busy_poll: Duration,
    handle: Handle,
    authorize: Option<Authorize<C>>,
}

type Authorize<C> = Box<dyn Fn(&Peer, &Request<C>) -> Result<(), String> + Send + Sync>;

impl<C, H, L, F> Serve<C, H, L, F> {
    /// Instead of [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.server.limits = limits;
        self
    }

    /// Who may connect; by default the server's own user, and root. Who may not is told so, before
    /// anything is read.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Decides on each request before its handler is called; `Err` says why not, to the client.
    pub fn authorize(
        mut self,
        decide: impl Fn(&Peer, &Request<C>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.server.authorize = Some(Box::new(decide));
        self
    }

    /// Ends the server when `signal` is ready: it drains.
    pub fn shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(signal);
        self
    }

    /// How long running requests may go on after the shutdown; 5 s. New ones are refused
    /// meanwhile; those left then are cancelled and told so.
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// For how long a connection polls for the next request before it sleeps, after it answered
    /// one; [`BUSY_POLL`], 50 µs. Zero or `None` is never.
    ///
    /// Waking up takes a core longer than most clients take to ask again. So polling makes a call
    /// several times faster, and spends less time of the CPU than sleeping, where a client asks
    /// again at once; where it does not, it stops by itself: see
    /// [`Channel::expect_soon`](kakehi_channel::Channel::expect_soon).
    pub fn busy_poll(mut self, patience: impl Into<Option<Duration>>) -> Self {
        self.server.busy_poll = patience.into().unwrap_or_default();
        self
    }

    /// Makes `handle` this server's.
    pub fn handle(mut self, handle: &Handle) -> Self {
        self.server.handle = handle.clone();
        self
    }
}

impl<C, H, L, F> Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    L: Listener,
{
    async fn run(self) {
        let Self { listener, server, access, drain, shutdown, wire } = self;
        let acceptor = Acceptor { listener, access, server: Arc::new(server), wire };
        let hub = Arc::clone(acceptor.server.hub());
        let _close = CloseWhenDropped(Arc::clone(&hub));
        let accepting = acceptor.accept_all();
        tokio::pin!(accepting);
        // In a fixed order here and below, so that what happens follows from what came alone.
        tokio::select! {
            biased;
            never = &mut accepting => match never {},
            () = shutdown => {}
            () = hub.ending.cancelled() => {}
        }

        info!(running = hub.running(), "draining");
        hub.enter_phase(Phase::Draining);
        let drained = until(&hub, |hub| hub.running() == 0);
        tokio::select! {
            biased;
            never = &mut accepting => match never {},
            end = timeout(drain, drained) => if end.is_err() {
                warn!(running = hub.running(), "cancelling what has not ended in {drain:?}");
            },
        }

        hub.enter_phase(Phase::Closing);
        // Twice: once for the handlers, once for what is written last.
        if timeout(2 * LAST_WORDS, until(&hub, Hub::is_empty)).await.is_err() {
            warn!("connections are left open");
        }
    }
}

/// Waits until `done` holds, looking again whenever something has ended.
pub(crate) async fn until(hub: &Hub, done: impl Fn(&Hub) -> bool) {
    loop {
        // What ends from here on is heard.
        let ended = hub.ended.notified();
        if done(hub) {
            return;
        }
        ended.await;
    }
}

impl<C, H, L, F> IntoFuture for Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    L: Listener,
{
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    /// # Cancel safety
    /// Dropped, it cancels what is running, without a drain, and removes the socket.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

struct CloseWhenDropped(Arc<Hub>);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.enter_phase(Phase::Closing);
    }
}

impl<C, H> Server<C, H> {
    fn new(handler: H) -> Self {
        Self {
            handler,
            limits: Limits::default(),
            busy_poll: BUSY_POLL,
            handle: Handle::default(),
            authorize: None,
        }
    }

    pub(crate) fn outbox(&self, peer: Peer) -> Outbox {
        Outbox::new(peer, &self.limits, self.hub().ending.clone())
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.handle.hub
    }

    pub(crate) fn authorize(&self, peer: &Peer, request: &Request<C>) -> Result<(), String> {
        self.authorize.as_ref().map_or(Ok(()), |decide| decide(peer, request))
    }
}

impl<C, H, L: fmt::Debug, F> fmt::Debug for Serve<C, H, L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("limits", &self.server.limits)
            .field("access", &self.access)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
