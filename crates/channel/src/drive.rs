//! How a channel is driven: its `Stream` and its `Sink`.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures::{Sink, SinkExt, Stream, StreamExt, stream::FusedStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Channel, Decode, Encode, Error};

/// What is gathered before a feed writes, in bytes.
const HIGH_WATER: usize = 64 * 1024;

impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Stream for Channel<Tx, Rx, F, S> {
    type Item = Result<Rx, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let item = match this.poll_framed(cx) {
            Poll::Pending => {
                // Nobody knows for how long: waiting holds no memory but an unfinished frame's.
                if this.framed.read_buffer().is_empty() {
                    *this.framed.read_buffer_mut() = BytesMut::new();
                }
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
    fn poll_framed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Result<Rx, Error>, Error>>> {
        if self.framed.read_buffer().capacity() == 0 && self.framed.codec().is_drained() {
            // Without this, `Framed` would read 8 bytes at first.
            let size = self.framed.codec().initial_incoming();
            *self.framed.read_buffer_mut() = BytesMut::with_capacity(size);
        }
        self.framed.poll_next_unpin(cx)
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
