//! The ids of a node, in memory and, with a journal, on the disk first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kakehi_channel::Refusal;
use tokio::time::Instant;
use tracing::warn;

use super::{
    ids::{Ids, Key, Origin, Settled, State},
    journal::Journal,
};

/// The outcomes of a node's requests.
#[derive(Debug)]
pub(super) struct Ledger {
    ids: Mutex<Ids>,
    journal: Option<Journal>,
}

impl Ledger {
    pub(super) fn new(ids: Ids, journal: Option<Journal>) -> Self {
        Self { ids: Mutex::new(ids), journal }
    }

    /// Takes an id for a request. The journal has its start when this returns.
    ///
    /// # Errors
    /// The id was used before, or the journal cannot be written: the request must not start.
    pub(super) async fn start(&self, key: &Key, origin: &Origin) -> Result<(), (Refusal, String)> {
        if !self.ids().start(key, origin, Instant::now()) {
            return Err((Refusal::Malformed, format!("the id {:?} was used before", key.id)));
        }
        if let Err(error) = self.write(key, origin, State::Running).await {
            self.ids().end(key, origin, None, Instant::now());
            warn!(error, "refused a request: its start cannot be written");
            return Err((Refusal::Other, format!("cannot write the journal: {error}")));
        }
        Ok(())
    }

    /// Keeps the final response of a request, if there is one. The journal has it when this returns,
    /// unless it cannot be written.
    pub(super) async fn end(&self, key: &Key, origin: &Origin, response: Option<Bytes>) {
        let state = State::Ended(response.clone());
        if let Err(error) = self.write(key, origin, state).await {
            warn!(error, "the end of a request cannot be written: a restart will forget it");
        }
        self.ids().end(key, origin, response, Instant::now());
    }

    /// Returns the outcome of the request `key` that was accepted as `origin`. If the request was
    /// not started, it never will be: the journal holds that before this method returns.
    ///
    /// `None`: the journal cannot be written, so the outcome is unknown.
    pub(super) async fn settle(&self, key: &Key, origin: &Origin) -> Option<Settled> {
        let (settled, is_new) = self.ids().settle(key, origin, Instant::now());
        if is_new && let Err(error) = self.write(key, origin, State::Barred).await {
            warn!(error, "a settled id cannot be written");
            return None;
        }
        Some(settled)
    }

    /// Waits until all that was given to the journal is on the disk.
    pub(super) async fn flush(&self) {
        let Some(journal) = &self.journal else { return };
        let removed = self.ids().take_removed();
        if let Err(error) = journal.write(None, removed).await {
            warn!(error, "the journal cannot be written");
        }
    }

    async fn write(&self, key: &Key, origin: &Origin, state: State) -> Result<(), String> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let removed = self.ids().take_removed();
        journal.write(Some((key.clone(), origin.clone(), state)), removed).await
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
