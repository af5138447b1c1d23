//! Many requests at once on one connection.

use std::{
    collections::VecDeque,
    fmt,
    iter::Fuse,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{SinkExt, Stream, StreamExt};
use kakehi_channel::{Decode, Encode, Error as ChannelError, Json, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tracing::debug;

use crate::{
    Call, Clocks, Error, Outcome,
    clocks::{Wait, limit},
    kind::{During, Kind},
    link::Link,
    verdict::Verdict,
};

/// How many requests may be under way: what is known of each takes memory.
const WINDOW: usize = 1024;

/// What is gathered before it is written, in bytes.
const HIGH_WATER: usize = 64 * 1024;

/// The outcomes of many requests on one connection, in the order of the requests: a [`Stream`]
/// that ends after the last one.
///
/// Each item is what awaiting that request alone would give: the final response, or an error with
/// its outcome. Progress is not shown. Requests are taken from the iterator as they can be
/// written: at most 1,024 are under way, and 64 KiB gathered. While the server does not read,
/// what it answers is read: the two cannot wait for each other.
///
/// The timeout is for each response, whichever request it belongs to; the deadline is for all of
/// the pipeline. When either runs out, or the connection fails, each request that is left gets an
/// error: unknown if any of it was written, not sent otherwise.
///
/// Dropped before its end, it closes the connection.
#[must_use = "nothing is sent unless it is polled"]
pub struct Pipeline<'c, I, Tx, Rx, F = Json, S = UnixStream> {
    messages: Fuse<I>,
    clocks: Clocks,
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

impl<'c, I: Iterator<Item = Tx>, Tx, Rx, F, S> Pipeline<'c, I, Tx, Rx, F, S> {
    pub(crate) fn new(
        messages: I,
        clocks: Clocks,
        slot: &'c mut Option<Link<Tx, Rx, F, S>>,
    ) -> Self {
        Self {
            messages: messages.fuse(),
            clocks,
            wait: None,
            slot,
            link: None,
            under_way: VecDeque::new(),
            staged: 0,
            unwritable: None,
            broken: None,
        }
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
            match this.under_way.pop_front() {
                Some(UnderWay::Failed(error)) => return Poll::Ready(Some(Err(error))),
                Some(staged) => this.under_way.push_front(staged),
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

impl<I, Tx, Rx, F, S> Pipeline<'_, I, Tx, Rx, F, S>
where
    I: Iterator<Item = Tx>,
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn start(&mut self) {
        self.wait = Some(Wait::start(self.clocks));
        self.link = self.slot.take();
        match self.link.as_mut().map(Link::check) {
            Some(Ok(())) => {}
            Some(Err(why)) => self.break_off(why),
            None => self.break_off(Kind::Closed),
        }
    }

    /// All was answered: the connection is free for what comes next.
    fn finish(&mut self) {
        if let Some(mut link) = self.link.take()
            && link.is_clean()
        {
            *self.slot = Some(link);
        }
    }

    /// Writes as much as the server takes.
    fn write(&mut self, cx: &mut Context<'_>) {
        while self.unwritable.is_none() {
            self.gather();
            let Some(link) = &mut self.link else { return };
            if link.channel.staged() == 0 {
                return;
            }
            match SinkExt::<Tx>::poll_flush_unpin(&mut link.channel, cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // What it has answered until then is still to be read.
                Poll::Ready(Err(error)) => self.unwritable = Some(error),
            }
        }
    }

    /// Stages requests, many at a time: none before half of those under way are answered.
    fn gather(&mut self) {
        let (Some(link), Some(wait)) = (&mut self.link, &self.wait) else { return };
        if self.under_way.len() > WINDOW / 2 {
            return;
        }
        while self.under_way.len() < WINDOW && link.channel.staged() < HIGH_WATER {
            let Some(mut message) = self.messages.next() else { return };
            message.prepare(wait.remaining());
            let before = link.channel.staged();
            self.under_way.push_back(match link.channel.stage(&message) {
                Ok(()) => UnderWay::Staged { id: message.into_id(), start: self.staged },
                Err(error) => UnderWay::Failed(Error::new(Outcome::NotSent, error)),
            });
            self.staged += (link.channel.staged() - before) as u64;
        }
    }

    /// The final response to the first request under way; `None` if it was progress, or if the
    /// connection broke.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rx, Error<Rx>>>> {
        let (Some(link), Some(wait)) = (&mut self.link, &mut self.wait) else {
            return Poll::Ready(None);
        };
        let item = match link.channel.poll_next_unpin(cx) {
            Poll::Ready(item) if wait.past_deadline().is_none() => item,
            _ => {
                let clock = ready!(wait.poll(&mut link.timer, true, cx));
                self.break_off(Kind::Clock { clock, during: During::Reading, cause: None });
                return Poll::Ready(None);
            }
        };
        wait.restart();
        match item {
            Some(Ok(reply)) => {
                let id = match self.under_way.front() {
                    Some(UnderWay::Staged { id, .. }) => id.as_deref(),
                    _ => None,
                };
                match Verdict::of(&reply, id) {
                    Ok(Verdict::Progress) => {}
                    Ok(Verdict::Final(outcome)) => {
                        self.under_way.pop_front();
                        return Poll::Ready(Some(match outcome {
                            None => Ok(reply),
                            Some(outcome) => Err(Error::answer(outcome, reply)),
                        }));
                    }
                    Err(why) => self.break_off(why),
                }
            }
            Some(Err(error)) => self.break_off(error),
            None => {
                let why = self.unwritable.take().unwrap_or_else(ChannelError::disconnected);
                self.break_off(why);
            }
        }
        Poll::Ready(None)
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
