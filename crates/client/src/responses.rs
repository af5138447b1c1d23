//! The responses to a request: a stream up to the final response, or that one alone.

use std::{
    fmt,
    future::{Future, IntoFuture, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::FusedStream};
use kakehi_channel::{ByteStream, Json, ResponseMessage, Speaks};
use tokio::net::UnixStream;

use crate::{
    Error, Outcome, RequestMessage,
    call::{Call, Verdict},
    error::Kind,
};

/// The responses to one request, in order: a [`Stream`] that ends after the final response.
/// Awaited, it returns the final response alone.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use std::time::Duration;
/// use kakehi_client::{Client, Status};
///
/// let client = Client::connect(path).await?;
/// let timeout = Duration::from_secs(2);
/// let mut responses = client.request("backup").timeout(timeout).send().await?;
/// while let Some(response) = responses.next_within(timeout).await? {
///     match response.status {
///         Status::Processing => println!("... {}", response.message),
///         Status::Ok => println!("{}", response.message),
///         Status::Error => eprintln!("{}", response.message),
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # Items
/// - Each response is an `Ok` item, also a final ERROR. Only `.await` returns an ERROR as an
///   `Err`. The items of a [typed command](crate::Client::call) are events, and an ERROR is an `Err`.
/// - Keep-alives restart the timeout and are skipped.
/// - A timeout is an `Err` item ([`Timeout`](crate::ErrorKind::Timeout)). The stream goes on.
/// - A frame that is not a response is an `Err` item ([`Malformed`](crate::ErrorKind::Malformed)). The stream goes
///   on, but the frame may have been the final response.
/// - If only the content of a response cannot be decoded, the response is an item without its
///   content. If it is the final OK, it is an `Err` item ([`Outcome::Done`]) that holds it.
/// - Any other error is the last item, and closes the connection: the deadline passed
///   ([`Deadline`](crate::ErrorKind::Deadline)), the connection ended ([`Disconnected`](crate::ErrorKind::Disconnected)), or a response
///   has another id ([`Unexpected`](crate::ErrorKind::Unexpected)).
///
/// # Drop
/// Dropping it before the final response closes the connection. So the server learns of it, and no
/// later request receives a response to this one.
#[must_use = "dropping it gives the request up"]
pub struct Responses<'c, Tx, Rx, F = Json, S = UnixStream> {
    pub(crate) call: Call<'c, Tx, Rx, F, S>,
}

impl<Tx: RequestMessage, Rx, F, S> Responses<'_, Tx, Rx, F, S> {
    /// The id of the request, which each response carries; `None` in a protocol without ids.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.call.id()
    }
}

impl<Tx, Rx, F, S> Responses<'_, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    /// Returns the next response, within the request's timeout; `None` after the final one.
    ///
    /// The first timeout started with the request, and stops while the caller does not wait. Each
    /// later one starts with the wait. Both continue if the wait is dropped and begun again, and
    /// restart with each keep-alive.
    ///
    /// # Errors
    /// See [the items](Self#items).
    ///
    /// # Cancel safety
    /// Cancel safe: no response is lost.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// let client = kakehi_client::Client::connect(path).await?;
    /// let mut responses = client.request("backup").id("nightly").send().await?;
    /// assert_eq!(responses.id(), Some("nightly"));
    /// let mut messages = vec![];
    /// while let Some(response) = responses.next().await {
    ///     messages.push(response?.message);
    /// }
    /// assert_eq!(messages, ["half done", "done"]);
    /// # Ok(()) }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Rx::Event, Error<Rx>>> {
        StreamExt::next(self).await
    }

    /// Returns the next response, within `timeout` instead of the request's timeout; `None` after
    /// the final one. Zero means no limit. The deadline of the request applies as always.
    ///
    /// The server does not know this timeout: it sends keep-alives at half of the request's
    /// [`timeout`](crate::RequestBuilder::timeout). If this one is shorter, set both.
    ///
    /// # Errors
    /// See [the items](Self#items).
    ///
    /// # Cancel safety
    /// Cancel safe, as [`next`](Self::next) is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), kakehi_client::Error> {
    /// use std::time::Duration;
    /// use kakehi_client::{Channel, Connection, ErrorKind, Request, Response};
    ///
    /// let (ours, mut theirs) = Channel::<Request, Response>::pair().unwrap();
    /// let mut connection = Connection::new(ours);
    /// let mut responses = connection.request("sleep").id("ID-1").send().await?;
    /// let error = responses.next_within(Duration::from_secs(2)).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Timeout);
    ///
    /// theirs.send(Response::ok("ID-1", "at last")).await.unwrap();
    /// let response = responses.next_within(Duration::from_secs(2)).await?;
    /// assert_eq!(response.expect("the final one").message, "at last");
    /// # Ok(()) }
    /// ```
    pub async fn next_within(&mut self, timeout: Duration) -> Result<Option<Rx::Event>, Error<Rx>> {
        self.call.timers.use_timeout(timeout);
        poll_fn(|cx| self.poll_event(cx)).await.transpose()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rx::Event, Error<Rx>>>> {
        let shown = ready!(self.call.poll_shown(cx));
        Poll::Ready(shown.map(|item| {
            let (verdict, response) = item?;
            response.into_event().map_err(|response| self.call.error(verdict, response))
        }))
    }
}

impl<Tx, Rx, F, S> Stream for Responses<'_, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    type Item = Result<Rx::Event, Error<Rx>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.call.timers.use_own_timeout();
        this.poll_event(cx)
    }
}

impl<Tx, Rx, F, S> FusedStream for Responses<'_, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    fn is_terminated(&self) -> bool {
        self.call.is_over()
    }
}

/// The futures in it are boxed or polled by reference, so moving it is sound.
impl<Tx, Rx, F, S> Unpin for Responses<'_, Tx, Rx, F, S> {}

impl<'c, Tx, Rx, F, S> IntoFuture for Responses<'c, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    type Output = Result<Rx::Reply, Error<Rx>>;
    type IntoFuture = FinalResponse<'c, Tx, Rx, F, S>;

    fn into_future(mut self) -> Self::IntoFuture {
        self.call.timers.use_own_timeout();
        FinalResponse { call: self.call }
    }
}

impl<Tx, Rx, F, S> fmt::Debug for Responses<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Responses").field(&self.call).finish()
    }
}

/// The final response to a request, as a future.
///
/// # Errors
/// An ERROR is an error here ([`Outcome::Failed`] or [`Outcome::Refused`]) that holds the whole
/// response. Each error of the [`Responses`] is one too, also a timeout.
///
/// # Cancel safety
/// Dropping it before it is ready gives the request up and closes the connection.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use kakehi_client::Client;
///
/// let client = Client::connect(path).await?;
/// let answer = tokio::spawn(client.request("reload").into_future());
/// assert_eq!(answer.await.unwrap()?.message, "done");
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct FinalResponse<'c, Tx, Rx, F = Json, S = UnixStream> {
    pub(crate) call: Call<'c, Tx, Rx, F, S>,
}

impl<Tx, Rx, F, S> Future for FinalResponse<'_, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    type Output = Result<Rx::Reply, Error<Rx>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut self.get_mut().call;
        loop {
            match ready!(call.poll_response(cx)) {
                Some(Ok((verdict @ Verdict::Final(outcome), response))) => {
                    let reply =
                        if outcome.is_none() { response.into_reply() } else { Err(response) };
                    return Poll::Ready(reply.map_err(|response| call.error(verdict, response)));
                }
                Some(Ok((Verdict::Progress | Verdict::KeepAlive, _))) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Error::new(Outcome::Unknown, Kind::Over))),
            }
        }
    }
}

/// The futures in it are boxed or polled by reference, so moving it is sound.
impl<Tx, Rx, F, S> Unpin for FinalResponse<'_, Tx, Rx, F, S> {}

impl<Tx, Rx, F, S> fmt::Debug for FinalResponse<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FinalResponse").field(&self.call).finish()
    }
}
