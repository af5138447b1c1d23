//! From the first response to the final one.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use futures::StreamExt;
use kakehi_channel::{Decode, Encode, Error as ChannelError, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Exchange, Phase};
use crate::{
    Call, Error, Outcome,
    clocks::Clock,
    kind::{During, Kind},
    verdict::Verdict,
};

impl<Tx, Rx, F, S> Exchange<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The next response, a keep-alive too; `None` after the final one.
    ///
    /// With `own_clock`, it is waited for by the request's timeout; otherwise only the deadline
    /// counts, and the caller has another clock.
    #[inline]
    pub(crate) fn poll_reply(
        &mut self,
        own_clock: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Rx, Error<Rx>>>> {
        loop {
            ready!(self.poll_sent(cx))?;
            let Phase::Reading { link, early } = &mut self.phase else { return Poll::Ready(None) };
            let item = match early.take() {
                Some(reply) => Some(Ok(*reply)),
                None => match link.channel.poll_next_unpin(cx) {
                    Poll::Ready(item) => item,
                    Poll::Pending => {
                        let clock = ready!(self.wait.poll(&mut link.timer, own_clock, cx));
                        return Poll::Ready(Some(Err(self.late(clock))));
                    }
                },
            };
            self.wait.restart();
            let lost = match item {
                Some(Ok(reply)) if reply.refusal().is_some() && self.come_back(&reply) => continue,
                Some(Ok(reply)) => return Poll::Ready(Some(self.judge(reply))),
                Some(Err(error)) if !error.is_fatal() => {
                    self.is_tainted = true;
                    return Poll::Ready(Some(Err(Error::new(Outcome::Unknown, error))));
                }
                Some(Err(error)) => error,
                None => ChannelError::disconnected(),
            };
            self.lose(lost)?;
        }
    }

    /// The final response as an answer: OK, or an error that keeps it.
    pub(crate) fn answer(&self, reply: Rx) -> Result<Rx, Error<Rx>> {
        match Verdict::of(&reply, None) {
            Ok(Verdict::Final(Some(outcome))) => Err(Error::answer(self.outcome(outcome), reply)),
            _ => Ok(reply),
        }
    }

    /// A clock ran out while a response was waited for. The deadline ends the request; after a
    /// timeout it goes on, for a caller who wants to wait longer.
    fn late(&mut self, clock: Clock) -> Error<Rx> {
        match clock {
            Clock::Deadline(_) => self.out_of_time(clock, During::Reading),
            Clock::Timeout(after) => Error::new(Outcome::Unknown, Kind::patience(after)),
        }
    }

    /// Whether this is a response to this request, and whether it is the final one.
    #[inline]
    fn judge(&mut self, reply: Rx) -> Result<Rx, Error<Rx>> {
        match Verdict::of(&reply, self.id()) {
            // However much comes, and however fast: the deadline holds.
            Ok(Verdict::Progress) => match self.wait.past_deadline() {
                Some(clock) => Err(self.late(clock)),
                None => Ok(reply),
            },
            Ok(Verdict::Final(outcome)) => {
                self.finish(outcome.map(|outcome| self.outcome(outcome)), &reply);
                Ok(reply)
            }
            Err(kind) => Err(self.fail(Outcome::Unknown, kind).with_response(reply)),
        }
    }

    fn finish(&mut self, outcome: Option<Outcome>, reply: &Rx) {
        // A server that refuses mostly closes, and a new connection costs next to nothing.
        let is_refused = reply.refusal().is_some();
        let now = Instant::now();
        if let Phase::Reading { link, .. } = mem::replace(&mut self.phase, Phase::Over)
            && !self.is_tainted
            && !is_refused
            && link.is_clean()
        {
            self.home.give_back(link, now);
        }
        self.end(outcome, now);
    }
}
