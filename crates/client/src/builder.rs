//! The settings of a client.

use std::{fmt, marker::PhantomData, path::PathBuf, time::Duration};

use kakehi_channel::{BufferLimits, Format, Json, Request, Response};

use crate::{Client, Reconnect, Timeouts, connect::Connector, pool::Pool, timers::limit};

/// The settings of a [`Client`]. Each has a default.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::{BufferLimits, Client};
///
/// let small = BufferLimits { initial: 512, max: 4096 };
/// let client = Client::builder("/run/app/app.sock")
///     .limits(small, small)
///     .pool_size(4)
///     .idle_time(Duration::from_secs(10))
///     .timeout(Duration::from_secs(5))
///     .deadline(Duration::from_secs(60))
///     .expect_server_uid(0)
///     .build();
/// assert_eq!(client.stats().opened, 0, "it connects when it sends a request");
/// assert_eq!(client.path().to_str(), Some("/run/app/app.sock"));
/// ```
#[must_use = "it makes no client before `build` is called"]
pub struct ClientBuilder<Tx = Request, Rx = Response, F = Json> {
    connector: Connector,
    timeouts: Timeouts,
    pool_size: usize,
    idle_time: Option<Duration>,
    messages: PhantomData<fn(Tx, F) -> Rx>,
}

impl<Tx, Rx, F> ClientBuilder<Tx, Rx, F> {
    /// A client of the server that listens on `path`, with messages and a format of any types.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            connector: Connector::new(path.into()),
            timeouts: Timeouts::default(),
            pool_size: 8,
            idle_time: Some(Duration::from_secs(60)),
            messages: PhantomData,
        }
    }

    /// Sets how long a request waits for each response, unless it sets that itself. Default: 30 s.
    /// Zero or `None` means no limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.timeout = limit(timeout);
        self
    }

    /// Sets how long a request waits for the final response, unless it sets that itself. Default:
    /// no limit, as with zero or `None`.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.timeouts.deadline = limit(deadline);
        self
    }

    /// Sets how many connections may be open at once, and so how many requests may be under way;
    /// at least one. Default: 8.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets how long a connection is kept while it is idle. Default: 60 s. Zero or `None` means no
    /// limit.
    pub fn idle_time(mut self, idle_time: impl Into<Option<Duration>>) -> Self {
        self.idle_time = limit(idle_time);
        self
    }

    /// Tries again while the client cannot connect, or the server refuses a request because it is
    /// busy or shutting down. So a request waits while the server restarts. The timeout and the
    /// deadline of the request limit the wait. Default: no second try, and an error at once.
    ///
    /// A [`Pipeline`](crate::Pipeline) never tries again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use std::time::Duration;
    /// use kakehi_client::{Client, Outcome, Reconnect};
    ///
    /// let client = Client::builder("/nowhere/app.sock")
    ///     .reconnect(Reconnect::default())
    ///     .deadline(Duration::from_millis(50))
    ///     .build();
    /// let error = client.request("reload").await.unwrap_err();
    /// assert!(error.is_deadline() && error.outcome() == Outcome::NotSent);
    /// # }
    /// ```
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.connector.reconnect = Some(policy);
        self
    }

    /// Accepts only a server that runs as this user, because any user who can write to the
    /// directory could listen on the path first. See
    /// [`Error::is_wrong_server`](crate::Error::is_wrong_server). Default: any user.
    pub fn expect_server_uid(mut self, uid: u32) -> Self {
        self.connector.server_uid = Some(uid);
        self
    }

    /// Sets the memory that a connection may take for receiving and for sending. Default:
    /// [`BufferLimits::CLIENT`] and [`BufferLimits::DEFAULT`].
    pub fn limits(mut self, incoming: BufferLimits, outgoing: BufferLimits) -> Self {
        self.connector.incoming = incoming;
        self.connector.outgoing = outgoing;
        self
    }

    /// Sets how long a request polls for its first response before its task sleeps. Default:
    /// [`BUSY_POLL`](crate::BUSY_POLL), 50 µs. Zero or `None` means never.
    ///
    /// Most servers answer before a sleeping core could wake up. Polling then makes a call several
    /// times faster, and takes less processor time than sleeping. It stops by itself where a
    /// server does not answer that soon: see
    /// [`BusyPoll`](kakehi_channel::BusyPoll).
    pub fn busy_poll(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.connector.busy_poll = time.into().unwrap_or_default();
        self
    }

    /// Builds the client. It connects when it sends its first request, or in [`Client::ready`].
    #[must_use]
    pub fn build(self) -> Client<Tx, Rx, F>
    where
        F: Format + Default + Send + 'static,
    {
        let dial = self.connector.clone();
        let pool = Pool::new(self.connector, dial, self.pool_size, self.idle_time);
        Client::new(pool, self.timeouts)
    }
}

impl<C, T> ClientBuilder<Request<C>, Response<T>> {
    /// Sets the types of the commands to send and of the contents to receive.
    ///
    /// ```
    /// use kakehi_client::{Client, ClientBuilder, Request, Response};
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
    ///
    /// // The same, with the types first:
    /// let client = ClientBuilder::<Request<Command>, Response<u32>>::new("/run/app/app.sock").build();
    /// # let _ = client;
    /// ```
    pub fn typed<Command, Content>(self) -> ClientBuilder<Request<Command>, Response<Content>> {
        let Self { connector, timeouts, pool_size, idle_time, messages: _ } = self;
        ClientBuilder { connector, timeouts, pool_size, idle_time, messages: PhantomData }
    }
}

impl<Tx, Rx, F> fmt::Debug for ClientBuilder<Tx, Rx, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("connector", &self.connector)
            .field("timeouts", &self.timeouts)
            .field("pool_size", &self.pool_size)
            .field("idle_time", &self.idle_time)
            .finish()
    }
}
