//! One open connection: a channel, and the timer that goes with it.

use std::{
    fmt, mem,
    task::{Context, Poll, Waker},
};

use futures::StreamExt;
use kakehi_channel::{Channel, Decode, Encode, Error as ChannelError};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{clocks::Timer, kind::Kind};

/// Of two pointers, so that it moves between a pool and a request at next to no cost.
pub(crate) struct Link<Tx, Rx, F, S> {
    pub(crate) channel: Box<Channel<Tx, Rx, F, S>>,
    pub(crate) timer: Timer,
    /// A request was on it.
    is_used: bool,
    /// The next request is the first one.
    is_fresh: bool,
}

impl<Tx, Rx, F, S> Link<Tx, Rx, F, S> {
    pub(crate) fn new(channel: Channel<Tx, Rx, F, S>) -> Self {
        Self { channel: Box::new(channel), timer: Timer::default(), is_used: false, is_fresh: true }
    }
}

impl<Tx, Rx, F: Encode<Tx>, S: AsyncWrite + Unpin> Link<Tx, Rx, F, S> {
    pub(crate) fn stage(&mut self, message: &Tx) -> Result<(), ChannelError> {
        let staged = self.channel.stage(message);
        self.is_used |= staged.is_ok();
        // What could not be sent is not yet the first request.
        self.is_fresh = !self.is_used;
        staged
    }
}

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Link<Tx, Rx, F, S> {
    /// After a final response: whether nothing follows it, as far as was read.
    pub(crate) fn is_clean(&self) -> bool {
        // A channel that has written all and has nothing left to decode holds no memory.
        self.channel.memory() == 0
    }

    /// Before a request: whether the connection is open and silent, as it should be.
    ///
    /// What the runtime has not yet been told of is not seen; the write will tell of an end.
    pub(crate) fn check(&mut self) -> Result<(), Kind> {
        // What a server says before any request is a refusal: the answer to the first one.
        if mem::take(&mut self.is_fresh) {
            return Ok(());
        }
        match self.channel.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending if self.channel.memory() == 0 => Ok(()),
            Poll::Ready(None) => Err(ChannelError::disconnected().into()),
            Poll::Ready(Some(Err(error))) if error.is_disconnected() => Err(error.into()),
            Poll::Pending | Poll::Ready(Some(_)) => Err(Kind::Unexpected),
        }
    }
}

impl<Tx, Rx, F, S: fmt::Debug> fmt::Debug for Link<Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.fmt(f)
    }
}
