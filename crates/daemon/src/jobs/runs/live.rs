//! The output of a run that goes on: written once, read by any number of readers.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;
use tracing::warn;

use super::{
    behind::{Behind, WAITING},
    record::{Record, now_ms},
    spool::Spool,
};
use crate::jobs::chunk::{Chunk, End, MAX_PIECE, Stream};

/// The newest output that is in memory, in bytes, with the overhead of its chunks. Readers that are further behind read the files.
const RECENT: usize = 512 * 1024;
// Chunks stay in memory until they are in the files. A chunk has at most two pieces.
const _: () = assert!(WAITING + 4 * MAX_PIECE <= RECENT);
/// How far a run may be ahead of the client that it belongs to, in bytes.
const AHEAD: u64 = 128 * 1024;

/// The longest last line, in bytes.
const LONGEST_LINE: usize = 256;
/// How many of the newest chunks are searched for a line that is not empty.
const NEWEST: usize = 16;

/// The progress that a job reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// The output of one run.
pub(crate) struct Live {
    /// Where the output is kept; `None`: nowhere.
    folder: Option<PathBuf>,
    recent: Mutex<Recent>,
    state: watch::Sender<State>,
    /// How many bytes the client that the run belongs to has taken; `None`: the run does not wait
    /// for a client.
    taken: watch::Sender<Option<u64>>,
    /// The record of the run once it is over.
    record: OnceLock<Record>,
}

#[derive(Debug, Default)]
struct Recent {
    chunks: VecDeque<Chunk>,
    /// The memory of the chunks.
    bytes: usize,
}

/// The events that readers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The number of the next chunk.
    pub(super) next: u64,
    pub(super) progress: Option<Progress>,
    /// No more output follows.
    pub(super) is_over: bool,
}

impl Live {
    /// The output of a new run, which is kept in `folder`.
    pub(crate) fn new(folder: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            folder,
            recent: Mutex::default(),
            state: watch::Sender::default(),
            taken: watch::Sender::default(),
            record: OnceLock::new(),
        })
    }

    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.folder.clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Returns the chunks in memory from number `next` on; `None`: the first ones are not there.
    pub(super) fn recent(&self, next: u64) -> Option<Vec<Chunk>> {
        let recent = self.lock();
        let first = recent.chunks.front()?.number;
        let skipped = usize::try_from(next.checked_sub(first)?).ok()?;
        Some(recent.chunks.iter().skip(skipped).cloned().collect())
    }

    /// Returns the number of the oldest chunk in memory.
    pub(super) fn first(&self) -> Option<u64> {
        self.lock().chunks.front().map(|chunk| chunk.number)
    }

    /// Returns the last line that is not empty, of which the start is cut where it is long; `None`:
    /// there is none in the newest output.
    pub(crate) fn last_line(&self) -> Option<String> {
        let recent = self.lock();
        recent.chunks.iter().rev().take(NEWEST).find_map(|chunk| {
            let end = chunk.bytes.len();
            let tail = chunk.bytes.get(end.saturating_sub(LONGEST_LINE)..)?;
            let mut lines = tail.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
            let last = lines.find(|line| !line.trim_ascii().is_empty())?;
            Some(String::from_utf8_lossy(last).into_owned())
        })
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        self.state.borrow().progress
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        self.state.send_if_modified(|state| {
            let is_new = state.progress != Some(progress);
            state.progress = Some(progress);
            is_new
        });
    }

    /// Records the end of the output.
    pub(crate) fn end(&self) {
        self.release();
        self.state.send_modify(|state| state.is_over = true);
    }

    /// Sets the record of the run, which is over. To be called before [`end`](Self::end).
    pub(crate) fn conclude(&self, record: Record) {
        let _ = self.record.set(record);
    }

    /// Returns the record of the run once it is over, also after the store has removed it.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.get()
    }

    /// Waits for the end of the output. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut state = self.subscribe();
        // The sender lives as long as this.
        let _ = state.wait_for(|state| state.is_over).await;
    }

    /// Makes the run wait for the client that it belongs to.
    pub(crate) fn hold(&self) {
        self.taken.send_replace(Some(0));
    }

    /// Records that the client has taken `bytes` more.
    pub(crate) fn take(&self, bytes: usize) {
        self.taken.send_modify(|taken| {
            if let Some(taken) = taken {
                *taken += bytes as u64;
            }
        });
    }

    /// The run no longer waits for a client.
    pub(crate) fn release(&self) {
        self.taken.send_replace(None);
    }

    /// Waits until the client has taken enough of the `written` bytes. Cancel safe.
    pub(crate) async fn room(&self, written: u64) {
        let mut taken = self.taken.subscribe();
        let is_near = |taken: &Option<u64>| taken.is_none_or(|taken| written < taken + AHEAD);
        let _ = taken.wait_for(is_near).await;
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// The only writer of a run's output.
#[derive(Debug)]
pub(crate) struct Writer {
    live: Arc<Live>,
    /// `None`: the output is not kept, or cannot be.
    files: Option<Behind>,
    number: u64,
    /// How many bytes were written.
    pub(crate) written: u64,
}

impl Writer {
    /// The writer of `live`, which keeps at least `bound` bytes. Blocks on the disk for a moment.
    pub(crate) fn new(live: &Arc<Live>, bound: u64) -> Self {
        let files = live.folder().filter(|_| bound > 0).and_then(|folder| {
            let created = Spool::create(folder, bound);
            created.inspect_err(|error| warn!(%error, "cannot keep the output of a run")).ok()
        });
        let files = files.map(Behind::new);
        Self { live: Arc::clone(live), files, number: 0, written: 0 }
    }

    /// Appends one chunk. Readers get it before it is on the disk.
    pub(crate) async fn push(
        &mut self,
        stream: Stream,
        (line, part): (u64, u32),
        end: End,
        bytes: &[u8],
    ) {
        let number = self.number;
        let chunk = Chunk { number, at_ms: now_ms(), stream, line, part, end, bytes: bytes.into() };
        self.number += 1;
        self.written += bytes.len() as u64;
        {
            let mut recent = self.live.lock();
            recent.bytes += chunk.memory();
            recent.chunks.push_back(chunk.clone());
        }
        self.live.state.send_modify(|state| state.next = number + 1);
        if let Some(files) = &self.files {
            files.push(chunk);
            files.room().await;
        }
        let recent = &mut *self.live.lock();
        while recent.bytes > RECENT
            && let Some(oldest) = recent.chunks.pop_front()
        {
            recent.bytes -= oldest.memory();
        }
    }

    /// Waits until all output is in the files.
    pub(crate) async fn finish(&self) {
        if let Some(files) = &self.files {
            files.finish().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::jobs::runs::spool::SpoolReader;

    #[tokio::test]
    async fn the_last_line_is_the_newest_one_that_has_text() {
        let live = Live::new(None);
        let mut writer = Writer::new(&live, 0);
        assert_eq!(live.last_line(), None);
        for (bytes, end, expected) in [
            (&b"one\ntwo\n"[..], End::Newline, "two"),
            (b"\n \n", End::Newline, "two"),
            (b"\r 10%\r 20%", End::Cut, " 20%"),
            (b"\xff\n", End::Newline, "\u{fffd}"),
        ] {
            writer.push(Stream::Stdout, (1, 0), end, bytes).await;
            assert_eq!(live.last_line().as_deref(), Some(expected));
        }
        writer.push(Stream::Stdout, (1, 0), End::Cut, &[b'x'; 10_000]).await;
        assert_eq!(live.last_line().map(|line| line.len()), Some(LONGEST_LINE));
    }

    #[test]
    fn a_run_waits_for_a_slow_disk_only_while_much_is_not_written() {
        const SIZE: usize = 8 * 1024;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        // The only thread that may write to the disk is busy.
        let (busy, until) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || until.recv());
        let folder = tempfile::tempdir().unwrap();
        let live = Live::new(Some(folder.path().join("run")));
        runtime.block_on(async {
            let mut writer = Writer::new(&live, 1 << 30);
            let mut pushed = 0;
            loop {
                pushed += 1;
                let pushing =
                    writer.push(Stream::Stdout, (pushed, 0), End::Newline, &[b'\n'; SIZE]);
                if pushing.now_or_never().is_none() {
                    break;
                }
            }
            assert_eq!(pushed, 16, "128 KiB");
            drop(busy);
            for number in 17..=200 {
                writer.push(Stream::Stdout, (number, 0), End::Newline, &[b'\n'; SIZE]).await;
            }
            writer.finish().await;
        });
        let kept = SpoolReader::new(folder.path().join("run")).read(0).unwrap();
        let mut reader = SpoolReader::new(folder.path().join("run"));
        let mut next = 0;
        while let Some(last) = reader.read(next).unwrap().last() {
            next = last.number + 1;
        }
        assert_eq!((kept[0].line, next), (1, 200));
    }

    #[tokio::test]
    async fn short_chunks_in_memory_are_bounded_too() {
        let live = Live::new(None);
        let mut writer = Writer::new(&live, 0);
        for line in 1..=20_000 {
            writer.push(Stream::Stdout, (line, 0), End::Newline, b"\n").await;
        }
        let kept = live.lock().chunks.len();
        assert!(kept > 100 && kept * size_of::<Chunk>() <= RECENT, "{kept}");
    }
}
