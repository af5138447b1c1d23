//! Many requests at once on one connection.

use std::{
    collections::VecDeque,
    fmt,
    iter::Fuse,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use kakehi_channel::{
    ByteStream, ChannelError, Json, ResponseMessage, Speaks, low_level::LowLevel,
};
use tokio::net::UnixStream;
use tracing::debug;

use crate::{
    Error, Outcome, RequestMessage, Timeouts,
    call::{Verdict, envelope},
    error::{Kind, WaitingFor},
    pool::Transport,
    timers::Timers,
};

/// How many requests may be under way: each takes memory.
const WINDOW: usize = 1024;

/// How many bytes of requests are gathered before they are written.
const HIGH_WATER: usize = 64 * 1024;

/// The outcomes of many requests on one connection, in the order of the requests: a [`Stream`]
/// that ends after the last one.
///
/// Each item is what awaiting that request alone returns: the final response, or an error with
/// its outcome. Progress is skipped. Requests are taken from the iterator when they can be
/// written: at most 1,024 are under way ([`window`](Self::window)), and 64 KiB gathered. Responses
/// are read while the server does not read, so the two cannot wait for each other.
///
/// The timeouts are those of the connection, unless they are set. The timeout applies to each response, whichever request
/// it belongs to. The deadline applies to the whole pipeline, from the first poll. When either passes or the connection fails, each remaining request gets an
/// error: unknown if any of it was written, otherwise not sent.
///
/// Dropping it before its end closes the connection.
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
    timeouts: Timeouts,
    window: usize,
    /// Started by the first poll.
    timers: Option<Timers>,
    /// Where the connection came from, and goes back to.
    own: &'c mut Option<Transport<F, S>>,
    transport: Option<Transport<F, S>>,
    under_way: VecDeque<UnderWay<Rx>>,
    /// The bytes of all requests so far, written or not.
    staged: u64,
    unwritable: Option<ChannelError>,
    broken: Option<Broken>,
    requests: PhantomData<fn(Tx)>,
}

enum UnderWay<Rx> {
    /// `start` bytes of other requests are before it.
    Staged { id: Option<String>, start: u64 },
    /// It could not be encoded.
    Failed(Error<Rx>),
}

struct Broken {
    /// The bytes that were written before.
    written: u64,
    /// Returned with the first request that it concerns.
    why: Option<Kind>,
}

impl<'c, I: Iterator<Item = Tx>, Tx, Rx, F, S> Pipeline<'c, I, Tx, Rx, F, S> {
    pub(crate) fn new(
        messages: I,
        timeouts: Timeouts,
        own: &'c mut Option<Transport<F, S>>,
    ) -> Self {
        Self {
            messages: messages.fuse(),
            timeouts,
            window: WINDOW,
            timers: None,
            own,
            transport: None,
            under_way: VecDeque::new(),
            staged: 0,
            unwritable: None,
            broken: None,
            requests: PhantomData,
        }
    }

    /// Sets how many requests may be under way at once, at least one. Default: 1,024. Each takes
    /// memory here, and the server answers them in order.
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

    /// Sets how long to wait, in place of the timeouts of the connection.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Closes the connection: each remaining request fails.
    fn break_off(&mut self, why: impl Into<Kind>) {
        let unwritten = self.transport.take().map_or(0, |open| open.channel.staged() as u64);
        let why = why.into();
        debug!("a pipeline broke with {} requests under way", self.under_way.len());
        self.broken = Some(Broken { written: self.staged - unwritten, why: Some(why) });
    }

    /// The error of the next remaining request after the connection broke.
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

    /// All requests were answered: gives the connection back.
    fn finish(&mut self) {
        if let Some(transport) = self.transport.take().filter(Transport::is_clean) {
            *self.own = Some(transport);
        }
    }
}

/// Writes and reads at the same time.
impl<I, Tx, Rx, F, S> Pipeline<'_, I, Tx, Rx, F, S>
where
    I: Iterator<Item = Tx>,
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    fn start(&mut self) {
        self.timers = Some(Timers::start(self.timeouts, Tx::SENDS_DEADLINE));
        self.transport = self.own.take();
        match self.transport.as_mut().map(Transport::check::<Rx>) {
            Some(Ok(())) => {}
            Some(Err(why)) => self.break_off(why),
            None => self.break_off(Kind::Closed),
        }
    }

    /// Writes as much as the server reads.
    fn write(&mut self, cx: &mut Context<'_>) {
        while self.unwritable.is_none() {
            self.gather();
            let Some(transport) = &mut self.transport else { return };
            if transport.channel.staged() == 0 {
                return;
            }
            match transport.channel.poll_write(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // The responses that arrived before are still to be read.
                Poll::Ready(Err(error)) => self.unwritable = Some(error),
            }
        }
    }

    /// Stages many requests at a time: none before half of those under way are answered.
    fn gather(&mut self) {
        let (Some(transport), Some(timers)) = (&mut self.transport, &self.timers) else { return };
        if self.under_way.len() > self.window / 2 {
            return;
        }
        while self.under_way.len() < self.window && transport.channel.staged() < HIGH_WATER {
            let Some(mut message) = self.messages.next() else { return };
            message.prepare(timers.remaining());
            #[cfg(feature = "opentelemetry")]
            if let Some(trace) = kakehi_channel::TraceContext::of(&tracing::Span::current()) {
                message.set_trace(trace);
            }
            let before = transport.channel.staged();
            self.under_way.push_back(match transport.stage(&message) {
                Ok(()) => UnderWay::Staged { id: message.into_id(), start: self.staged },
                Err(error) => UnderWay::Failed(Error::new(Outcome::NotSent, error)),
            });
            self.staged += (transport.channel.staged() - before) as u64;
        }
    }

    /// The outcome of the first request under way; `None` if its progress arrived, or if the
    /// connection broke.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rx, Error<Rx>>>> {
        let (Some(transport), Some(timers)) = (&mut self.transport, &mut self.timers) else {
            return Poll::Ready(None);
        };
        let received = match transport.channel.poll_message(cx) {
            Poll::Ready(received) => {
                timers.restart();
                timers.admit().map(|_| received)
            }
            Poll::Pending => Err(ready!(timers.poll(&mut transport.timer, true, cx))),
        };
        Poll::Ready(match received {
            Err(expired) => {
                self.break_off(Kind::expired(expired, WaitingFor::Response));
                None
            }
            Ok(Some(Ok(response))) => self.judge(response, None),
            Ok(Some(Err(error))) => {
                if let Some(response) = envelope(&error) {
                    return Poll::Ready(self.judge(response, Some(error)));
                }
                self.break_off(error);
                None
            }
            Ok(None) => {
                let why = self.unwritable.take().unwrap_or_else(ChannelError::disconnected);
                self.break_off(why);
                None
            }
        })
    }

    /// Judges a response to the first request under way. `unreadable` says why its content cannot
    /// be decoded.
    fn judge(
        &mut self,
        response: Rx,
        unreadable: Option<ChannelError>,
    ) -> Option<Result<Rx, Error<Rx>>> {
        let id = match self.under_way.front() {
            Some(UnderWay::Staged { id, .. }) => id.as_deref(),
            _ => None,
        };
        let outcome = match Verdict::of(&response, id) {
            Ok(Verdict::Final(outcome)) => outcome,
            Ok(Verdict::Progress | Verdict::KeepAlive) => return None,
            Err(why) => {
                self.break_off(why);
                return None;
            }
        };
        self.under_way.pop_front();
        Some(match (outcome, unreadable) {
            (Some(outcome), _) => {
                let is_late = self.timers.as_ref().is_some_and(Timers::is_past_deadline);
                Err(Error::from_answer(outcome, response, is_late))
            }
            (None, Some(error)) => Err(Error::unreadable(error, response)),
            (None, None) => Ok(response),
        })
    }
}

impl<I, Tx, Rx, F, S> Stream for Pipeline<'_, I, Tx, Rx, F, S>
where
    I: Iterator<Item = Tx>,
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    type Item = Result<Rx, Error<Rx>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.timers.is_none() {
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
            .field("timeouts", &self.timeouts)
            .field("under_way", &self.under_way.len())
            .field("is_broken", &self.broken.is_some())
            .finish_non_exhaustive()
    }
}
