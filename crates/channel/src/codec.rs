//! Joins [`Buffer`] and [`Format`] to tokio-util's `Framed`.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;
use kakehi_buffer::spare;
use tokio_util::codec::{Decoder, Encoder};

use crate::{BufferLimits, ChannelError, Decode, Encode, Format, format::Frame, low_level::Buffer};

/// The size of most messages in bytes, which allocators provide at little cost.
const SMALL: usize = 1024;

/// The codec of a channel: `Framed` does the IO, the codec finds and encodes frames.
///
/// Incoming memory moves between `Framed`'s read buffer and `incoming` without a copy: to
/// `incoming` after a read, and back if the first frame needs more bytes. Outgoing frames are
/// encoded into `outgoing` first, so that a failed message leaves no bytes behind.
pub(crate) struct Codec<F> {
    pub(crate) format: F,
    incoming: Buffer,
    outgoing: Buffer,
    received_bytes: u64,
}

impl<F> Codec<F> {
    pub(crate) fn new(format: F, incoming: BufferLimits, outgoing: BufferLimits) -> Self {
        Self {
            format,
            incoming: Buffer::new(incoming.initial, incoming.max),
            outgoing: Buffer::new(outgoing.initial.min(SMALL), outgoing.max),
            received_bytes: 0,
        }
    }

    /// The largest frame that is received, in bytes.
    pub(crate) fn max_incoming(&self) -> usize {
        self.incoming.max()
    }

    /// Whether all received bytes were decoded.
    pub(crate) fn is_drained(&self) -> bool {
        self.incoming.is_empty()
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The size of the first read in bytes. At least 1, because a read of 0 bytes looks like EOF.
    pub(crate) fn initial_incoming(&self) -> usize {
        self.incoming.initial().max(1)
    }

    /// How many bytes of memory the codec holds.
    pub(crate) fn memory(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity()
    }

    pub(crate) fn release_incoming(&mut self) {
        spare::put(self.incoming.take_memory());
    }

    pub(crate) fn release_outgoing(&mut self) {
        spare::put(self.outgoing.take_memory());
    }

    /// Decodes the frame that was found last, and consumes it.
    #[inline]
    pub(crate) fn take<M>(&mut self, frame: Frame) -> Result<M, ChannelError>
    where
        F: Decode<M>,
    {
        let payload = self.incoming.data().get(frame.payload).unwrap_or_default();
        // A `Deserialize` is its user's code. Its panic costs this message, not the connection.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.format.decode(payload)));
        let message = decoded
            .unwrap_or_else(|_| Err(ChannelError::malformed("its decoding panicked")))
            .map_err(|error| error.with_payload(payload));
        self.incoming.consume(frame.len);
        self.received_bytes += frame.len as u64;
        if self.incoming.is_empty() {
            spare::put(self.incoming.take_memory());
        }
        message
    }

    /// Hands bytes that were not decoded back to `Framed`.
    pub(crate) fn give_back(&mut self, source: &mut BytesMut) {
        if !self.incoming.is_empty() {
            self.incoming.give_to(source);
        }
    }

    /// Hands an unfinished frame back to `Framed`, with free space of at least its size.
    fn read_on(&mut self, source: &mut BytesMut) {
        self.incoming.shift();
        self.incoming.grow_to(2 * self.incoming.len().max(1));
        self.incoming.give_to(source);
    }
}

/// Finds frames. [`Codec::take`] decodes each one before the next is searched, because the type of
/// a message can differ from frame to frame.
impl<F: Format> Decoder for Codec<F> {
    type Item = Frame;
    type Error = ChannelError;

    #[inline]
    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, ChannelError> {
        if !source.is_empty() {
            self.incoming.take_from(source)?;
        } else if self.incoming.is_empty() {
            // `source` keeps its space for the next read.
            return Ok(None);
        }
        let found = self.format.find(self.incoming.data(), self.incoming.max())?;
        if found.is_none() {
            self.read_on(source);
        }
        Ok(found)
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, ChannelError> {
        match self.decode(source)? {
            None if !source.is_empty() => Err(ChannelError::truncated(source.len())),
            item => Ok(item),
        }
    }
}

/// Encodes by reference, so that messages can borrow.
impl<M: ?Sized, F: Encode<M>> Encoder<&M> for Codec<F> {
    type Error = ChannelError;

    #[inline]
    fn encode(&mut self, message: &M, target: &mut BytesMut) -> Result<(), ChannelError> {
        let max = self.outgoing.max();
        // Removes the bytes of a message whose encoding panicked.
        self.outgoing.reset();
        self.format
            .encode_frame(message, &mut self.outgoing, max)
            .inspect_err(|_| self.release_outgoing())?;
        self.outgoing.give_to(target);
        Ok(())
    }
}

/// A type without values, for flushing `Framed` without a message.
pub(crate) enum Nothing {}

impl<F> Encoder<Nothing> for Codec<F> {
    type Error = ChannelError;

    fn encode(&mut self, nothing: Nothing, _: &mut BytesMut) -> Result<(), ChannelError> {
        match nothing {}
    }
}
