//! What a request is answered by: a stream up to the final response, or that one alone.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::FusedStream};
use kakehi_channel::{Decode, Encode, Json, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::{Instant, timeout},
};

use crate::{
    Answer, Call, Error, Outcome,
    clocks::{A_LOOK, LATE},
    exchange::Exchange,
    kind::Kind,
};

/// The responses to one request, in the order in which they come: a [`Stream`] that ends after
/// the final one. Awaited, it gives the final one alone.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use std::time::Duration;
/// use kakehi_client::{Client, Status};
///
/// let client = Client::connect(path).await?;
/// let patience = Duration::from_secs(2);
/// let mut responses = client.request("backup").timeout(patience).send().await?;
/// while let Some(response) = responses.next_within(patience).await? {
///     match response.status {
///         Status::Processing => println!("... {}", response.message),
///         Status::Ok => println!("{}", response.message),
///         Status::Error => eprintln!("{}", response.message),
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # What it yields
/// - Every response as an `Ok` item, an ERROR too: it is what the server said. Only who awaits the
///   final one alone gets an ERROR as an `Err`.
/// - No keep-alives: they restart the clock and are dropped.
/// - A timeout as an `Err` item ([`Error::is_timeout`]): one may wait again, or drop this.
/// - A frame that is no response as an `Err` item ([`Error::is_malformed`]): one may wait again,
///   but it may have been the final one.
/// - Everything else as an `Err` item after which the stream is over and the connection is
///   closed: the deadline ([`Error::is_deadline`]), the connection's end before the final response
///   ([`Error::is_disconnected`]), a response with another id ([`Error::is_unexpected`]).
///
/// # Drop
/// Dropped before the final response, it closes the connection: that is how the server learns of
/// it, and why no later request can get this one's answer.
#[must_use = "dropped, it gives the request up"]
pub struct Responses<'c, Tx, Rx, F = Json, S = UnixStream> {
    exchange: Exchange<'c, Tx, Rx, F, S>,
}

impl<'c, Tx: Call, Rx, F, S> Responses<'c, Tx, Rx, F, S> {
    pub(crate) fn new(exchange: Exchange<'c, Tx, Rx, F, S>) -> Self {
        Self { exchange }
    }

    /// The id of the request, which each response carries; `None` on a wire without ids.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::connect(path).await?;
    /// let responses = client.request("backup").id("nightly").send().await?;
    /// assert_eq!(responses.id(), Some("nightly"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.exchange.id()
    }
}

impl<Tx, Rx, F, S> Responses<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The next response, if it comes within the request's timeout; `None` after the final one.
    ///
    /// The clock of the first response has run while the request was sent, and goes on here; that
    /// of each later one starts here. Both go on when the wait is dropped and made again, and start
    /// anew with each keep-alive.
    ///
    /// # Errors
    /// See [what it yields](Self#what-it-yields).
    ///
    /// # Cancel safety
    /// Cancel safe: dropped while it waits, it has lost nothing.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::connect(path).await?;
    /// let mut responses = client.request("backup").send().await?;
    /// let mut messages = vec![];
    /// while let Some(response) = responses.next().await {
    ///     messages.push(response?.message);
    /// }
    /// assert_eq!(messages, ["half done", "done"]);
    /// # Ok(()) }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Rx, Error<Rx>>> {
        StreamExt::next(self).await
    }

    /// The next response, if it comes within `patience`, whatever the request's timeout is; zero
    /// means without limit, never "at once". The deadline counts as ever. `None` after the final
    /// one.
    ///
    /// The server is told the request's [`timeout`](crate::RequestBuilder::timeout), not this: it says
    /// that it is still at work every half of that. So give both where this is the shorter one.
    ///
    /// # Errors
    /// See [what it yields](Self#what-it-yields).
    ///
    /// # Cancel safety
    /// Cancel safe, as [`next`](Self::next) is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), kakehi_client::Error> {
    /// use std::time::Duration;
    /// use kakehi_client::{Channel, Connection, Request, Response};
    ///
    /// let (ours, mut theirs) = Channel::<Request, Response>::pair().unwrap();
    /// let mut connection = Connection::new(ours);
    /// let mut responses = connection.request("sleep").id("ID-1").send().await?;
    /// let error = responses.next_within(Duration::from_secs(2)).await.unwrap_err();
    /// assert!(error.is_timeout());
    ///
    /// theirs.send(Response::ok("ID-1", "at last")).await.unwrap();
    /// let response = responses.next_within(Duration::from_secs(2)).await?;
    /// assert_eq!(response.expect("the final one").message, "at last");
    /// # Ok(()) }
    /// ```
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Rx>, Error<Rx>> {
        self.exchange.wait.restart();
        loop {
            let mut next = poll_fn(|cx| self.exchange.poll_reply(false, cx));
            // Each turn starts anew: what came last was a keep-alive.
            let begun = Instant::now();
            let mut item = match patience {
                Duration::ZERO => Ok((&mut next).await),
                patience => timeout(patience, &mut next).await,
            };
            // A process that was stopped hears of its clock before it hears of what has come.
            if item.is_err() && begun.elapsed() > patience.saturating_add(LATE) {
                item = timeout(A_LOOK, next).await;
            }
            let late = |_| Error::new(Outcome::Unknown, Kind::patience(patience));
            match item.map_err(late)?.transpose()? {
                Some(reply) if reply.is_keep_alive() => {}
                reply => {
                    self.exchange.has_shown();
                    return Ok(reply);
                }
            }
        }
    }
}

impl<Tx, Rx, F, S> Stream for Responses<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Item = Result<Rx, Error<Rx>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let exchange = &mut self.get_mut().exchange;
        loop {
            match ready!(exchange.poll_reply(true, cx)) {
                Some(Ok(reply)) if reply.is_keep_alive() => {}
                item => {
                    exchange.has_shown();
                    return Poll::Ready(item);
                }
            }
        }
    }
}

impl<Tx, Rx, F, S> FusedStream for Responses<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn is_terminated(&self) -> bool {
        self.exchange.is_over()
    }
}

/// Nothing in it is pinned: what it waits for is boxed, or polled by reference.
impl<Tx, Rx, F, S> Unpin for Responses<'_, Tx, Rx, F, S> {}

impl<'c, Tx, Rx, F, S> IntoFuture for Responses<'c, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<Rx, Error<Rx>>;
    type IntoFuture = Answer<'c, Tx, Rx, F, S>;

    fn into_future(self) -> Self::IntoFuture {
        Answer::new(self.exchange)
    }
}

impl<Tx, Rx, F, S> fmt::Debug for Responses<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Responses").field(&self.exchange).finish()
    }
}
