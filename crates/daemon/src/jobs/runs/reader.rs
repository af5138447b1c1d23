//! A reader of a run's output: from the files, then from memory, then as it comes.

use std::{io, path::PathBuf, sync::Arc};

use tokio::{sync::watch, task::spawn_blocking};

use super::{
    live::{Live, Progress, State},
    spool::SpoolReader,
};
use crate::jobs::chunk::Chunk;

/// Reads the output of one run, of which any number of readers may exist. A reader that falls behind
/// does not hold the run back; it skips what is no longer kept.
#[derive(Debug)]
pub(crate) struct Reader {
    /// `None`: the run was over when the daemon started.
    live: Option<(Arc<Live>, watch::Receiver<State>)>,
    spool: Option<SpoolReader>,
    /// The number of the next chunk.
    next: u64,
    progress: Option<Progress>,
}

/// The result of a read.
#[derive(Debug)]
pub(crate) enum Next {
    Chunks(Vec<Chunk>),
    Progress(Progress),
    /// More output may follow later.
    Nothing,
    /// No more will come.
    End,
}

impl Reader {
    /// Reads a run that goes on.
    pub(crate) fn of(live: &Arc<Live>) -> Self {
        let spool = live.folder().map(SpoolReader::new);
        let live = Some((Arc::clone(live), live.subscribe()));
        Self { live, spool, next: 0, progress: None }
    }

    /// Reads the kept output of a run.
    pub(crate) fn kept(folder: PathBuf) -> Self {
        Self { live: None, spool: Some(SpoolReader::new(folder)), next: 0, progress: None }
    }

    /// Waits for more output, progress or the end. Not cancel safe.
    ///
    /// # Errors
    /// If kept output cannot be read.
    pub(crate) async fn next(&mut self) -> io::Result<Next> {
        loop {
            match self.try_next().await? {
                Next::Nothing => {}
                next => return Ok(next),
            }
            if let Some((_, changes)) = &mut self.live {
                // The sender lives as long as the `Live`.
                let _ = changes.changed().await;
            }
        }
    }

    /// Returns what there is now.
    ///
    /// # Errors
    /// If kept output cannot be read.
    pub(crate) async fn try_next(&mut self) -> io::Result<Next> {
        let Some((live, changes)) = &mut self.live else {
            let chunks = self.read_files().await?;
            return Ok(if chunks.is_empty() { Next::End } else { Next::Chunks(chunks) });
        };
        let state = *changes.borrow_and_update();
        if self.next < state.next {
            let recent = live.recent(self.next);
            let chunks = match recent {
                Some(chunks) => chunks,
                None => self.read_files().await?,
            };
            if let Some(last) = chunks.last() {
                self.next = last.number + 1;
                return Ok(Next::Chunks(chunks));
            }
            // Neither in memory nor in a file.
            self.next = self.oldest(state.next);
            return Box::pin(self.try_next()).await;
        }
        if state.progress != self.progress
            && let Some(progress) = state.progress
        {
            self.progress = Some(progress);
            return Ok(Next::Progress(progress));
        }
        Ok(if state.is_over { Next::End } else { Next::Nothing })
    }

    /// The oldest chunk in memory, or the next one to come.
    fn oldest(&self, next: u64) -> u64 {
        let live = self.live.as_ref().map(|(live, _)| live);
        live.and_then(|live| live.first()).unwrap_or(next).max(self.next)
    }

    async fn read_files(&mut self) -> io::Result<Vec<Chunk>> {
        let Some(mut spool) = self.spool.take() else { return Ok(vec![]) };
        let next = self.next;
        let read = spawn_blocking(move || (spool.read(next), spool)).await;
        let (chunks, spool) = read.map_err(io::Error::other)?;
        self.spool = Some(spool);
        let chunks = chunks?;
        if let Some(last) = chunks.last() {
            self.next = last.number + 1;
        }
        Ok(chunks)
    }
}
