//! The byte stream of a channel, with what it does before it sleeps.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::polling::{Poller, Turn};

/// The stream that [`Framed`](tokio_util::codec::Framed) reads and writes.
///
/// It says of itself that it writes no vectors, so that `Framed` makes none of its one buffer.
pub(crate) struct Line<S> {
    pub(crate) stream: S,
    pub(crate) poller: Option<Poller<S>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, poller } = &mut *self;
        if let Some(poller) = poller {
            match poller.turn(stream, cx, buffer) {
                Turn::Read => return Poll::Ready(Ok(())),
                Turn::Later => return Poll::Pending,
                Turn::Over => {}
            }
        }
        let read = ready!(Pin::new(stream).poll_read(cx, buffer));
        if let Some(poller) = poller {
            poller.came();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
