//! Joins [`Buffer`] and [`Format`] to tokio-util's `Framed`.

#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::{Buffer, Decode, Encode, Error, Limits, encode_frame};

/// What most messages fit into, in bytes: what an allocator gives at next to no cost.
const SMALL: usize = 1024;

/// The codec inside of a channel: `Framed` owns the IO, this owns the frames.
///
/// Incoming bytes change hands between `Framed`'s read buffer and `incoming` without being
/// copied: to here when something was read, back when the frame at their start needs more.
/// Outgoing frames are staged whole in `outgoing`, so that a message that fails to encode leaves
/// nothing behind.
pub(crate) struct Codec<F, Rx> {
    format: F,
    incoming: Buffer,
    outgoing: Buffer,
    received_bytes: u64,
    received: PhantomData<fn() -> Rx>,
}

impl<F, Rx> Codec<F, Rx> {
    pub(crate) fn new(format: F, incoming: Limits, outgoing: Limits) -> Self {
        Self {
            format,
            incoming: Buffer::new(incoming.initial, incoming.max),
            outgoing: Buffer::new(outgoing.initial.min(SMALL), outgoing.max),
            received_bytes: 0,
            received: PhantomData,
        }
    }

    /// The largest frame that is received, in bytes.
    pub(crate) fn max_incoming(&self) -> usize {
        self.incoming.max()
    }

    /// Whether all that was read has been decoded.
    pub(crate) fn is_drained(&self) -> bool {
        self.incoming.is_empty()
    }

    /// The largest frame that may be sent, in bytes.
    pub(crate) fn max_outgoing(&self) -> usize {
        self.outgoing.max()
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What is read first, in bytes: at least one, for a read of none looks like an end.
    pub(crate) fn initial_incoming(&self) -> usize {
        self.incoming.initial().max(1)
    }

    /// The memory held here, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity()
    }

    pub(crate) fn release_incoming(&mut self) {
        self.incoming.release();
    }

    pub(crate) fn release_outgoing(&mut self) {
        self.outgoing.release();
    }

    /// Hands an unfinished frame back to `Framed`, with space for at least as much again.
    fn read_on(&mut self, source: &mut BytesMut) {
        self.incoming.shift();
        while self.incoming.capacity() < 2 * self.incoming.len().max(1) && self.incoming.grow() {}
        self.incoming.give_to(source);
    }
}

impl<Rx, F: Decode<Rx>> Decoder for Codec<F, Rx> {
    /// A malformed message is an item, for `Framed` to go on behind it.
    type Item = Result<Rx, Error>;
    type Error = Error;

    #[inline]
    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, Error> {
        if !source.is_empty() {
            self.incoming.take_from(source)?;
        } else if self.incoming.is_empty() {
            // Nothing to look at; `source` has the space to read into that the channel gave it.
            return Ok(None);
        }
        let Some(frame) = self.format.find(self.incoming.data(), self.incoming.max())? else {
            self.read_on(source);
            return Ok(None);
        };
        let payload = self.incoming.data().get(frame.payload).unwrap_or_default();
        let message = self.format.decode(payload).map_err(|error| error.with_payload(payload));
        self.incoming.consume(frame.len);
        self.received_bytes += frame.len as u64;
        if self.incoming.is_empty() {
            self.incoming.release();
        }
        Ok(Some(message))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, Error> {
        match self.decode(source)? {
            None if !source.is_empty() => Err(Error::truncated(source.len())),
            item => Ok(item),
        }
    }
}

/// By reference: what is sent may borrow, and is not needed any more once it is staged.
impl<M: ?Sized, F: Encode<M>, Rx> Encoder<&M> for Codec<F, Rx> {
    type Error = Error;

    #[inline]
    fn encode(&mut self, message: &M, target: &mut BytesMut) -> Result<(), Error> {
        let max = self.outgoing.max();
        // Empty but for what a message left whose encoding panicked.
        self.outgoing.reset();
        encode_frame(&mut self.format, message, &mut self.outgoing, max)
            .inspect_err(|_| self.outgoing.release())?;
        self.outgoing.give_to(target);
        Ok(())
    }
}
