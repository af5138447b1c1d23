//! What a connection writes, and how long its client may take to read it.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Sink;
use kakehi_channel::{Error, Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tracing::debug;

use super::Connection;
use crate::{Handler, Wire, hub::End};

impl<C, H, F, S> Connection<C, H, F, S>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Writes what there is; ready once all of it is with the system.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let is_all = self.channel.staged() == 0;
            if is_all {
                self.outbox.drain(|frames| self.channel.stage_frames(frames));
            }
            let before = self.channel.staged();
            if before == 0 {
                self.stalled_since = None;
                return Poll::Ready(Ok(()));
            }
            let flushed = Pin::new(&mut self.channel).poll_flush(cx);
            let written = before - self.channel.staged();
            if written > 0 {
                self.sent += written as u64;
                self.server.hub().count_sent(written as u64);
            }
            match flushed {
                Poll::Ready(Ok(())) => {
                    self.stalled_since = None;
                    if is_all {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.left = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    if written > 0 || self.stalled_since.is_none() {
                        self.stalled_since = Some(Instant::now());
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Answers something that was not started by ERROR, and says why.
    pub(crate) fn refuse(&mut self, id: &str, why: Refusal, message: &str) {
        debug!(?why, message = ?message, "refused");
        self.server.hub().count_request(End::Refused);
        self.open(id);
        self.outbox.fail::<F>(message, Some(why));
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.channel.staged() > 0
    }

    /// Writes the rest, as long as the client takes it, and the server has time for last words.
    pub(super) async fn finish(&mut self) {
        self.stop_reading();
        if self.left {
            return;
        }
        poll_fn(|cx| self.poll_finish(cx)).await;
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        self.leave(cx);
        self.is_closing();
        let write_time = self.server.limits.write_time;
        let stalled = self.stalled_since.and_then(|since| since.checked_add(write_time));
        self.alarm.poll([stalled, self.last_words_until], cx).map(|()| {
            debug!("the client does not read its last answer");
        })
    }
}
