//! Writes the output of a run to its files, behind the run.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::spawn_blocking};
use tracing::warn;

use super::spool::Spool;
use crate::jobs::chunk::Chunk;

/// How many bytes of chunks may wait to be written.
pub(super) const WAITING: usize = 128 * 1024;

/// The files of a run. One blocking task writes the chunks in order, and ends when none waits.
/// Chunks that arrive meanwhile are written together, so that a burst costs few changes of threads.
#[derive(Clone, Debug)]
pub(super) struct Behind(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified after each write.
    advanced: Notify,
}

#[derive(Debug)]
struct State {
    /// `None` while the task has it, and after an error.
    spool: Option<Spool>,
    is_writing: bool,
    waiting: Vec<Chunk>,
    /// The memory of the chunks that are not written yet.
    bytes: usize,
}

impl Behind {
    pub(super) fn new(spool: Spool) -> Self {
        let (waiting, spool) = (vec![], Some(spool));
        let state = State { spool, is_writing: false, waiting, bytes: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), advanced: Notify::new() }))
    }

    /// Writes a chunk soon. After an error, drops it.
    pub(super) fn push(&self, chunk: Chunk) {
        let state = &mut *self.0.lock();
        if state.is_writing {
            state.bytes += chunk.memory();
            state.waiting.push(chunk);
        } else if let Some(spool) = state.spool.take() {
            state.bytes = chunk.memory();
            state.is_writing = true;
            let writing = Writing { shared: Arc::clone(&self.0), has_ended: false };
            spawn_blocking(move || writing.run(spool, chunk));
        }
    }

    /// Waits until few enough bytes wait. Called by one task at a time.
    pub(super) async fn room(&self) {
        self.until(|state| state.bytes <= WAITING).await;
    }

    /// Waits until everything is written. Called by one task at a time.
    pub(super) async fn finish(&self) {
        self.until(|state| !state.is_writing).await;
    }

    async fn until(&self, is_reached: impl Fn(&State) -> bool) {
        while !is_reached(&self.0.lock()) {
            self.0.advanced.notified().await;
        }
    }
}

/// Reports the end of the writing, also if the task panics or never starts. The run waits for it.
struct Writing {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Writing {
    fn run(mut self, spool: Spool, chunk: Chunk) {
        self.shared.write(spool, vec![chunk]);
        self.has_ended = true;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.has_ended {
            let state = &mut *self.shared.lock();
            state.waiting.clear();
            (state.bytes, state.is_writing) = (0, false);
            self.shared.advanced.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `chunks`, and all that arrive meanwhile.
    fn write(&self, mut spool: Spool, mut chunks: Vec<Chunk>) {
        loop {
            let written = spool.append(&chunks);
            let state = &mut *self.lock();
            state.bytes -= chunks.iter().map(Chunk::memory).sum::<usize>();
            chunks.clear();
            mem::swap(&mut chunks, &mut state.waiting);
            if let Err(error) = &written {
                warn!(%error, "cannot keep more output of a run");
                state.bytes = 0;
                chunks.clear();
            }
            if chunks.is_empty() {
                state.spool = written.is_ok().then_some(spool);
                state.is_writing = false;
                self.advanced.notify_one();
                return;
            }
            self.advanced.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_run_does_not_wait_for_a_writer_that_panicked() {
        let state = State { spool: None, is_writing: true, waiting: vec![], bytes: WAITING + 1 };
        let files = Behind(Arc::new(Shared { state: Mutex::new(state), advanced: Notify::new() }));
        assert!(files.room().now_or_never().is_none() && files.finish().now_or_never().is_none());
        let writing = Writing { shared: Arc::clone(&files.0), has_ended: false };
        let panicked = spawn_blocking(move || {
            let _writing = writing;
            panic!("on purpose");
        });
        assert!(panicked.await.is_err());
        assert!(files.room().now_or_never().is_some() && files.finish().now_or_never().is_some());
    }
}
