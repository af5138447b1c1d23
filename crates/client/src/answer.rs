//! The final response alone.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use kakehi_channel::{Decode, Encode, Json, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

use crate::{Call, Error, Outcome, exchange::Exchange, kind::Kind};

/// The final response to a request, as a future.
///
/// # Errors
/// An ERROR is one here ([`Error::is_failed`], or [`Error::is_refused`]), with the whole response
/// in it; and so is all that [`Responses`](crate::Responses) may yield as an `Err` item, a timeout
/// too.
///
/// # Cancel safety
/// Dropped before it is ready, it gives the request up and closes the connection.
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
pub struct Answer<'c, Tx, Rx, F = Json, S = UnixStream> {
    exchange: Exchange<'c, Tx, Rx, F, S>,
}

impl<'c, Tx, Rx, F, S> Answer<'c, Tx, Rx, F, S> {
    pub(crate) fn new(exchange: Exchange<'c, Tx, Rx, F, S>) -> Self {
        Self { exchange }
    }
}

impl<Tx, Rx, F, S> Future for Answer<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<Rx, Error<Rx>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let exchange = &mut self.get_mut().exchange;
        loop {
            match ready!(exchange.poll_reply(true, cx)) {
                Some(Ok(reply)) if exchange.is_over() => {
                    return Poll::Ready(exchange.answer(reply));
                }
                Some(Ok(_progress)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Error::new(Outcome::Unknown, Kind::Over))),
            }
        }
    }
}

/// Nothing in it is pinned: what it waits for is boxed, or polled by reference.
impl<Tx, Rx, F, S> Unpin for Answer<'_, Tx, Rx, F, S> {}

impl<Tx, Rx, F, S> fmt::Debug for Answer<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.exchange).finish()
    }
}
