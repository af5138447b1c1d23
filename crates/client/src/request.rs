//! A request before it is sent.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    time::Duration,
};

use kakehi_channel::{Decode, Encode, Json, Reply, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

use crate::{
    Answer, Call, Clocks, Error, Responses, clocks::limit, exchange::Exchange, home::Home,
    link::Link,
};

/// A request that is being put together: [`send`](Self::send) it to see each response, or await
/// it for the final one alone.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use std::time::Duration;
///
/// let client = kakehi_client::Client::connect(path).await?;
/// let answer = client
///     .request("reload")
///     .id("nightly-reload")
///     .timeout(Duration::from_secs(2))
///     .deadline(Duration::from_secs(60))
///     .await?;
/// assert_eq!((answer.id.as_str(), answer.message.as_str()), ("nightly-reload", "done"));
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent unless it is awaited or `send` is called"]
pub struct RequestBuilder<'c, Tx, Rx, F = Json, S = UnixStream> {
    message: Tx,
    clocks: Clocks,
    is_idempotent: bool,
    home: Home<'c, Link<Tx, Rx, F, S>>,
}

impl<C, Rx, F, S> RequestBuilder<'_, Request<C>, Rx, F, S> {
    /// The id that each response is to carry. By default, and if it is empty, it is a
    /// [`unique_id`](crate::unique_id).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.message.id = id.into();
        self
    }

    /// The worker that is asked, where a server has several.
    ///
    /// ```
    /// let client = kakehi_client::Client::builder("/run/app/app.sock").build();
    /// let request = client.request("status").worker_id(3);
    /// # let _ = request;
    /// ```
    pub fn worker_id(mut self, worker_id: u32) -> Self {
        self.message.worker_id = Some(worker_id);
        self
    }
}

impl<'c, Tx, Rx, F, S> RequestBuilder<'c, Tx, Rx, F, S> {
    pub(crate) fn new(message: Tx, clocks: Clocks, home: Home<'c, Link<Tx, Rx, F, S>>) -> Self {
        Self { message, clocks, is_idempotent: false, home }
    }

    /// How long to wait for each response; zero or `None` is without limit. The first one's clock
    /// covers all that comes before it: the wait for a connection, connecting, and writing.
    ///
    /// The server is told, and sends keep-alives often enough.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.clocks.timeout = limit(timeout);
        self
    }

    /// How long to wait for the final response, from when the request is sent off; zero or `None` is
    /// without limit.
    ///
    /// The server is told, and cancels the request then.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.clocks.deadline = limit(deadline);
        self
    }

    /// To be done twice does no harm: if the connection is lost, a [`Client`](crate::Client) sends
    /// it again under the same id, at most twice, and not after it has shown a response to the
    /// caller. A timeout is not a loss, nor is an ERROR.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::connect(path).await?;
    /// assert_eq!(client.request("status").idempotent().await?.message, "done");
    /// # Ok(()) }
    /// ```
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }
}

impl<'c, Tx, Rx, F, S> RequestBuilder<'c, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends the request, and gives its responses once all of it is written.
    ///
    /// # Errors
    /// No connection could be had ([`Error::is_unconnected`]), the request cannot be encoded or is
    /// over the limit, a clock ran out, or the connection failed. [`Error::is_not_sent`] unless
    /// some of it was written.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it gives the request up, and closes the connection if anything
    /// was staged on it; the request may have been sent. No connection is lost to others.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use futures::TryStreamExt;
    ///
    /// let client = kakehi_client::Client::connect(path).await?;
    /// let mut responses = client.request("backup").send().await?;
    /// let mut messages = vec![];
    /// while let Some(response) = responses.try_next().await? {
    ///     messages.push(response.message);
    /// }
    /// assert_eq!(messages, ["half done", "done"]);
    /// # Ok(()) }
    /// ```
    pub async fn send(self) -> Result<Responses<'c, Tx, Rx, F, S>, Error<Rx>> {
        let mut exchange = self.start();
        poll_fn(|cx| exchange.poll_sent(cx)).await?;
        exchange.wait.pause();
        Ok(Responses::new(exchange))
    }

    fn start(self) -> Exchange<'c, Tx, Rx, F, S> {
        Exchange::new(self.message, self.clocks, self.is_idempotent, self.home)
    }
}

/// The final response alone: see [`Answer`] for its errors and its cancel safety. Its clocks start
/// when it becomes that future, which `.await` does and polls it at once.
impl<'c, Tx, Rx, F, S> IntoFuture for RequestBuilder<'c, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<Rx, Error<Rx>>;
    type IntoFuture = Answer<'c, Tx, Rx, F, S>;

    fn into_future(self) -> Self::IntoFuture {
        Answer::new(self.start())
    }
}

impl<Tx, Rx, F, S> fmt::Debug for RequestBuilder<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("clocks", &self.clocks)
            .field("is_idempotent", &self.is_idempotent)
            .finish_non_exhaustive()
    }
}
