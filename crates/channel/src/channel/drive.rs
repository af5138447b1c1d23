//! Driving a channel: as a `Stream` and a `Sink`, or by hand.

use std::{
    marker::PhantomData,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures::{Sink, SinkExt, Stream, StreamExt, stream::FusedStream};
use kakehi_buffer::spare;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, FramedParts};

use crate::{
    BusyPoll, Channel, ChannelError, Decode, Encode, Format, codec::Nothing, format::Frame,
    low_level::Buffer,
};

/// From how many staged bytes on a feed writes.
const HIGH_WATER: usize = 64 * 1024;

/// Up to how many bytes of an unfinished frame are copied to make space for a large read.
const SMALL: usize = 4 * 1024;

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Stream for Channel<Tx, Rx, F, S> {
    type Item = Result<Rx, ChannelError>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx)
    }
}

impl<Tx, Rx, F: Format, S: AsyncRead + Unpin> Channel<Tx, Rx, F, S> {
    #[inline]
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, ChannelError>>> {
        let unread = self.framed.read_buffer().len();
        if self.framed.codec().is_drained() && unread < SMALL {
            // If the buffer has no space, `Framed` reserves only 8 bytes.
            if self.framed.codec().max_incoming() >= spare::SIZE {
                let mut memory = spare::take();
                memory.extend_from_slice(self.framed.read_buffer());
                *self.framed.read_buffer_mut() = memory;
            } else if unread == 0 {
                let size = self.framed.codec().initial_incoming();
                *self.framed.read_buffer_mut() = BytesMut::with_capacity(size);
            }
        }
        loop {
            match self.framed.poll_next_unpin(cx) {
                Poll::Pending
                    if self.unfinished() > 0 && (self.expect_rest)(self.framed.get_mut()) => {}
                polled => return polled,
            }
        }
    }

    /// Releases the read buffer before the task waits. An unfinished frame keeps at most four
    /// times its size.
    fn settle(&mut self) {
        let buffer = self.framed.read_buffer_mut();
        if buffer.is_empty() {
            spare::put(mem::take(buffer));
        } else if buffer.capacity() == spare::SIZE && buffer.len() < spare::SIZE / 2 {
            let mut memory = BytesMut::with_capacity(2 * buffer.len());
            memory.extend_from_slice(buffer);
            spare::put(mem::replace(buffer, memory));
        }
    }
}

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> FusedStream for Channel<Tx, Rx, F, S> {
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl<Tx, Rx, F: Encode<Tx>, S: AsyncWrite + Unpin> Sink<Tx> for Channel<Tx, Rx, F, S> {
    type Error = ChannelError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        if self.staged() < HIGH_WATER { Poll::Ready(Ok(())) } else { self.as_mut().poll_flush(cx) }
    }

    fn start_send(self: Pin<&mut Self>, message: Tx) -> Result<(), ChannelError> {
        self.get_mut().stage(&message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        self.get_mut().poll_write(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(self.get_mut().framed.get_mut()).poll_shutdown(cx).map_err(ChannelError::from)
    }
}

/// Drives a [`Channel`] by hand, as a server loop does: stages without waiting, receives and sends
/// messages of several types, and reads its counters.
///
/// Outside of the semver promise.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
/// use std::future::poll_fn;
/// use kakehi_channel::{Channel, low_level::LowLevel};
///
/// let (mut left, mut right) = Channel::<String, ()>::pair()?;
/// left.stage("borrowed")?;
/// assert_eq!(left.staged(), "\"borrowed\"\0".len());
/// left.flush().await?;
/// assert_eq!((left.staged(), left.memory()), (0, 0));
///
/// let text: String = poll_fn(|cx| right.poll_message(cx)).await.expect("a message")?;
/// assert_eq!((text.as_str(), right.received()), ("borrowed", 11));
/// # Ok(()) }
/// ```
pub trait LowLevel {
    /// The channel's format.
    type Format;
    /// The channel's byte stream.
    type Stream;

    /// Stages a message of any type that the format can encode. Never waits: the caller bounds
    /// what is [`staged`](Self::staged).
    ///
    /// # Errors
    /// [`Unencodable`](crate::ErrorKind::Unencodable) or [`TooLarge`](crate::ErrorKind::TooLarge): nothing was staged.
    fn stage<M: ?Sized>(&mut self, message: &M) -> Result<(), ChannelError>
    where
        Self::Format: Encode<M>,
        Self::Stream: AsyncWrite + Unpin;

    /// Stages frames from [`encode_frame`](Encode::encode_frame) and leaves `frames`
    /// empty. Copies no byte if nothing is staged yet.
    fn stage_frames(&mut self, frames: &mut Buffer);

    /// How many bytes are staged and not yet written.
    fn staged(&self) -> usize;

    /// Writes all that is staged, like `poll_flush` of the channel's sink.
    ///
    /// # Errors
    /// If the connection failed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>>
    where
        Self::Stream: AsyncWrite + Unpin;

    /// Receives the next frame and decodes it as a message of type `M`, like `poll_next` of the
    /// channel's stream.
    fn poll_message<M>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<M, ChannelError>>>
    where
        Self::Format: Decode<M>,
        Self::Stream: AsyncRead + Unpin;

    /// How many bytes of an unfinished frame have arrived.
    fn unfinished(&self) -> usize;

    /// How many bytes all frames received so far have taken.
    fn received(&self) -> u64;

    /// How many bytes of memory the channel's buffers hold: none while it is idle.
    fn memory(&self) -> usize;

    /// Ends the stream of messages: nothing more is read, and what was read is dropped.
    fn stop_reading(&mut self);

    /// The byte stream. Reading from it or writing to it breaks the framing.
    fn stream_mut(&mut self) -> &mut Self::Stream;

    /// The format, to give it the state that its default has not.
    fn format_mut(&mut self) -> &mut Self::Format;
}

impl<Tx, Rx, F, S> LowLevel for Channel<Tx, Rx, F, S> {
    type Format = F;
    type Stream = S;

    fn stage<M: ?Sized>(&mut self, message: &M) -> Result<(), ChannelError>
    where
        F: Encode<M>,
        S: AsyncWrite + Unpin,
    {
        self.framed.start_send_unpin(message)
    }

    fn stage_frames(&mut self, frames: &mut Buffer) {
        frames.give_to(self.framed.write_buffer_mut());
    }

    fn staged(&self) -> usize {
        self.framed.write_buffer().len()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>>
    where
        S: AsyncWrite + Unpin,
    {
        ready!(SinkExt::<Nothing>::poll_flush_unpin(&mut self.framed, cx))?;
        *self.framed.write_buffer_mut() = BytesMut::new();
        self.framed.codec_mut().release_outgoing();
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn poll_message<M>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<M, ChannelError>>>
    where
        F: Decode<M>,
        S: AsyncRead + Unpin,
    {
        if self.over {
            return Poll::Ready(None);
        }
        let found = match self.poll_frame(cx) {
            Poll::Pending => {
                self.settle();
                return Poll::Pending;
            }
            Poll::Ready(found) => found,
        };
        Poll::Ready(match found {
            Some(Ok(frame)) => Some(self.framed.codec_mut().take(frame)),
            Some(Err(error)) => {
                self.stop_reading();
                Some(Err(error))
            }
            None => {
                self.stop_reading();
                None
            }
        })
    }

    fn unfinished(&self) -> usize {
        self.framed.read_buffer().len()
    }

    fn received(&self) -> u64 {
        self.framed.codec().received_bytes()
    }

    fn memory(&self) -> usize {
        self.framed.read_buffer().capacity()
            + self.framed.write_buffer().capacity()
            + self.framed.codec().memory()
    }

    fn stop_reading(&mut self) {
        self.over = true;
        *self.framed.read_buffer_mut() = BytesMut::new();
        self.framed.codec_mut().release_incoming();
    }

    fn stream_mut(&mut self) -> &mut S {
        self.framed.get_mut()
    }

    fn format_mut(&mut self) -> &mut F {
        &mut self.framed.codec_mut().format
    }
}

impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
    /// Returns the same channel for messages of other types. It keeps what was read and not yet
    /// decoded, and what was staged and not yet written.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
    /// use kakehi_channel::ErrorKind;
    /// let (left, mut right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// let mut left = left.with_messages::<String, u8>();
    /// left.send("seven".into()).await?;
    /// assert_eq!(right.next().await.expect("a text").unwrap_err().kind(), ErrorKind::Malformed);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_messages<T, R>(self) -> Channel<T, R, F, S> {
        let Self { framed, expect_rest, over, messages: _ } = self;
        Channel { framed, expect_rest, over, messages: PhantomData }
    }

    /// Wraps the byte stream, so that the channel can poll for a moment before the task sleeps.
    ///
    /// In the middle of a frame, the channel then also reads past the runtime until the stream is
    /// empty. A read of a Unix socket ends at each message with descriptors. The runtime then
    /// assumes that the socket is empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
    /// use kakehi_channel::{BUSY_POLL, BusyPoll, Channel, low_level::LowLevel};
    ///
    /// let (left, mut right) = Channel::<u8, u8>::pair()?;
    /// let mut left = left.busy_poll(|socket| BusyPoll::new(socket, BUSY_POLL));
    /// left.send(7).await?;
    /// left.stream_mut().expect_soon();
    /// let answer = tokio::join!(left.next(), async {
    ///     right.next().await.expect("a number")?;
    ///     right.send(8).await
    /// });
    /// assert_eq!(answer.0.expect("an answer")?, 8);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn busy_poll(self, wrap: impl FnOnce(S) -> BusyPoll<S>) -> Channel<Tx, Rx, F, BusyPoll<S>> {
        let mut from = self.framed.into_parts();
        from.codec.give_back(&mut from.read_buf);
        let mut framed = if from.read_buf.is_empty() {
            // Without memory, where `from_parts` would allocate some.
            Framed::with_capacity(wrap(from.io), from.codec, 0)
        } else {
            let mut to = FramedParts::new::<Nothing>(wrap(from.io), from.codec);
            to.read_buf = from.read_buf;
            Framed::from_parts(to)
        };
        *framed.write_buffer_mut() = from.write_buf;
        Channel {
            framed,
            expect_rest: BusyPoll::expect_rest,
            over: self.over,
            messages: self.messages,
        }
    }
}
