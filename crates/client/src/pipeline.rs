//! Many requests at once on one connection.

mod driving;

use std::{
    collections::VecDeque,
    fmt,
    iter::Fuse,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use kakehi_channel::{Decode, Encode, Error as ChannelError, Json, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tracing::debug;

use crate::{
    Call, Clocks, Error, Outcome,
    clocks::{Wait, limit},
    kind::Kind,
    link::Link,
};

/// How many requests may be under way: what is known of each takes memory.
const WINDOW: usize = 1024;

/// The outcomes of many requests on one connection, in the order of the requests: a [`Stream`]
/// that ends after the last one.
///
/// Each item is what awaiting that request alone would give: the final response, or an error with
/// its outcome. Progress is not shown. Requests are taken from the iterator as they can be
/// written: at most 1,024 are under way ([`window`](Self::window)), and 64 KiB gathered. While the server does not read,
/// what it answers is read: the two cannot wait for each other.
///
/// The timeout is for each response, whichever request it belongs to; the deadline is for all of
/// the pipeline. When either runs out, or the connection fails, each request that is left gets an
/// error: unknown if any of it was written, not sent otherwise.
///
/// Dropped before its end, it closes the connection.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use futures::TryStreamExt;
/// use kakehi_client::{Connection, Response};
///
/// let mut connection = Connection::connect(path).await?;
/// let answers: Vec<Response> = connection.pipeline(0..1000).try_collect().await?;
/// assert_eq!(answers.len(), 1000);
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent unless it is polled"]
pub struct Pipeline<'c, I, Tx, Rx, F = Json, S = UnixStream> {
    messages: Fuse<I>,
    clocks: Clocks,
    window: usize,
    /// Both clocks run from the first poll on.
    wait: Option<Wait>,
    /// The connection's own place, while it is here.
    slot: &'c mut Option<Link<Tx, Rx, F, S>>,
    link: Option<Link<Tx, Rx, F, S>>,
    under_way: VecDeque<UnderWay<Rx>>,
    /// The bytes of all requests so far, written or not.
    staged: u64,
    unwritable: Option<ChannelError>,
    broken: Option<Broken>,
}

enum UnderWay<Rx> {
    /// Its first byte has so many others before it.
    Staged { id: Option<String>, start: u64 },
    /// It could not be encoded.
    Failed(Error<Rx>),
}

struct Broken {
    /// The bytes that were written until then.
    written: u64,
    /// Told to the first request that it concerns.
    why: Option<Kind>,
}

/// Its clocks.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// use std::time::Duration;
/// use futures::StreamExt;
///
/// let mut connection = kakehi_client::Connection::connect(path).await?;
/// let outcomes = connection.pipeline(["one", "two"]);
/// let outcomes = outcomes.timeout(Duration::from_secs(2)).deadline(Duration::from_secs(60));
/// assert_eq!(outcomes.count().await, 2);
/// # Ok(()) }
/// ```
impl<'c, I: Iterator<Item = Tx>, Tx, Rx, F, S> Pipeline<'c, I, Tx, Rx, F, S> {
    pub(crate) fn new(
        messages: I,
        clocks: Clocks,
        slot: &'c mut Option<Link<Tx, Rx, F, S>>,
    ) -> Self {
        Self {
            messages: messages.fuse(),
            clocks,
            window: WINDOW,
            wait: None,
            slot,
            link: None,
            under_way: VecDeque::new(),
            staged: 0,
            unwritable: None,
            broken: None,
        }
    }

    /// How many requests may be under way at once; 1,024. At least one. What is known of each
    /// takes memory here, and the server answers them in order.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
    /// # let (_dir, path) = server();
    /// use futures::StreamExt;
    ///
    /// let mut connection = kakehi_client::Connection::connect(path).await?;
    /// let mut answers = connection.pipeline(0..1000).window(1);
    /// while let Some(answer) = answers.next().await {
    ///     answer?; // the next request was not yet sent
    /// }
    /// # Ok(()) }
    /// ```
    pub fn window(mut self, requests: usize) -> Self {
        self.window = requests.max(1);
        self
    }

    /// How long to wait for each response; zero or `None` is without limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.clocks.timeout = limit(timeout);
        self
    }

    /// How long to wait for all of them, from the first poll on; zero or `None` is without limit.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.clocks.deadline = limit(deadline);
        self
    }

    /// Closes the connection: each request that is left fails.
    fn break_off(&mut self, why: impl Into<Kind>) {
        let unwritten = self.link.take().map_or(0, |link| link.channel.staged() as u64);
        let why = why.into();
        debug!("a pipeline broke with {} requests under way", self.under_way.len());
        self.broken = Some(Broken { written: self.staged - unwritten, why: Some(why) });
    }

    /// The error of the next request that is left after the connection broke.
    fn next_failure(&mut self, mut broken: Broken) -> Option<Error<Rx>> {
        let outcome = match self.under_way.pop_front() {
            Some(UnderWay::Failed(error)) => {
                self.broken = Some(broken);
                return Some(error);
            }
            Some(UnderWay::Staged { start, .. }) if start < broken.written => Outcome::Unknown,
            Some(UnderWay::Staged { .. }) => Outcome::NotSent,
            None => self.messages.next().map(|_| Outcome::NotSent)?,
        };
        let why = broken.why.take().unwrap_or(Kind::Closed);
        self.broken = Some(broken);
        Some(Error::new(outcome, why))
    }
}

impl<I, Tx, Rx, F, S> Stream for Pipeline<'_, I, Tx, Rx, F, S>
where
    I: Iterator<Item = Tx>,
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Item = Result<Rx, Error<Rx>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.wait.is_none() {
            this.start();
        }
        loop {
            if let Some(broken) = this.broken.take() {
                return Poll::Ready(this.next_failure(broken).map(Err));
            }
            this.write(cx);
            match this.under_way.front() {
                Some(UnderWay::Staged { .. }) => {}
                Some(UnderWay::Failed(_)) => {
                    if let Some(UnderWay::Failed(error)) = this.under_way.pop_front() {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                None => {
                    this.finish();
                    return Poll::Ready(None);
                }
            }
            if let Some(answer) = ready!(this.poll_answer(cx)) {
                return Poll::Ready(Some(answer));
            }
        }
    }
}

impl<I, Tx, Rx, F, S> Unpin for Pipeline<'_, I, Tx, Rx, F, S> {}

impl<I, Tx, Rx, F, S> fmt::Debug for Pipeline<'_, I, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("clocks", &self.clocks)
            .field("under_way", &self.under_way.len())
            .field("is_broken", &self.broken.is_some())
            .finish_non_exhaustive()
    }
}
