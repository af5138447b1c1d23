//! One exclusive connection.

use std::{fmt, marker::PhantomData, path::PathBuf, time::Duration};

use kakehi_channel::{BusyPoll, Channel, Json, Request, Response};
use tokio::{net::UnixStream, time::timeout};

use crate::{
    ClientSettings, Error, Outcome, Pipeline, RequestBuilder, Timeouts,
    connect::Connector,
    error::{Kind, WaitingFor},
    pool::{Source, Transport},
    timers::Expired,
};

/// One connection, for one request at a time or for a [`Pipeline`] of many.
///
/// It sends `Tx` and receives `Rx`, in format `F` over the byte stream `S`, as its [`Channel`]
/// does. It never reconnects: after a request that was given up or failed without an answer, it is
/// closed, and each later request returns an error. A [`Client`](crate::Client) reconnects.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use kakehi_client::{Connection, Request};
///
/// let mut connection = Connection::connect(path).await?;
/// let answer = connection.request("reload").await?;
/// assert_eq!(answer.message, "done");
///
/// let without_command = Request::new("My-urgent-request");
/// assert_eq!(connection.message(without_command).await?.content, None);
/// assert!(connection.into_channel().is_some());
/// # Ok(()) }
/// ```
pub struct Connection<Tx = Request, Rx = Response, F = Json, S = UnixStream> {
    /// Lent to the request that is under way, which gives it back if it ends well.
    transport: Option<Transport<F, S>>,
    timeouts: Timeouts,
    messages: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx, Rx, F> Connection<Tx, Rx, F> {
    /// Makes a connection of a channel on which no request is under way, and polls its socket for
    /// up to `time` before the task sleeps: see [`BusyPoll`].
    #[must_use]
    pub fn busy_poll(channel: Channel<Tx, Rx, F>, time: Duration) -> Self {
        Self::over(channel.busy_poll(|socket| BusyPoll::new(socket, time)))
    }
}

impl Connection {
    /// Connects to the server that listens on `path`, within 30 s.
    ///
    /// # Errors
    /// [`Unconnected`](crate::ErrorKind::Unconnected) or [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let connector = Connector { path: path.into(), settings: ClientSettings::default() };
        let kind = match timeout(TIMEOUT, connector.connect()).await {
            Ok(Ok(channel)) => return Ok(Self::over(channel)),
            Ok(Err(error)) => Kind::from(error),
            Err(_) => Kind::expired(Expired::Timeout(TIMEOUT), WaitingFor::Connection),
        };
        Err(Error::new(Outcome::NotSent, kind))
    }
}

/// Its settings, and requests that are whole messages.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use kakehi_client::{BUSY_POLL, Channel, Connection, ErrorKind, Request, Response, Timeouts};
///
/// let (ours, _theirs) = Channel::<Request, Response>::pair().unwrap();
/// assert!(Connection::busy_poll(ours, BUSY_POLL).is_open());
///
/// let (ours, _theirs) = Channel::<Request, Response>::pair().unwrap();
/// let timeouts = Timeouts { timeout: Some(Duration::from_secs(2)), ..Timeouts::default() };
/// let mut connection = Connection::new(ours).with_timeouts(timeouts);
/// assert_eq!(connection.message(Request::new("ID-1")).await.unwrap_err().kind(), ErrorKind::Timeout);
/// assert!(!connection.is_open(), "the late response must not be another request's");
/// # }
/// ```
impl<Tx, Rx, F, S> Connection<Tx, Rx, F, S> {
    /// Makes a connection of a channel on which no request is under way. Its timeouts are those of
    /// [`Timeouts::default`].
    #[must_use]
    pub fn new(channel: Channel<Tx, Rx, F, S>) -> Self {
        Self::over(channel.busy_poll(BusyPoll::never))
    }

    fn over(channel: Channel<Tx, Rx, F, BusyPoll<S>>) -> Self {
        let transport = Some(Transport::new(channel));
        Self { transport, timeouts: Timeouts::default(), messages: PhantomData }
    }

    /// Sets how long a request waits, unless it sets that itself.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Begins a request that is a whole message. It is sent when it is awaited.
    ///
    /// An empty [`Request::id`] is filled in, and the timeouts are those of the connection.
    pub fn message(&mut self, message: Tx) -> RequestBuilder<'_, Tx, Rx, F, S> {
        self.begin(message)
    }

    /// Begins a request with messages of any types.
    pub(crate) fn begin<T, R>(&mut self, message: T) -> RequestBuilder<'_, T, R, F, S> {
        RequestBuilder::new(message, self.timeouts, Source::Own(&mut self.transport))
    }

    /// Sends many requests that are whole messages: see [`pipeline`](Self::pipeline).
    pub fn pipeline_messages<I: IntoIterator<Item = Tx>>(
        &mut self,
        messages: I,
    ) -> Pipeline<'_, I::IntoIter, Tx, Rx, F, S> {
        Pipeline::new(messages.into_iter(), self.timeouts, &mut self.transport)
    }

    /// Whether another request can be sent, as far as the client knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.transport.is_some()
    }

    /// Returns the channel; `None` if the connection is closed.
    #[must_use]
    pub fn into_channel(self) -> Option<Channel<Tx, Rx, F, BusyPoll<S>>> {
        self.transport.map(|transport| transport.channel.with_messages())
    }
}

impl<C, Rx, F, S> Connection<Request<C>, Rx, F, S> {
    /// Begins a request for `command`. It is sent when it is awaited.
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
    pub fn request(&mut self, command: impl Into<C>) -> RequestBuilder<'_, Request<C>, Rx, F, S> {
        self.message(Request::with_command("", command.into()))
    }

    /// Sends many commands without waiting for the answers in between, in as few system calls as
    /// possible. Returns a stream of their outcomes, in order.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use futures::StreamExt;
    /// use kakehi_client::{Connection, Outcome, Request};
    ///
    /// let mut connection = Connection::connect(path).await?;
    /// let mut outcomes = connection.pipeline(["one", "fail", "three"]);
    /// assert!(outcomes.next().await.expect("the first").is_ok());
    /// assert!(outcomes.next().await.expect("the second").unwrap_err().outcome() == Outcome::Failed);
    /// assert!(outcomes.next().await.expect("the third").is_ok());
    /// assert!(outcomes.next().await.is_none());
    /// drop(outcomes);
    ///
    /// let requests = ["a", "b"].map(Request::new);
    /// let answers: Vec<_> = connection.pipeline_messages(requests).collect().await;
    /// assert!(answers.len() == 2 && answers.iter().all(Result::is_ok));
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
        self.pipeline_messages(commands.into_iter().map(request))
    }
}

impl<Tx, Rx, F, S: fmt::Debug> fmt::Debug for Connection<Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport)
            .field("timeouts", &self.timeouts)
            .finish()
    }
}
