//! One exclusive connection.

use std::{fmt, path::PathBuf, time::Duration};

use kakehi_channel::{Channel, Decode, Encode, Json, Reply, Request, Response};
use tokio::net::UnixStream;

use crate::{
    Clocks, Error, Outcome, Pipeline, RequestBuilder,
    clocks::{Wait, limit},
    connect::Connector,
    home::Home,
    kind::{During, Kind},
    link::Link,
};

/// One connection, for one request at a time, or for many written at once.
///
/// It sends `Tx`, receives `Rx`, in format `F` over the byte stream `S`, as its [`Channel`] does.
/// It never opens another: once a request on it failed to be answered, or was given up, it is
/// closed, and each later request is an error that says so. A [`Client`](crate::Client) reconnects.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use kakehi_client::Connection;
///
/// let mut connection = Connection::connect(path).await?;
/// let answer = connection.request("reload").await?;
/// assert_eq!(answer.message, "done");
/// # Ok(()) }
/// ```
pub struct Connection<Tx = Request, Rx = Response, F = Json, S = UnixStream> {
    /// Lent to the request that is under way; it comes back if that ends well.
    link: Option<Link<Tx, Rx, F, S>>,
    clocks: Clocks,
}

impl Connection {
    /// Connects to a server's socket, within [`Clocks::DEFAULT`]'s timeout.
    ///
    /// # Errors
    /// [`Error::is_unconnected`] or [`Error::is_timeout`].
    ///
    /// # Cancel safety
    /// Cancel safe: a connection is made or not.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let connector = Connector::new(path.into());
        let wait = Wait::start(Clocks::DEFAULT);
        let connected = match wait.end() {
            None => Ok(connector.connect().await),
            Some(end) => tokio::time::timeout_at(end, connector.connect()).await,
        };
        let stream = connected
            .map_err(|_| {
                let clock = wait.expired();
                Kind::Clock { clock, during: During::Connecting, cause: None }
            })
            .and_then(|connected| connected.map_err(Kind::from))
            .map_err(|kind| Error::new(Outcome::NotSent, kind))?;
        let channel = Channel::with_limits(stream, connector.incoming, connector.outgoing);
        Ok(Self::new(channel.busy_poll(connector.busy_poll)))
    }
}

/// Its settings, and requests of any wire.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use kakehi_client::{Channel, Connection, Request, Response};
///
/// let (ours, _theirs) = Channel::<Request, Response>::pair().unwrap();
/// let mut connection =
///     Connection::new(ours).timeout(Duration::from_secs(2)).deadline(Duration::from_secs(60));
/// assert!(connection.call(Request::new("ID-1")).await.unwrap_err().is_timeout());
/// assert!(!connection.is_open(), "nobody may get the answer to what was given up");
/// # }
/// ```
impl<Tx, Rx, F, S> Connection<Tx, Rx, F, S> {
    /// Of a channel on which nothing is going on. Its clocks are [`Clocks::DEFAULT`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_client::{Channel, Connection, Request, Response};
    ///
    /// let (ours, _theirs) = Channel::<Request<u32>, Response<u32>>::pair().unwrap();
    /// let connection = Connection::new(ours);
    /// assert!(connection.is_open());
    /// # }
    /// ```
    #[must_use]
    pub fn new(channel: Channel<Tx, Rx, F, S>) -> Self {
        Self { link: Some(Link::new(channel)), clocks: Clocks::DEFAULT }
    }

    /// Sets how long its requests wait for each response unless they say otherwise; zero or `None`
    /// is without limit.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.clocks.timeout = limit(timeout);
        self
    }

    /// Sets how long its requests wait for the final response unless they say otherwise; zero or
    /// `None` is without limit.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.clocks.deadline = limit(deadline);
        self
    }

    /// Begins any request of this wire. Nothing is sent before it is awaited.
    ///
    /// On Kakehi's own wire, an empty id is filled in, and the clocks are those of the builder.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use kakehi_client::{Connection, Request};
    ///
    /// let mut connection = Connection::connect(path).await?;
    /// let without_command = Request::new("My-urgent-request");
    /// assert_eq!(connection.call(without_command).await?.content, None);
    /// # Ok(()) }
    /// ```
    pub fn call(&mut self, message: Tx) -> RequestBuilder<'_, Tx, Rx, F, S> {
        RequestBuilder::new(message, self.clocks, Home::Own(&mut self.link))
    }

    /// Sends any requests of this wire: see [`pipeline`](Self::pipeline).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use futures::StreamExt;
    /// use kakehi_client::{Connection, Request};
    ///
    /// let mut connection = Connection::connect(path).await?;
    /// let requests = ["a", "b"].map(Request::new);
    /// let answers: Vec<_> = connection.pipeline_calls(requests).collect().await;
    /// assert!(answers.iter().all(Result::is_ok));
    /// # Ok(()) }
    /// ```
    pub fn pipeline_calls<I: IntoIterator<Item = Tx>>(
        &mut self,
        messages: I,
    ) -> Pipeline<'_, I::IntoIter, Tx, Rx, F, S> {
        Pipeline::new(messages.into_iter(), self.clocks, &mut self.link)
    }

    /// Whether another request can be sent, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Gives the channel back; `None` if the connection is closed.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let connection = kakehi_client::Connection::connect(path).await?;
    /// let channel = connection.into_channel().expect("it is open");
    /// assert!(channel.peer_cred().is_ok());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn into_channel(self) -> Option<Channel<Tx, Rx, F, S>> {
        self.link.map(|link| *link.channel)
    }
}

impl<C, Rx, F, S> Connection<Request<C>, Rx, F, S> {
    /// Begins a request for `command`. Nothing is sent before it is awaited.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use kakehi_client::{Connection, Status};
    ///
    /// let mut connection = Connection::connect(path).await?;
    /// let mut responses = connection.request("backup").send().await?;
    /// assert_eq!(responses.next().await.expect("progress")?.status, Status::Processing);
    /// assert_eq!(responses.await?.status, Status::Ok);
    /// # Ok(()) }
    /// ```
    pub fn request(&mut self, command: impl Into<C>) -> RequestBuilder<'_, Request<C>, Rx, F, S>
    where
        Rx: Reply,
        F: Encode<Request<C>> + Decode<Rx>,
    {
        self.call(Request::with_command("", command.into()))
    }

    /// Sends many commands without waiting for the answers in between, in as few system calls as
    /// they fit in, and yields the outcome of each, in order.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use futures::StreamExt;
    /// use kakehi_client::Connection;
    ///
    /// let mut connection = Connection::connect(path).await?;
    /// let mut outcomes = connection.pipeline(["one", "fail", "three"]);
    /// assert!(outcomes.next().await.expect("the first").is_ok());
    /// assert!(outcomes.next().await.expect("the second").unwrap_err().is_failed());
    /// assert!(outcomes.next().await.expect("the third").is_ok());
    /// assert!(outcomes.next().await.is_none());
    /// # Ok(()) }
    /// ```
    pub fn pipeline<I>(
        &mut self,
        commands: I,
    ) -> Pipeline<'_, impl Iterator<Item = Request<C>> + use<I, C, Rx, F, S>, Request<C>, Rx, F, S>
    where
        I: IntoIterator<Item: Into<C>>,
    {
        let request = |command: I::Item| Request::with_command("", command.into());
        self.pipeline_calls(commands.into_iter().map(request))
    }
}

impl<Tx, Rx, F, S: fmt::Debug> fmt::Debug for Connection<Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("link", &self.link)
            .field("clocks", &self.clocks)
            .finish()
    }
}
