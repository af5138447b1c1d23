//! The settings of a client.

use std::{fmt, marker::PhantomData, path::PathBuf, time::Duration};

use kakehi_channel::{Format, Json, Limits, Request, Response};

use crate::{
    Client, Clocks, Reconnect,
    clocks::limit,
    connect::Connector,
    open::{is_silent, open},
    pool::Pool,
};

/// The settings of a [`Client`], with defaults for all of them.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Client;
///
/// let client = Client::builder("/run/app/app.sock")
///     .pool_size(4)
///     .idle_time(Duration::from_secs(10))
///     .timeout(Duration::from_secs(5))
///     .deadline(Duration::from_secs(60))
///     .expect_server_uid(0)
///     .build();
/// assert_eq!(client.stats().opened, 0, "it connects when it has something to send");
/// ```
#[must_use = "it makes no client before `build` is called"]
pub struct ClientBuilder<Tx = Request, Rx = Response, F = Json> {
    connector: Connector,
    clocks: Clocks,
    pool_size: usize,
    idle_time: Option<Duration>,
    messages: PhantomData<fn(Tx, F) -> Rx>,
}

impl<Tx, Rx, F> ClientBuilder<Tx, Rx, F> {
    /// For a server that listens on `path`, of any wire.
    ///
    /// ```
    /// use kakehi_client::{ClientBuilder, Request, Response};
    ///
    /// let builder = ClientBuilder::<Request<u32>, Response<u32>>::new("/run/app/app.sock");
    /// # let _ = builder;
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            connector: Connector::new(path.into()),
            clocks: Clocks::DEFAULT,
            pool_size: 8,
            idle_time: Some(Duration::from_secs(60)),
            messages: PhantomData,
        }
    }

    /// How long a request waits for each response unless it says otherwise; 30 s. Zero or `None`
    /// is without limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.clocks.timeout = limit(timeout);
        self
    }

    /// How long a request waits for the final response unless it says otherwise; without limit, as
    /// zero or `None` is.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.clocks.deadline = limit(deadline);
        self
    }

    /// How many connections may be open at once, and so how many requests under way; 8. At least
    /// one.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long a connection is kept while no request needs it; 60 s. Zero or `None` is without
    /// limit.
    pub fn idle_time(mut self, idle_time: impl Into<Option<Duration>>) -> Self {
        self.idle_time = limit(idle_time);
        self
    }

    /// Tries again while no connection can be made, or the server refuses for that it is busy or
    /// shutting down, inside the clocks of the request: so a request waits while the server
    /// restarts, or has no room. Nothing was started by then. Without it, that is an error at once;
    /// a [`Pipeline`](crate::Pipeline) does not do it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use std::time::Duration;
    /// use kakehi_client::{Client, Reconnect};
    ///
    /// let client = Client::builder("/nowhere/app.sock")
    ///     .reconnect(Reconnect::default())
    ///     .deadline(Duration::from_millis(50))
    ///     .build();
    /// let error = client.request("reload").await.unwrap_err();
    /// assert!(error.is_deadline() && error.is_not_sent());
    /// # }
    /// ```
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.connector.reconnect = Some(policy);
        self
    }

    /// Refuses a server that runs as another user: on a path that others can write to, anyone
    /// could listen first. See [`Error::is_wrong_server`](crate::Error::is_wrong_server).
    pub fn expect_server_uid(mut self, uid: u32) -> Self {
        self.connector.server_uid = Some(uid);
        self
    }

    /// The memory that a connection may take for what it receives and for what it sends;
    /// [`Limits::CLIENT`] and [`Limits::DEFAULT`].
    ///
    /// ```
    /// use kakehi_client::{Client, Limits};
    ///
    /// let small = Limits { initial: 512, max: 4096 };
    /// let client = Client::builder("/run/app/app.sock").limits(small, small).build();
    /// # let _ = client;
    /// ```
    pub fn limits(mut self, incoming: Limits, outgoing: Limits) -> Self {
        self.connector.incoming = incoming;
        self.connector.outgoing = outgoing;
        self
    }

    /// For how long a request polls for its first response before it sleeps;
    /// [`BUSY_POLL`](crate::BUSY_POLL), 50 µs. Zero or `None` is never.
    ///
    /// Waking up takes a core longer than most servers take to answer. So polling makes a call
    /// several times faster, and spends less time of the CPU than sleeping, where a server answers
    /// at once; where it does not, it stops by itself: see
    /// [`Channel::expect_soon`](crate::Channel::expect_soon).
    pub fn busy_poll(mut self, patience: impl Into<Option<Duration>>) -> Self {
        self.connector.busy_poll = patience.into().unwrap_or_default();
        self
    }

    /// The client. It connects when it has something to send; [`Client::ready`] does so before.
    #[must_use]
    pub fn build(self) -> Client<Tx, Rx, F>
    where
        Tx: 'static,
        Rx: 'static,
        F: Format + Default + Send + 'static,
    {
        let size = (self.pool_size, self.idle_time);
        Client::new(Pool::new(self.connector, size, open, is_silent), self.clocks)
    }
}

impl<C, T> ClientBuilder<Request<C>, Response<T>> {
    /// Sets the types of the commands that are sent and of the contents that come back.
    ///
    /// ```
    /// use kakehi_client::{Client, Request, Response};
    ///
    /// #[derive(serde::Serialize)]
    /// #[serde(rename_all = "snake_case")]
    /// enum Command {
    ///     Reload,
    /// }
    ///
    /// let client: Client<Request<Command>, Response<u32>> =
    ///     Client::builder("/run/app/app.sock").typed().build();
    /// let reload = client.request(Command::Reload);
    /// # let _ = reload;
    /// ```
    pub fn typed<Command, Content>(self) -> ClientBuilder<Request<Command>, Response<Content>> {
        let Self { connector, clocks, pool_size, idle_time, messages: _ } = self;
        ClientBuilder { connector, clocks, pool_size, idle_time, messages: PhantomData }
    }
}

impl<Tx, Rx, F> fmt::Debug for ClientBuilder<Tx, Rx, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("connector", &self.connector)
            .field("clocks", &self.clocks)
            .field("pool_size", &self.pool_size)
            .field("idle_time", &self.idle_time)
            .finish()
    }
}
