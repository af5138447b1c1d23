//! A client for many tasks: a pool of connections behind a handle that is cheap to clone.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use kakehi_channel::{Decode, Encode, Json, Reply, Request, Response};
use tokio::{net::UnixStream, time::Instant};

use crate::{
    ClientBuilder, Clocks, Error, Outcome, RequestBuilder, Stats,
    clocks::Wait,
    home::Home,
    kind::Kind,
    link::Link,
    open::{Order, Unopened},
    pool::{Place, Pool},
};

/// Asks one server, from as many tasks at once as one likes. Clones share its connections.
///
/// It sends `Tx`, receives `Rx`, in format `F`; [`ClientBuilder::typed`] sets the types of
/// commands and contents on Kakehi's own wire.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use kakehi_client::Client;
///
/// let client = Client::connect(path).await?;
/// let (one, two) = tokio::join!(client.request("one"), client.request("two"));
/// assert_eq!(one?.content.expect("its command"), "one");
/// assert_eq!(two?.content.expect("its command"), "two");
/// # Ok(()) }
/// ```
///
/// # The pool
/// - A request has a connection for itself until its final response, so that none delays another
///   and closing the connection cancels exactly that request.
/// - At most so many are open as the [`pool size`](ClientBuilder::pool_size) says. Who wants one
///   more waits, in the order of asking, under both of the request's clocks.
/// - One that has ended, or on which something is waiting to be read, is found when it is taken,
///   or by a write of which nothing leaves: the request then goes out on another one, and the
///   caller never sees it. So the first request after the server has restarted succeeds.
/// - One whose request was given up, ran out of time or failed to be answered is closed.
/// - One that has been idle for longer than the [`idle time`](ClientBuilder::idle_time) is closed
///   when a connection is next taken or given back: there is no task in the background.
/// - When the last clone is gone, the idle ones are closed; what is under way goes on.
pub struct Client<Tx = Request, Rx = Response, F = Json> {
    shared: Arc<Shared<Link<Tx, Rx, F, UnixStream>>>,
}

/// What all clones share. Requests that are under way have the pool for themselves.
struct Shared<L> {
    pool: Arc<Pool<L>>,
    clocks: Clocks,
}

/// After the last clone, what is under way goes on; no connection is kept for another request.
impl<L> Drop for Shared<L> {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Client {
    /// A client with default settings, that has one connection already.
    ///
    /// # Errors
    /// [`Error::is_unconnected`] or [`Error::is_timeout`]. A [builder](Self::builder)'s client
    /// connects only once it has something to send.
    ///
    /// # Cancel safety
    /// Cancel safe: there is a client or none.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let client = Self::builder(path).build();
        client.ready().await?;
        Ok(client)
    }

    /// Sets up a client of the server that listens on `path`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_client::{Client, Reconnect};
    ///
    /// let client = Client::builder("/run/app/app.sock")
    ///     .timeout(Duration::from_secs(2))
    ///     .reconnect(Reconnect::default())
    ///     .build();
    /// # let _ = client;
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder::new(path)
    }
}

impl<Tx, Rx, F> Client<Tx, Rx, F> {
    pub(crate) fn new(pool: Pool<Link<Tx, Rx, F, UnixStream>>, clocks: Clocks) -> Self {
        Self { shared: Arc::new(Shared { pool: Arc::new(pool), clocks }) }
    }

    /// Begins any request of this wire. Nothing is sent before it is awaited.
    ///
    /// On Kakehi's own wire, an empty id is filled in, and the clocks are those of the builder.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use kakehi_client::{Client, Request};
    ///
    /// let client = Client::connect(path).await?;
    /// let without_command = Request::new("My-urgent-request");
    /// assert_eq!(client.call(without_command).await?.content, None);
    /// # Ok(()) }
    /// ```
    pub fn call(&self, message: Tx) -> RequestBuilder<'static, Tx, Rx, F> {
        let Shared { pool, clocks } = &*self.shared;
        RequestBuilder::new(message, *clocks, Home::Pool(Place::new(pool)))
    }

    /// Has a connection ready, so that an error shows early: does nothing if one is idle.
    ///
    /// # Errors
    /// [`Error::is_unconnected`] or, after the client's clocks, [`Error::is_timeout`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::builder(path).build();
    /// client.ready().await?;
    /// assert_eq!(client.stats().idle, 1);
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self) -> Result<(), Error<Rx>> {
        let wait = Wait::start(self.shared.clocks);
        let order = Order { end: wait.end(), failures: 0, cause: None };
        let kind = match Place::new(&self.shared.pool).open(order).await {
            Ok(mut opened) => {
                opened.place.give_back(opened.link, Instant::now());
                return Ok(());
            }
            Err(Unopened::Failed(error)) => Kind::Unconnected(error),
            Err(Unopened::Late { during, cause }) => {
                Kind::Clock { clock: wait.expired(), during, cause }
            }
        };
        Err(Error::new(Outcome::NotSent, kind))
    }

    /// The counters as they are now: of all clones together.
    ///
    /// ```
    /// let client = kakehi_client::Client::builder("/run/app/app.sock").build();
    /// assert_eq!((client.stats().busy, client.path().to_str()), (0, Some("/run/app/app.sock")));
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.pool.stats()
    }

    /// Where the server listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.pool.connector.path
    }
}

impl<C, Rx, F> Client<Request<C>, Rx, F> {
    /// Begins a request for `command`. Nothing is sent before it is awaited.
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
    pub fn request(&self, command: impl Into<C>) -> RequestBuilder<'static, Request<C>, Rx, F>
    where
        Rx: Reply,
        F: Encode<Request<C>> + Decode<Rx>,
    {
        self.call(Request::with_command("", command.into()))
    }
}

impl<Tx, Rx, F> Clone for Client<Tx, Rx, F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Tx, Rx, F> fmt::Debug for Client<Tx, Rx, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { pool, clocks } = &*self.shared;
        f.debug_struct("Client").field("pool", pool).field("clocks", clocks).finish()
    }
}
