//! A client for many tasks: a pool of connections behind a handle that is cheap to clone.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Poll, ready},
};

use kakehi_channel::{Format, Json, Request, Response};
use kakehi_time::Timer;
use tokio::{net::UnixStream, time::Instant};

use crate::{
    ClientSettings, ClientStats, Error, Outcome, RequestBuilder, Timeouts,
    connect::Connector,
    error::Kind,
    pool::{Pool, Slot, Source, Transport},
    timers::Timers,
};

/// Sends requests to one server, from any number of tasks at once. Clones share its connections.
///
/// It sends `Tx` and receives `Rx`, in format `F`. [`Client::typed`] sets these types.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use kakehi_client::{Client, Request};
///
/// let client = Client::connect(path).await?;
/// let (one, two) = tokio::join!(client.request("one"), client.request("two"));
/// assert_eq!(one?.content.expect("its command"), "one");
/// assert_eq!(two?.content.expect("its command"), "two");
/// assert_eq!((client.stats().idle, client.stats().busy), (2, 0));
///
/// let without_command = Request::new("My-urgent-request");
/// assert_eq!(client.message(without_command).await?.content, None);
/// # Ok(()) }
/// ```
///
/// # The pool
/// - A request has a connection for itself until its final response. So no request delays another,
///   and closing the connection cancels exactly that request.
/// - The [`pool size`](ClientSettings::pool_size) limits the open connections. Further requests
///   wait in FIFO order. The wait counts towards the timeout and the deadline.
/// - A pooled connection that has ended, or that has something to be read, is found when it is
///   taken, or by a write that sends nothing. The request is then sent on another connection, so
///   the first request after a restart of the server succeeds.
/// - A connection is closed if its request was given up, ran out of time, or failed without an
///   answer.
/// - A connection that is idle for longer than the [`idle time`](ClientSettings::idle_time) is
///   closed when a connection is next taken or given back. No task runs in the background.
/// - When the last clone is dropped, the idle connections are closed. Requests that are under way
///   continue.
pub struct Client<Tx = Request, Rx = Response, F = Json> {
    shared: Arc<Shared<F>>,
    messages: PhantomData<fn(Tx) -> Rx>,
}

/// The state that all clones share. A pending request keeps the pool alive by itself.
struct Shared<F> {
    pool: Arc<Pool<Transport<F, UnixStream>>>,
    timeouts: Timeouts,
}

/// After the last clone, no connection is kept for another request.
impl<F> Drop for Shared<F> {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Client {
    /// Connects to the server that listens on `path`. The client has default settings, and one
    /// connection already.
    ///
    /// # Errors
    /// [`ErrorKind::Unconnected`](crate::ErrorKind::Unconnected) or [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). A client that was made by
    /// [`new`](Self::new) connects when it sends its first request.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let client = Self::new(path, ClientSettings::default());
        client.ready().await?;
        Ok(client)
    }

    /// Creates a client of the server that listens on `path`. It connects when it sends its first
    /// request, or in [`ready`](Self::ready).
    pub fn new(path: impl Into<PathBuf>, settings: ClientSettings) -> Self {
        Self::typed(path, settings)
    }
}

impl<Tx, Rx, F: Format + Default + Send + 'static> Client<Tx, Rx, F> {
    /// Creates a client with messages and a format of any types, as [`new`](Client::new) does.
    ///
    /// ```
    /// use kakehi_client::{Client, ClientSettings, Request, Response};
    ///
    /// #[derive(serde::Serialize)]
    /// #[serde(rename_all = "snake_case")]
    /// enum Command {
    ///     Reload,
    /// }
    ///
    /// let client: Client<Request<Command>, Response<u32>> =
    ///     Client::typed("/run/app/app.sock", ClientSettings::default());
    /// let reload = client.request(Command::Reload);
    /// # let _ = reload;
    /// ```
    pub fn typed(path: impl Into<PathBuf>, settings: ClientSettings) -> Self {
        let connector = Connector { path: path.into(), settings };
        let timeouts = connector.settings.timeouts();
        let pool = Arc::new(Pool::new(connector.clone(), connector));
        Self { shared: Arc::new(Shared { pool, timeouts }), messages: PhantomData }
    }
}

impl<Tx, Rx, F> Client<Tx, Rx, F> {
    /// Begins a request that is a whole message. It is sent when it is awaited.
    ///
    /// An empty [`Request::id`] is filled in, and the timeouts are those of the client.
    pub fn message(&self, message: Tx) -> RequestBuilder<'static, Tx, Rx, F> {
        self.begin(message)
    }

    /// Begins a request with messages of any types, over the same pool.
    pub(crate) fn begin<T, R>(&self, message: T) -> RequestBuilder<'static, T, R, F> {
        let Shared { pool, timeouts } = &*self.shared;
        RequestBuilder::new(message, *timeouts, Source::Pool(Slot::new(pool)))
    }

    /// Opens a connection, so that an error shows early. Does nothing if one is idle.
    ///
    /// # Errors
    /// [`Unconnected`](crate::ErrorKind::Unconnected), or [`Timeout`](crate::ErrorKind::Timeout) or [`Deadline`](crate::ErrorKind::Deadline).
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::new(path, kakehi_client::ClientSettings::default());
    /// client.ready().await?;
    /// assert_eq!(client.stats().idle, 1);
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self) -> Result<(), Error<Rx>> {
        let mut slot = Slot::new(&self.shared.pool);
        let (mut timers, mut timer) =
            (Timers::start(self.shared.timeouts, false), Timer::default());
        poll_fn(|cx| {
            let kind = match slot.poll_transport(cx) {
                Poll::Ready(Ok((transport, _))) => {
                    slot.give_back(transport, Instant::now());
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => Kind::from(error),
                Poll::Pending => {
                    let expired = ready!(timers.poll(&mut timer, false, cx));
                    let (waiting_for, cause) = slot.waiting_for();
                    Kind::Expired { expired, waiting_for, cause }
                }
            };
            Poll::Ready(Err(Error::new(Outcome::NotSent, kind)))
        })
        .await
    }

    /// The counters of all clones together.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.shared.pool.stats()
    }

    /// The path of the server's socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.pool.connector.path
    }
}

impl<C, Rx, F> Client<Request<C>, Rx, F> {
    /// Begins a request for `command`. It is sent when it is awaited.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use serde_json::json;
    ///
    /// let client = kakehi_client::Client::connect(path).await?;
    /// let answer = client.request(json!({ "echo": { "text": "hello" } })).await?;
    /// assert_eq!(answer.content.expect("its command")["echo"]["text"], "hello");
    /// # Ok(()) }
    /// ```
    pub fn request(&self, command: impl Into<C>) -> RequestBuilder<'static, Request<C>, Rx, F> {
        self.message(Request::with_command("", command.into()))
    }
}

impl<Tx, Rx, F> Clone for Client<Tx, Rx, F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), messages: PhantomData }
    }
}

impl<Tx, Rx, F> fmt::Debug for Client<Tx, Rx, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { pool, timeouts } = &*self.shared;
        f.debug_struct("Client").field("pool", pool).field("timeouts", timeouts).finish()
    }
}
