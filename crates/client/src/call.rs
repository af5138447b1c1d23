//! One request, from the choice of a connection to the final response, as one state machine that
//! is polled by reference.
//!
//! ```text
//!   Start ──> Opening ──> Writing ──> Reading ──> Over
//!     └── an idle one ──────^ │          │
//!     ^── not sent, refused, or lost while it may be sent again
//! ```

use std::{
    fmt, mem,
    task::{Context, Poll, ready},
};

use kakehi_channel::{
    ByteStream, ChannelError, ErrorKind, ResponseMessage, Speaks, Status, low_level::LowLevel,
};
use kakehi_time::Timer;
use tokio::time::Instant;
use tracing::{Span, debug, debug_span, field};

use crate::{
    Error, Outcome, RequestMessage, Timeouts,
    connect::Unconnected,
    error::{Kind, WaitingFor},
    pool::{Source, Transport},
    timers::{Expired, Timers},
};

/// How often an idempotent request is sent again after its connection was lost. It is bounded,
/// because the request may be what crashes the server.
const RESENDS: u32 = 2;

/// A request that is under way.
///
/// The fields are dropped in this order: the connection is closed before its slot is free.
pub(crate) struct Call<'c, Tx, Rx, F, S> {
    phase: Phase<Rx, F, S>,
    source: Source<'c, Transport<F, S>>,
    message: Message<Tx>,
    pub(crate) timers: Timers,
    /// How often it may be sent again after its connection was lost.
    resends: u32,
    /// It was sent on a connection that was lost, so it may have been done then.
    was_lost: bool,
    /// A frame arrived that is not a response: what follows may not be the next request's.
    is_tainted: bool,
    span: Span,
}

enum Phase<Rx, F, S> {
    Start,
    /// Waits for a connection, up to the time of this timer.
    Opening(Timer),
    /// `size` bytes are to be written. A connection that was idle may have ended since.
    Writing {
        transport: Transport<F, S>,
        size: usize,
        is_reused: bool,
    },
    /// `early` arrived while the request was still being written. It is boxed because that is
    /// rare.
    Reading {
        transport: Transport<F, S>,
        early: Option<Box<Result<Rx, ChannelError>>>,
    },
    Over,
}

/// The request, while it may have to be sent again; then its id alone.
enum Message<Tx> {
    Whole(Tx),
    Id(Option<String>),
}

impl<'c, Tx: RequestMessage, Rx, F, S> Call<'c, Tx, Rx, F, S> {
    pub(crate) fn new(
        mut message: Tx,
        timeouts: Timeouts,
        is_idempotent: bool,
        source: Source<'c, Transport<F, S>>,
    ) -> Self {
        message.prepare(timeouts.limits());
        let (outcome, kind) = (field::Empty, field::Empty);
        let span = debug_span!("request", id = message.id(), outcome, otel.kind = kind);
        #[cfg(feature = "opentelemetry")]
        if let Some(trace) = kakehi_channel::TraceContext::of(&span) {
            message.set_trace(trace);
        }
        Self {
            phase: Phase::Start,
            source,
            message: Message::Whole(message),
            timers: Timers::start(timeouts, Tx::SENDS_DEADLINE),
            resends: if is_idempotent { RESENDS } else { 0 },
            was_lost: false,
            is_tainted: false,
            span,
        }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        match &self.message {
            Message::Whole(message) => message.id(),
            Message::Id(id) => id.as_deref(),
        }
    }

    /// The caller has seen a response, so the request is not sent again.
    pub(crate) fn has_shown(&mut self) {
        self.resends = 0;
        self.forget();
    }

    /// Drops the request, except for its id.
    fn forget(&mut self) {
        if !matches!(self.message, Message::Whole(_)) {
            return;
        }
        if let Message::Whole(message) = mem::replace(&mut self.message, Message::Id(None)) {
            self.message = Message::Id(message.into_id());
        }
    }
}

impl<Tx, Rx, F, S> Call<'_, Tx, Rx, F, S> {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    fn reconnects(&mut self) -> bool {
        self.source.slot().is_some_and(|slot| slot.reconnects())
    }

    /// Ends in an error.
    fn fail(&mut self, outcome: Outcome, kind: impl Into<Kind>) -> Error<Rx> {
        let error = Error::new(self.outcome(outcome), kind);
        debug!(parent: &self.span, %error, "the request failed");
        self.end(Some(error.outcome()), Instant::now());
        error
    }

    /// The outcome of all attempts, if that of the last one is `outcome`.
    fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::NotSent | Outcome::Refused if self.was_lost => Outcome::Unknown,
            outcome => outcome,
        }
    }

    /// Closes the connection, unless it was given back, and counts the request.
    fn end(&mut self, outcome: Option<Outcome>, now: Instant) {
        self.phase = Phase::Over;
        let elapsed = now.duration_since(self.timers.started());
        if let Some(slot) = self.source.slot() {
            slot.release();
            slot.pool.counters.count(outcome, elapsed);
        }
        let outcome = outcome.map_or("ok", Outcome::name);
        self.span.record("outcome", outcome);
        debug!(parent: &self.span, outcome, ?elapsed, "the request has ended");
    }

    /// The outcome if the request is given up now.
    fn present_outcome(&self) -> Outcome {
        self.outcome(match &self.phase {
            Phase::Start | Phase::Opening(_) => Outcome::NotSent,
            Phase::Writing { transport, size, .. } if transport.channel.staged() == *size => {
                Outcome::NotSent
            }
            Phase::Writing { .. } | Phase::Reading { .. } | Phase::Over => Outcome::Unknown,
        })
    }

    fn out_of_time(&mut self, expired: Expired, waiting_for: WaitingFor) -> Error<Rx> {
        let outcome = self.present_outcome();
        // The cause of an earlier failure says nothing about an attempt that was sent.
        let slot = self.source.slot().filter(|_| outcome == Outcome::NotSent);
        let cause = slot.and_then(|slot| slot.waiting_for().1);
        self.fail(outcome, Kind::Expired { expired, waiting_for, cause })
    }
}

/// A response with its verdict, or an error.
type Item<Rx> = Result<(Verdict, Rx), Error<Rx>>;

impl<Tx, Rx, F, S> Call<'_, Tx, Rx, F, S>
where
    Tx: RequestMessage,
    Rx: ResponseMessage,
    F: Speaks<Tx, Rx>,
    S: ByteStream,
{
    /// Ready once all of the request is written.
    #[inline]
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Rx>>> {
        loop {
            match &mut self.phase {
                Phase::Start => self.start()?,
                Phase::Opening(_) => ready!(self.poll_opened(cx))?,
                Phase::Writing { .. } => ready!(self.poll_written(cx))?,
                Phase::Reading { .. } | Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Takes an idle connection, or begins to wait for one.
    fn start(&mut self) -> Result<(), Error<Rx>> {
        match &mut self.source {
            Source::Own(own) => {
                let checked = match own.take() {
                    None => Err(Kind::Closed),
                    Some(mut transport) => transport.check::<Rx>().map(|()| transport),
                };
                match checked {
                    Ok(transport) => self.stage(transport, false),
                    Err(kind) => Err(self.fail(Outcome::NotSent, kind)),
                }
            }
            Source::Pool(slot) => {
                if let Some(transport) = slot.try_take(self.timers.started()) {
                    return self.stage(transport, true);
                }
                self.phase = Phase::Opening(Timer::default());
                Ok(())
            }
        }
    }

    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Rx>>> {
        let (Phase::Opening(timer), Source::Pool(slot)) = (&mut self.phase, &mut self.source)
        else {
            return Poll::Ready(Ok(()));
        };
        Poll::Ready(match slot.poll_transport(cx) {
            Poll::Ready(Ok((transport, is_reused))) => self.stage(transport, is_reused),
            Poll::Ready(Err(error)) => Err(self.fail(Outcome::NotSent, error)),
            Poll::Pending => {
                let expired = ready!(self.timers.poll(timer, false, cx));
                let (waiting_for, cause) = slot.waiting_for();
                Err(self.fail(Outcome::NotSent, Kind::Expired { expired, waiting_for, cause }))
            }
        })
    }

    fn stage(&mut self, mut transport: Transport<F, S>, is_reused: bool) -> Result<(), Error<Rx>> {
        // It is whole until all of it is written.
        if let Message::Whole(message) = &mut self.message {
            message.prepare(self.timers.remaining());
            if let Err(error) = transport.stage(message) {
                self.source.give_back(transport, Instant::now());
                return Err(self.fail(Outcome::NotSent, error));
            }
        }
        let size = transport.channel.staged();
        self.phase = Phase::Writing { transport, size, is_reused };
        Ok(())
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Rx>>> {
        let Phase::Writing { transport, size, is_reused } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let error = match transport.channel.poll_write(cx) {
            Poll::Pending => {
                let expired = ready!(self.timers.poll(&mut transport.timer, false, cx));
                return Poll::Ready(Err(self.out_of_time(expired, WaitingFor::Write)));
            }
            Poll::Ready(Ok(())) => {
                self.read(None);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => error,
        };
        let (is_unsent, is_reused) = (transport.channel.staged() == *size, *is_reused);
        if is_unsent && is_reused {
            debug!(parent: &self.span, %error, "the idle connection has ended");
            self.phase = Phase::Start;
            return Poll::Ready(Ok(()));
        }
        // A server that stops reading may have sent a refusal before it closed. Then that is there,
        // or about to arrive.
        match transport.channel.poll_message(cx) {
            Poll::Ready(Some(early)) if !early.as_ref().is_err_and(ChannelError::is_fatal) => {
                self.read(Some(Box::new(early)));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(_) => {}
            Poll::Pending => {
                let expired = ready!(self.timers.poll(&mut transport.timer, false, cx));
                return Poll::Ready(Err(self.out_of_time(expired, WaitingFor::Write)));
            }
        }
        Poll::Ready(if is_unsent { self.miss(error) } else { self.lose(error) })
    }

    fn read(&mut self, early: Option<Box<Result<Rx, ChannelError>>>) {
        let phase = mem::replace(&mut self.phase, Phase::Over);
        if let Phase::Writing { mut transport, .. } = phase {
            transport.channel.stream_mut().expect_soon();
            self.phase = Phase::Reading { transport, early };
        }
        if self.resends == 0 && !self.reconnects() {
            self.forget();
        }
    }

    /// A new connection failed before anything was sent: takes another if the client reconnects.
    fn miss(&mut self, error: ChannelError) -> Result<(), Error<Rx>> {
        match self.source.slot().filter(|slot| slot.reconnects()) {
            None => Err(self.fail(Outcome::NotSent, error)),
            Some(slot) => {
                slot.retry(None);
                debug!(parent: &self.span, %error, "not sent: trying again");
                self.phase = Phase::Start;
                Ok(())
            }
        }
    }

    /// The server refused the request and did not start it: sends it again on another connection
    /// if the client reconnects, the reason may pass, and there is time.
    #[cold]
    fn comes_back(&mut self, response: &Rx) -> bool {
        use kakehi_channel::Refusal::{Busy, ShuttingDown};
        let may_pass = matches!(response.refusal(), Some(Busy | ShuttingDown));
        let is_whole = matches!(self.message, Message::Whole(_));
        let Some(slot) = self.source.slot().filter(|slot| slot.reconnects()) else { return false };
        if !may_pass || !is_whole || !self.timers.resume() {
            return false;
        }
        let message = response.message().unwrap_or_default().to_owned();
        let span = &self.span;
        debug!(parent: span, message, "refused: trying again");
        slot.retry(Some(Unconnected::Refused { message }));
        self.phase = Phase::Start;
        true
    }

    /// The request was sent, and the connection is lost: sends it again if it is idempotent.
    fn lose(&mut self, error: ChannelError) -> Result<(), Error<Rx>> {
        if self.resends == 0
            || error.kind() != ErrorKind::Disconnected
            || self.source.slot().is_none()
        {
            return Err(self.fail(Outcome::Unknown, error));
        }
        debug!(parent: &self.span, %error, "lost: sending it again");
        self.resends -= 1;
        self.was_lost = true;
        self.timers.renew();
        self.phase = Phase::Start;
        Ok(())
    }

    /// The next response, keep-alives too, each with its verdict; `None` after the final one.
    #[inline]
    pub(crate) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<Rx>>> {
        loop {
            ready!(self.poll_sent(cx))?;
            let Phase::Reading { transport, early } = &mut self.phase else {
                return Poll::Ready(None);
            };
            let received = match early.take() {
                Some(early) => Some(*early),
                None => match transport.channel.poll_message(cx) {
                    Poll::Ready(received) => received,
                    Poll::Pending => {
                        let expired = ready!(self.timers.poll(&mut transport.timer, true, cx));
                        return Poll::Ready(Some(Err(self.late(expired))));
                    }
                },
            };
            let lost = match received {
                Some(Ok(response)) => match self.judge(response) {
                    Some(item) => return Poll::Ready(Some(item)),
                    None => continue,
                },
                Some(Err(error)) if !error.is_fatal() => match self.judge_envelope(error) {
                    Some(item) => return Poll::Ready(Some(item)),
                    None => continue,
                },
                Some(Err(error)) => error,
                None => ChannelError::disconnected(),
            };
            self.lose(lost)?;
        }
    }

    /// The error of a response that is no event or reply.
    #[cold]
    pub(crate) fn error(&self, verdict: Verdict, response: Rx) -> Error<Rx> {
        match verdict {
            Verdict::Final(Some(outcome)) => {
                Error::from_answer(outcome, response, self.timers.is_past_deadline())
            }
            _ => Error::new(Outcome::Unknown, Kind::UnknownStatus).with_response(response),
        }
    }

    /// The next response that the caller is shown: not a keep-alive.
    pub(crate) fn poll_shown(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<Rx>>> {
        loop {
            let item = ready!(self.poll_response(cx));
            if matches!(item, Some(Ok((Verdict::KeepAlive, _)))) {
                continue;
            }
            // After a timeout, the caller has not seen a response.
            if !matches!(&item, Some(Err(error)) if error.kind() == ErrorKind::Timeout) {
                self.has_shown();
            }
            return Poll::Ready(item);
        }
    }

    /// Decides whether this is a response to this request, and whether it is the final one.
    /// `None`: the next one is to be read.
    #[inline]
    fn judge(&mut self, response: Rx) -> Option<Item<Rx>> {
        let verdict = match Verdict::of(&response, self.id()) {
            Ok(verdict) => verdict,
            Err(kind) => {
                return Some(Err(self.fail(Outcome::Unknown, kind).with_response(response)));
            }
        };
        let Verdict::Final(outcome) = verdict else {
            self.timers.restart();
            // The deadline holds, however much progress arrives.
            return match self.timers.admit() {
                Ok(true) => Some(Ok((verdict, response))),
                Ok(false) => None,
                Err(expired) => Some(Err(self.late(expired))),
            };
        };
        if outcome == Some(Outcome::Refused) && self.comes_back(&response) {
            return None;
        }
        Some(Ok((Verdict::Final(self.finish(outcome)), response)))
    }

    /// A frame cannot be decoded as a response. Its envelope counts, if that can be decoded.
    #[cold]
    fn judge_envelope(&mut self, error: ChannelError) -> Option<Item<Rx>> {
        let Some(response) = envelope::<Rx>(&error) else {
            self.timers.restart();
            self.is_tainted = true;
            return Some(Err(Error::new(Outcome::Unknown, error)));
        };
        if response.status() == Some(Status::Ok) && Verdict::of(&response, self.id()).is_ok() {
            self.finish(Some(Outcome::Done));
            return Some(Err(Error::unreadable(error, response)));
        }
        Some(match self.judge(response)? {
            // Progress with a content is not a keep-alive, even without a message.
            Ok((Verdict::KeepAlive, response)) => Ok((Verdict::Progress, response)),
            item => item,
        })
    }

    /// The time for a response is over. A deadline ends the request. After a timeout it goes on,
    /// for a caller that wants to wait longer.
    fn late(&mut self, expired: Expired) -> Error<Rx> {
        match expired {
            Expired::Deadline(_) => self.out_of_time(expired, WaitingFor::Response),
            Expired::Timeout(_) => {
                Error::new(Outcome::Unknown, Kind::expired(expired, WaitingFor::Response))
            }
        }
    }

    /// Gives the connection back, unless more may follow on it. Returns the outcome of all
    /// attempts.
    fn finish(&mut self, outcome: Option<Outcome>) -> Option<Outcome> {
        let now = Instant::now();
        // A server that refuses mostly closes, and a new connection costs next to nothing.
        if let Phase::Reading { transport, .. } = mem::replace(&mut self.phase, Phase::Over)
            && !self.is_tainted
            && outcome != Some(Outcome::Refused)
            && transport.is_clean()
        {
            self.source.give_back(transport, now);
        }
        let outcome = outcome.map(|outcome| self.outcome(outcome));
        self.end(outcome, now);
        outcome
    }
}

/// The meaning of one response for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A keep-alive.
    KeepAlive,
    /// More responses will follow.
    Progress,
    /// It is the final response: OK, or the outcome that an ERROR means.
    Final(Option<Outcome>),
}

impl Verdict {
    /// The verdict on a response to the request with the id `expected`, if its protocol has ids.
    #[inline]
    pub(crate) fn of<Rx: ResponseMessage>(
        response: &Rx,
        expected: Option<&str>,
    ) -> Result<Self, Kind> {
        let status = response.status();
        if let (Some(expected), Some(found)) = (expected, response.id())
            && found != expected
            // A server that did not read the request, or could not, does not know its id.
            && !(found.is_empty() && status == Some(Status::Error))
        {
            return Err(Kind::OtherId { expected: expected.to_owned(), found: found.to_owned() });
        }
        Ok(match status.ok_or(Kind::UnknownStatus)? {
            Status::Processing if response.is_keep_alive() => Self::KeepAlive,
            Status::Processing => Self::Progress,
            Status::Ok => Self::Final(None),
            Status::Error if response.refusal().is_some() => Self::Final(Some(Outcome::Refused)),
            Status::Error => Self::Final(Some(Outcome::Failed)),
        })
    }
}

/// The envelope of a response whose content cannot be decoded, without that content.
#[cold]
pub(crate) fn envelope<Rx: ResponseMessage>(error: &ChannelError) -> Option<Rx> {
    Rx::envelope(error.payload()?)
}

/// A request that is given up closes its connection, and so the server learns of it.
impl<Tx, Rx, F, S> Drop for Call<'_, Tx, Rx, F, S> {
    fn drop(&mut self) {
        if !self.is_over() {
            self.end(Some(self.present_outcome()), Instant::now());
        }
    }
}

impl<Tx, Rx, F, S> fmt::Debug for Call<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Start => "start",
            Phase::Opening(_) => "opening",
            Phase::Writing { .. } => "writing",
            Phase::Reading { .. } => "reading",
            Phase::Over => "over",
        };
        f.debug_struct("Call").field("phase", &phase).field("timers", &self.timers).finish()
    }
}
