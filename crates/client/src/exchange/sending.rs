//! Up to the last byte of the request, on as many connections as it takes.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use futures::{SinkExt, StreamExt};
use kakehi_channel::{Decode, Encode, Error as ChannelError, Refusal, Reply};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tracing::debug;

use super::{Exchange, Message, Phase};
use crate::{
    Call, Error, Outcome,
    connect::Unconnected,
    home::Home,
    kind::{During, Kind},
    link::Link,
    open::{Opened, Order, Unopened},
    verdict::Verdict,
};

impl<Tx, Rx, F, S> Exchange<'_, Tx, Rx, F, S>
where
    Tx: Call,
    Rx: Reply,
    F: Encode<Tx> + Decode<Rx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Ready once all of the request is written.
    #[inline]
    pub(crate) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Rx>>> {
        loop {
            match &mut self.phase {
                Phase::Start => self.start()?,
                Phase::Opening(opening) => {
                    let opened = ready!(opening.as_mut().poll(cx));
                    self.opened(opened)?;
                }
                Phase::Writing { .. } => ready!(self.poll_written(cx))?,
                Phase::Reading { .. } | Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Takes an idle connection, or asks for one.
    fn start(&mut self) -> Result<(), Error<Rx>> {
        match &mut self.home {
            Home::Own(slot) => match slot.take() {
                None => Err(self.fail(Outcome::NotSent, Kind::Closed)),
                Some(mut link) => match link.check() {
                    Ok(()) => self.write(link, false),
                    Err(kind) => Err(self.fail(Outcome::NotSent, kind)),
                },
            },
            Home::Pool(place) => {
                if let Some(link) = place.try_take(self.wait.started()) {
                    return self.write(link, true);
                }
                let (end, failures) = (self.wait.end(), self.failures);
                let cause = self.cause.take().map(|cause| *cause);
                self.phase = Phase::Opening(place.open(Order { end, failures, cause }));
                Ok(())
            }
        }
    }

    fn opened(
        &mut self,
        opened: Result<Opened<Link<Tx, Rx, F, S>>, Unopened>,
    ) -> Result<(), Error<Rx>> {
        let kind = match opened {
            Ok(Opened { link, place, is_reused }) => {
                self.home = Home::Pool(place);
                return self.write(link, is_reused);
            }
            Err(Unopened::Failed(error)) => Kind::Unconnected(error),
            Err(Unopened::Late { during, cause }) => {
                Kind::Clock { clock: self.wait.expired(), during, cause }
            }
        };
        Err(self.fail(Outcome::NotSent, kind))
    }

    /// Stages the request.
    fn write(&mut self, mut link: Link<Tx, Rx, F, S>, is_reused: bool) -> Result<(), Error<Rx>> {
        // It is whole until all of it is written.
        if let Message::Whole(message) = &mut self.message {
            message.prepare(self.wait.remaining());
            if let Err(error) = link.stage(message) {
                self.home.give_back(link, Instant::now());
                return Err(self.fail(Outcome::NotSent, error));
            }
        }
        let size = link.channel.staged();
        self.phase = Phase::Writing { link, size, is_reused };
        Ok(())
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<Rx>>> {
        let Phase::Writing { link, size, is_reused } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let error = match SinkExt::<Tx>::poll_flush_unpin(&mut link.channel, cx) {
            Poll::Pending => {
                let clock = ready!(self.wait.poll(&mut link.timer, true, cx));
                return Poll::Ready(Err(self.out_of_time(clock, During::Writing)));
            }
            Poll::Ready(Ok(())) => {
                self.read(None);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => error,
        };
        let (is_unsent, is_reused) = (link.channel.staged() == *size, *is_reused);
        if is_unsent && is_reused {
            debug!(parent: &self.span, %error, "the idle connection has ended");
            self.phase = Phase::Start;
            return Poll::Ready(Ok(()));
        }
        // A server that does not read on may have said why before it closed. The end of what it
        // said is there, or about to be.
        match link.channel.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(reply))) => {
                self.read(Some(Box::new(reply)));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(_) => {}
            Poll::Pending => {
                let clock = ready!(self.wait.poll(&mut link.timer, true, cx));
                return Poll::Ready(Err(self.out_of_time(clock, During::Writing)));
            }
        }
        Poll::Ready(if is_unsent { self.miss(error) } else { self.lose(error) })
    }

    fn read(&mut self, early: Option<Box<Rx>>) {
        let phase = mem::replace(&mut self.phase, Phase::Over);
        if let Phase::Writing { mut link, .. } = phase {
            link.channel.expect_soon();
            self.phase = Phase::Reading { link, early };
        }
        if self.again == 0 && !self.reconnects() {
            self.forget();
        }
    }

    /// Nothing was sent on a new connection: takes another if trying again was asked for.
    fn miss(&mut self, error: ChannelError) -> Result<(), Error<Rx>> {
        if !self.reconnects() {
            return Err(self.fail(Outcome::NotSent, error));
        }
        debug!(parent: &self.span, %error, "not sent: trying again");
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Start;
        Ok(())
    }

    /// It was refused for what may pass, and so was not started: sends it again on another
    /// connection, if trying again was asked for and there is time.
    #[cold]
    pub(super) fn come_back(&mut self, reply: &Rx) -> bool {
        let may_pass = matches!(reply.refusal(), Some(Refusal::Busy | Refusal::ShuttingDown));
        let is_whole = matches!(self.message, Message::Whole(_));
        let is_ours = Verdict::of(reply, self.id()).is_ok();
        if !may_pass || !is_whole || !is_ours || !self.reconnects() || !self.wait.resume() {
            return false;
        }
        let message = reply.message().unwrap_or_default().to_owned();
        debug!(parent: &self.span, message, "refused: trying again");
        self.failures = self.failures.saturating_add(1);
        self.cause = Some(Box::new(Unconnected::Refused { message }));
        self.phase = Phase::Start;
        true
    }

    /// It was sent, and the connection is gone: only an idempotent request may be sent again.
    pub(super) fn lose(&mut self, error: ChannelError) -> Result<(), Error<Rx>> {
        if self.again == 0 || !error.is_disconnected() || self.home.pool().is_none() {
            return Err(self.fail(Outcome::Unknown, error));
        }
        debug!(parent: &self.span, %error, "lost: sending it again");
        self.again -= 1;
        self.was_lost = true;
        self.wait.renew();
        self.phase = Phase::Start;
        Ok(())
    }
}
