//! A request before it is sent: its message, its id and its settings.

use std::{
    fmt::{self, Write},
    future::{IntoFuture, poll_fn},
    marker::PhantomData,
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kakehi_channel::{ByteStream, Json, Request, ResponseMessage, Speaks, TraceContext};
use tokio::net::UnixStream;

use crate::{
    Error, FinalResponse, Responses, Timeouts,
    call::Call,
    pool::{Source, Transport},
};

/// A request with its settings. [`send`](Self::send) returns a stream of its responses, and
/// `.await` the final response alone.
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
///     .idempotent()
///     .await?;
/// assert_eq!((answer.id.as_str(), answer.message.as_str()), ("nightly-reload", "done"));
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent unless it is awaited or `send` is called"]
pub struct RequestBuilder<'c, Tx, Rx, F = Json, S = UnixStream> {
    message: Tx,
    timeouts: Timeouts,
    is_idempotent: bool,
    source: Source<'c, Transport<F, S>>,
    responses: PhantomData<fn() -> Rx>,
}

impl<C, Rx, F, S> RequestBuilder<'_, Request<C>, Rx, F, S> {
    /// Sets the id that each response must carry. Default, also for an empty id:
    /// [`unique_id`](crate::unique_id).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.message.id = id.into();
        self
    }

    /// Sets the trace that the request belongs to, such as that of a request which this program
    /// answers. Default: that of the message.
    pub fn trace(mut self, trace: impl Into<Option<TraceContext>>) -> Self {
        self.message.trace = trace.into();
        self
    }
}

impl<'c, Tx, Rx, F, S> RequestBuilder<'c, Tx, Rx, F, S> {
    pub(crate) fn new(
        message: Tx,
        timeouts: Timeouts,
        source: Source<'c, Transport<F, S>>,
    ) -> Self {
        let responses = PhantomData;
        Self { message, timeouts, is_idempotent: false, source, responses }
    }

    /// Sets how long to wait for each response; zero or `None` means no limit. Default: that of
    /// the client. The first timeout covers everything before the first response: the wait for a
    /// connection, connecting and writing.
    ///
    /// The timeout is sent to the server, which sends keep-alives at half of it.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.timeout = timeout.into();
        self
    }

    /// Sets how long to wait for the final response, from the start of the request; zero or `None`
    /// means no limit. Default: that of the client.
    ///
    /// The deadline is sent to the server, which cancels the request then. The client waits for
    /// the answer to that for up to 100 ms more.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.timeouts.deadline = deadline.into();
        self
    }

    /// Marks the request as idempotent, so that it may be retried: if its connection is lost, a
    /// [`Client`](crate::Client) sends it again with the same id. It does so at most twice, and
    /// not after it has returned a response to the caller. It does not retry after a timeout or an
    /// ERROR.
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    fn start(self) -> Call<'c, Tx, Rx, F, S>
    where
        Tx: RequestMessage,
    {
        Call::new(self.message, self.timeouts, self.is_idempotent, self.source)
    }
}

impl<'c, Tx, Rx, F, S> RequestBuilder<'c, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    /// Sends the request, and returns its responses once all of it is written.
    ///
    /// # Errors
    /// The client cannot connect ([`Unconnected`](crate::ErrorKind::Unconnected)), the request cannot be encoded or is
    /// too large, its timeout or deadline passed, or the connection failed. The outcome is
    /// [`NotSent`](crate::Outcome::NotSent) unless some of the request was written.
    ///
    /// # Cancel safety
    /// Dropping it gives the request up, and closes the connection if anything was staged on it.
    /// The request may have been sent.
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
        let mut call = self.start();
        poll_fn(|cx| call.poll_sent(cx)).await?;
        call.timers.pause();
        Ok(Responses { call })
    }
}

/// Returns the final response alone: see [`FinalResponse`] for its errors and its cancel safety.
/// The timeout and the deadline start when it becomes that future, which `.await` does.
impl<'c, Tx, Rx, F, S> IntoFuture for RequestBuilder<'c, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    type Output = Result<Rx::Reply, Error<Rx>>;
    type IntoFuture = FinalResponse<'c, Tx, Rx, F, S>;

    fn into_future(self) -> Self::IntoFuture {
        FinalResponse { call: self.start() }
    }
}

impl<Tx, Rx, F, S> fmt::Debug for RequestBuilder<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("timeouts", &self.timeouts)
            .field("is_idempotent", &self.is_idempotent)
            .finish_non_exhaustive()
    }
}

/// A message that a client can send as a request, in any protocol. [`ResponseMessage`] is its
/// counterpart.
///
/// [`ResponseMessage`]: crate::ResponseMessage
///
/// ```
/// use kakehi_client::RequestMessage;
///
/// /// A request in a protocol that has neither ids nor timeouts.
/// struct Question(u32);
///
/// impl RequestMessage for Question {}
///
/// assert_eq!(Question(42).id(), None);
/// ```
pub trait RequestMessage: Sized {
    /// Whether [`prepare`](Self::prepare) tells the server the deadline. The client then waits up to
    /// 100 ms after it, for the answer of the server that cancels the request. Default: `false`.
    const SENDS_DEADLINE: bool = false;

    /// Prepares the message before each time that it is written: sets an id if the protocol has
    /// ids and the message has none, and the timeouts for the server.
    ///
    /// `timeouts` has the rest of the deadline.
    fn prepare(&mut self, timeouts: Timeouts) {
        let _ = timeouts;
    }

    /// Sets the trace context, unless the message has one. Default: the protocol has none.
    ///
    /// ```
    /// use kakehi_client::{RequestMessage, Request, TraceContext};
    ///
    /// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let mut request = Request::<()>::new("ID-1");
    /// request.set_trace(TraceContext::new(parent, None).unwrap());
    /// assert_eq!(request.trace.unwrap().traceparent(), parent);
    /// ```
    fn set_trace(&mut self, trace: TraceContext) {
        let _ = trace;
    }

    /// The id that each response must carry; `None` in a protocol without ids.
    fn id(&self) -> Option<&str> {
        None
    }

    /// The same id, of a message that is no longer needed.
    fn into_id(self) -> Option<String> {
        self.id().map(str::to_owned)
    }
}

/// Replaces an empty id by a [`unique_id`].
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::{RequestMessage, Timeouts, Request};
///
/// let mut request = Request::<()>::new("");
/// request.prepare(Timeouts { timeout: None, deadline: Some(Duration::from_secs(1)) });
/// assert!(!request.id.is_empty());
/// assert_eq!((request.timeout_ms, request.deadline_ms), (None, Some(1000)));
///
/// let mut request = Request::<()>::new("ID-1");
/// request.prepare(Timeouts::default());
/// assert_eq!((request.id.as_str(), request.timeout_ms), ("ID-1", Some(30_000)));
/// assert_eq!(request.into_id().as_deref(), Some("ID-1"));
/// ```
impl<C> RequestMessage for Request<C> {
    const SENDS_DEADLINE: bool = true;

    fn prepare(&mut self, timeouts: Timeouts) {
        if self.id.is_empty() {
            self.id = unique_id();
        }
        self.timeout_ms = timeouts.timeout.map(milliseconds);
        self.deadline_ms = timeouts.deadline.map(milliseconds);
    }

    fn set_trace(&mut self, trace: TraceContext) {
        self.trace.get_or_insert(trace);
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn into_id(self) -> Option<String> {
        Some(self.id)
    }
}

/// Returns an id that is unique in this process: its pid, a hyphen, and a number that counts up
/// from 1.
///
/// ```
/// let id = kakehi_client::unique_id();
/// assert!(id.starts_with(&format!("{}-", std::process::id())));
/// assert_ne!(id, kakehi_client::unique_id());
/// ```
#[must_use]
pub fn unique_id() -> String {
    // A system call for each id would cost more than the rest of the function.
    static PREFIX: LazyLock<String> = LazyLock::new(|| format!("{}-", process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut id = String::with_capacity(PREFIX.len() + 20);
    id.push_str(&PREFIX);
    // Writing to a string cannot fail.
    let _ = write!(id, "{number}");
    id
}

/// At least 1 ms, because 0 means no limit.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}
