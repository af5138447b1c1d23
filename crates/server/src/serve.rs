//! The server: it accepts connections, drains and closes.

use std::{convert::Infallible, fmt, io, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use kakehi_channel::{
    BusyPoll, ByteStream, Json, Refusal, Request, Response, Status, VERSION, low_level::Buffer,
};
use kakehi_time::duration;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::{
    Access, Handle, Handler, Limits, Listener, Peer, Protocol, Socket,
    connection::Connection,
    log::RefusedConnections,
    metrics,
    outbox::Outbox,
    shared::{ConnectionGuard, FINAL_WRITE_TIME, Phase, Server, Shared},
};

/// Creates a server that answers the connections of a [`Socket`], or of another [`Listener`], with
/// `handler`. Await the result to run it.
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
///     Ok::<_, kakehi_channel::ChannelError>(format!("hello {}", request.command.unwrap_or_default()))
/// })
/// .shutdown(async {}) // or `tokio::signal::ctrl_c()`
/// .await;
/// # Ok(()) }
/// ```
pub fn serve<C, H, L, F>(listener: L, handler: H) -> Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    L: Listener,
    F: Protocol<C>,
{
    Serve {
        listener,
        server: Server::new(handler),
        access: Access::default(),
        shutdown: Box::pin(std::future::pending()),
        protocol: PhantomData,
    }
}

/// Serves one byte stream until it ends; `peer` is the client. A half-closed stream counts as
/// connected, because only a socket can tell the difference.
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
/// Dropping the future drops the handler and the stream. The client sees the end of the connection.
pub async fn serve_stream<C, H, F, S>(stream: S, peer: Peer, handler: H, limits: Limits)
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    S: ByteStream,
{
    let server = Arc::new(Server { limits, ..Server::new(handler) });
    let outbox = Arc::new(server.outbox(peer));
    let _listed = server.shared().add(&outbox);
    let mut connection =
        Connection::<C, H, F, _>::new(stream, BusyPoll::never, |_| false, outbox, server);
    connection.run(false).await;
}

/// A configured server. It runs when awaited.
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
/// .limits(Limits { connections: 16, drain_time: Duration::from_secs(2), ..Limits::default() })
/// .access(Access { uids: [0, 1000].into(), ..Access::default() })
/// .authorize(|peer, request| match request.command.as_deref() {
///     Some("stop") if peer.uid != 0 => Err("only root may stop this".into()),
///     _ => Ok(()),
/// });
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
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    protocol: PhantomData<fn() -> F>,
}

impl<C, H, L, F> Serve<C, H, L, F> {
    /// Sets the limits. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.server.limits = limits;
        self
    }

    /// Sets which users may connect. Default: the server's own user and root. The server refuses
    /// others with `denied`, and reads nothing from them.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Checks each request before the handler runs. `Err` refuses the request with `denied` and this
    /// message. Default: every request is allowed. Requests with reserved names are not checked: see
    /// [`Handler::reserved`].
    pub fn authorize(
        mut self,
        decide: impl Fn(&Peer, &Request<C>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.server.authorize = Some(Box::new(decide));
        self
    }

    /// Shuts the server down when `signal` completes, whatever its output: running requests drain,
    /// new ones are refused. Default: never.
    ///
    /// ```no_run
    /// # use kakehi_channel::Request;
    /// # use kakehi_server::{Context, Socket, serve};
    /// # async fn run(socket: Socket) {
    /// # let handler = async |_: Request<String>, _: Context| Ok::<_, String>(());
    /// serve(socket, handler).shutdown(tokio::signal::ctrl_c()).await;
    /// # }
    /// ```
    pub fn shutdown<S>(mut self, signal: S) -> Self
    where
        S: Future<Output: Send> + Send + 'static,
    {
        self.shutdown = Box::pin(async {
            signal.await;
        });
        self
    }

    /// Connects `handle` with this server.
    pub fn handle(mut self, handle: &Handle) -> Self {
        self.server.handle = handle.clone();
        self
    }
}

impl<C, H, L, F> Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    L: Listener,
{
    async fn run(self) {
        let Self { listener, server, access, shutdown, protocol } = self;
        let drain = server.limits.drain_time;
        let (server, refused) = (Arc::new(server), RefusedConnections::default());
        let acceptor = Acceptor { listener, access, server, refused, protocol };
        let shared = Arc::clone(acceptor.server.shared());
        metrics::describe();
        let _close = CloseWhenDropped(Arc::clone(&shared));
        let accepting = acceptor.accept_all();
        tokio::pin!(accepting);
        // `biased` here and below, so that a simulation is repeatable.
        tokio::select! {
            biased;
            never = &mut accepting => match never {},
            () = shutdown => {}
            () = shared.ending.cancelled() => {}
        }

        info!(running = shared.running(), "draining");
        shared.enter_phase(Phase::Draining);
        let drained = shared.until(|shared| shared.running() == 0);
        tokio::select! {
            biased;
            never = &mut accepting => match never {},
            end = timeout(drain, drained) => if end.is_err() {
                let (running, drain) = (shared.running(), duration(drain));
                warn!(running, "cancelling requests that have run for {drain}");
            },
        }

        shared.enter_phase(Phase::Closing);
        // Twice: once for the handlers to clean up, once for the last responses.
        if timeout(2 * FINAL_WRITE_TIME, shared.until(Shared::is_empty)).await.is_err() {
            warn!("connections are left open");
        }
    }
}

impl<C, H, L, F> IntoFuture for Serve<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    L: Listener,
{
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    /// # Cancel safety
    /// Dropping the future cancels all requests without a drain, and removes the socket.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

struct CloseWhenDropped(Arc<Shared>);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.enter_phase(Phase::Closing);
    }
}

/// Accepts connections and admits them under the access rule and the limits.
struct Acceptor<C, H, L, F> {
    listener: L,
    access: Access,
    server: Arc<Server<C, H>>,
    refused: RefusedConnections,
    protocol: PhantomData<fn() -> F>,
}

impl<C, H, L, F> Acceptor<C, H, L, F>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    L: Listener,
{
    /// Accepts forever. Neither an error of one client nor a lack of file descriptors ends the server.
    async fn accept_all(&self) -> Infallible {
        const FIRST_PAUSE: Duration = Duration::from_millis(20);
        const LONGEST_PAUSE: Duration = Duration::from_secs(1);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.listener.accept().await {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    self.admit(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // EMFILE, ENFILE or ENOMEM: the end of a connection may help.
                    warn!(%error, ?pause, "cannot accept");
                    let _ = timeout(pause, self.server.shared().freed.notified()).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn admit(&self, mut stream: L::Stream) {
        let peer = match L::peer(&stream) {
            Ok(peer) if self.access.allows(&peer) => peer,
            Ok(peer) => {
                let message = format!("uid {} may not use this server", peer.uid);
                return self.refuse(&mut stream, Refusal::Denied, &message);
            }
            Err(error) => {
                let message = format!("cannot identify the client: {error}");
                return self.refuse(&mut stream, Refusal::Denied, &message);
            }
        };
        let outbox = Arc::new(self.server.outbox(peer));
        match self.server.shared().connect(&outbox, &self.server.limits) {
            Err(message) => self.refuse(&mut stream, Refusal::Busy, &message),
            Ok(guard) => {
                let server = Arc::clone(&self.server);
                self.listener.spawn(serve_one::<C, H, F, L>(stream, outbox, guard, server));
            }
        }
    }

    /// Sends the reason, if the stream takes it without waiting, and closes the connection.
    fn refuse(&self, stream: &mut L::Stream, why: Refusal, message: &str) {
        self.refused.add(why, message);
        self.server.shared().count_refused_connection();
        metrics::refused_connection(why);
        let response = Response::<&(), &str> {
            id: "",
            version: VERSION,
            status: Status::Error,
            message,
            content: None,
            refused: Some(why),
        };
        let mut frame = Buffer::fixed(4096);
        if let Err(error) = F::default()
            .encode_frame(&response, &mut frame, 4096)
            .map_err(io::Error::other)
            .and_then(|()| L::try_write(stream, frame.data()))
        {
            debug!(%error, "cannot send the refusal");
        }
    }
}

/// Not an `async fn`, whose future would have room for both the arguments and the connection.
fn serve_one<C, H, F, L>(
    stream: L::Stream,
    outbox: Arc<Outbox>,
    guard: ConnectionGuard,
    server: Arc<Server<C, H>>,
) -> impl Future<Output = ()>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    L: Listener,
{
    let busy_poll = server.limits.busy_poll;
    let wrap = |stream| L::busy_poll(stream, busy_poll);
    let mut connection = Connection::<C, H, F, _>::new(stream, wrap, L::has_left, outbox, server);
    async move {
        connection.run(true).await;
        drop(connection);
        drop(guard);
    }
}

impl<C, H, L: fmt::Debug, F> fmt::Debug for Serve<C, H, L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("limits", &self.server.limits)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kakehi_channel::{Json, Request};
    use tokio::net::UnixStream;

    use super::*;
    use crate::{Context, Peer, Socket};

    #[tokio::test]
    async fn an_idle_connection_has_no_room_for_a_request_or_its_parts() {
        let handler = async |_: Request<String>, _: Context| Ok::<_, String>(String::new());
        let server = Arc::new(Server::new(handler));
        let outbox = Arc::new(server.outbox(Peer::own()));
        let guard = server.shared().connect(&outbox, &server.limits).unwrap();
        let (stream, _theirs) = UnixStream::pair().unwrap();
        let task = serve_one::<String, _, Json, Socket>(stream, outbox, guard, server);
        // Apart from the connection, the task has room for a guard, a span and one future.
        let connection = size_of::<Connection<String, (), Json, UnixStream>>();
        let rest = size_of_val(&task) - connection;
        assert!(rest <= 256, "{rest} bytes beside {connection}");
    }
}
