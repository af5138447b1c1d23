//! The responses of a request for a reader that is not its client.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::{Arc, PoisonError},
    task::{Poll, Waker},
};

use crate::{
    Followed,
    sync::{Mutex, MutexGuard},
};

/// The maximum size of the responses that wait for a slow reader, in bytes. A single response may
/// be larger.
const MAX_WAITING: usize = 256 * 1024;

/// Responses that wait for one reader. The oldest ones are dropped if the reader is slow.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// The number of dropped responses before `frames`.
    missed: u64,
    /// No response follows `frames`.
    is_over: bool,
    reader: Option<Waker>,
}

impl Watch {
    pub(super) fn push(&self, frame: &Arc<[u8]>, is_final: bool) {
        let waiting = &mut *self.lock();
        waiting.frames.push_back(Arc::clone(frame));
        waiting.bytes += frame.len();
        waiting.is_over |= is_final;
        while waiting.bytes > MAX_WAITING && waiting.frames.len() > 1 {
            let oldest = waiting.frames.pop_front();
            waiting.bytes -= oldest.map_or(0, |oldest| oldest.len());
            waiting.missed += 1;
        }
        waiting.wake();
    }

    pub(super) fn end(&self) {
        let waiting = &mut *self.lock();
        waiting.is_over = true;
        waiting.wake();
    }

    /// Returns the next response, or the number of responses dropped before it. `None`: the last
    /// response was returned. Cancel safe.
    pub(crate) async fn next(&self) -> Option<Followed> {
        poll_fn(|cx| {
            let waiting = &mut *self.lock();
            let missed = mem::take(&mut waiting.missed);
            if missed > 0 {
                return Poll::Ready(Some(Followed::Missed(missed)));
            }
            if let Some(frame) = waiting.frames.pop_front() {
                waiting.bytes -= frame.len();
                return Poll::Ready(Some(Followed::Response(frame)));
            }
            if waiting.is_over {
                return Poll::Ready(None);
            }
            waiting.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
