//! How a channel is driven: its `Stream` and its `Sink`.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures::{Sink, SinkExt, Stream, StreamExt, stream::FusedStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Channel, Decode, Encode, Error, spare};

/// What is gathered before a feed writes, in bytes.
const HIGH_WATER: usize = 64 * 1024;

/// What is moved for a large read to follow it, in bytes; more than that is read on in place.
const SMALL: usize = 4 * 1024;

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Stream for Channel<Tx, Rx, F, S> {
    type Item = Result<Rx, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let item = match this.poll_framed(cx) {
            Poll::Pending => {
                this.settle();
                return Poll::Pending;
            }
            Poll::Ready(item) => item,
        };
        Poll::Ready(match item {
            Some(Ok(message)) => Some(message),
            Some(Err(error)) => {
                this.stop_reading();
                Some(Err(error))
            }
            None => {
                this.stop_reading();
                None
            }
        })
    }
}

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Channel<Tx, Rx, F, S> {
    #[inline]
    fn poll_framed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Result<Rx, Error>, Error>>> {
        let unread = self.framed.read_buffer().len();
        if self.framed.codec().is_drained() && unread < SMALL {
            // Without this, `Framed` would read 8 bytes at first.
            if self.framed.codec().max_incoming() >= spare::SIZE {
                let mut memory = spare::take();
                memory.extend_from_slice(self.framed.read_buffer());
                *self.framed.read_buffer_mut() = memory;
            } else if unread == 0 {
                let size = self.framed.codec().initial_incoming();
                *self.framed.read_buffer_mut() = BytesMut::with_capacity(size);
            }
        }
        self.framed.poll_next_unpin(cx)
    }

    /// Nobody knows for how long it will wait: that holds no memory but an unfinished frame's, at
    /// most twice what has come of it.
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
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.staged() < HIGH_WATER { Poll::Ready(Ok(())) } else { self.as_mut().poll_flush(cx) }
    }

    fn start_send(self: Pin<&mut Self>, message: Tx) -> Result<(), Error> {
        self.get_mut().stage(&message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(SinkExt::<&Tx>::poll_flush_unpin(&mut this.framed, cx))?;
        *this.framed.write_buffer_mut() = BytesMut::new();
        this.framed.codec_mut().release_outgoing();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(self.get_mut().framed.get_mut()).poll_shutdown(cx).map_err(Error::from)
    }
}
