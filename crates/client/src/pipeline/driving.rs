//! How a pipeline writes and reads at the same time.

use std::task::{Context, Poll, ready};

use futures::{SinkExt, StreamExt};
use kakehi_channel::{Decode, Encode, Error as ChannelError, Reply};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Pipeline, UnderWay};
use crate::{
    Call, Error, Outcome,
    clocks::Wait,
    kind::{During, Kind},
    link::Link,
    verdict::Verdict,
};

/// What is gathered before it is written, in bytes.
const HIGH_WATER: usize = 64 * 1024;

impl<I, Tx, Rx, F, S> Pipeline<'_, I, Tx, Rx, F, S>
where
    I: Iterator<Item = Tx>,
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn start(&mut self) {
        self.wait = Some(Wait::start(self.clocks));
        self.link = self.slot.take();
        match self.link.as_mut().map(Link::check) {
            Some(Ok(())) => {}
            Some(Err(why)) => self.break_off(why),
            None => self.break_off(Kind::Closed),
        }
    }

    /// All was answered: the connection is free for what comes next.
    pub(super) fn finish(&mut self) {
        if let Some(link) = self.link.take()
            && link.is_clean()
        {
            *self.slot = Some(link);
        }
    }

    /// Writes as much as the server takes.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
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
        if self.under_way.len() > self.window / 2 {
            return;
        }
        while self.under_way.len() < self.window && link.channel.staged() < HIGH_WATER {
            let Some(mut message) = self.messages.next() else { return };
            message.prepare(wait.remaining());
            let before = link.channel.staged();
            self.under_way.push_back(match link.stage(&message) {
                Ok(()) => UnderWay::Staged { id: message.into_id(), start: self.staged },
                Err(error) => UnderWay::Failed(Error::new(Outcome::NotSent, error)),
            });
            self.staged += (link.channel.staged() - before) as u64;
        }
    }

    /// The final response to the first request under way; `None` if it was progress, or if the
    /// connection broke.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Rx, Error<Rx>>>> {
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
