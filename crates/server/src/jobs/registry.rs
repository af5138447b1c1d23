//! The requests that are running now: to be listed and cancelled.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::CancellationToken;

/// All running requests. There are at most as many as connections.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    last: u64,
    running: BTreeMap<u64, Arc<Entry>>,
}

/// One running request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) command: &'static str,
    pub(crate) job: Option<String>,
    pub(crate) uid: u32,
    pub(crate) since: Instant,
    /// Not started yet: as many as may are running.
    waiting: AtomicBool,
    /// Of its process group; 0: there is none.
    group: AtomicI32,
    cancelled: CancellationToken,
    /// By which user.
    canceller: OnceLock<u32>,
    /// Nothing runs for it any more; its client may still have to read.
    over: CancellationToken,
}

/// Keeps a request in the registry for as long as it lives.
#[derive(Debug)]
pub(crate) struct Running {
    registry: Arc<Registry>,
    number: u64,
    entry: Arc<Entry>,
}

impl Registry {
    pub(crate) fn enter(
        self: &Arc<Self>,
        id: String,
        command: &'static str,
        job: Option<String>,
        uid: u32,
    ) -> Running {
        let entry = Arc::new(Entry {
            id,
            command,
            job,
            uid,
            since: Instant::now(),
            waiting: AtomicBool::new(false),
            group: AtomicI32::new(0),
            cancelled: CancellationToken::new(),
            canceller: OnceLock::new(),
            over: CancellationToken::new(),
        });
        let requests = &mut *self.requests();
        requests.last += 1;
        let number = requests.last;
        requests.running.insert(number, Arc::clone(&entry));
        Running { registry: Arc::clone(self), number, entry }
    }

    /// In the order in which they came.
    pub(crate) fn running(&self) -> Vec<Arc<Entry>> {
        self.requests().running.values().cloned().collect()
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// The number of its process group.
    pub(crate) fn group(&self) -> Option<i32> {
        Some(self.group.load(Ordering::Relaxed)).filter(|group| *group != 0)
    }

    pub(crate) fn set_group(&self, group: i32) {
        self.group.store(group, Ordering::Relaxed);
    }

    /// Asks the request to end, on behalf of `uid`.
    pub(crate) fn cancel(&self, uid: u32) {
        let _ = self.canceller.set(uid);
        self.cancelled.cancel();
    }

    /// Waits until somebody cancels the request; says who. Cancel safe.
    pub(crate) async fn cancelled(&self) -> u32 {
        self.cancelled.cancelled().await;
        // Set before the token is.
        self.canceller.get().copied().unwrap_or_default()
    }

    /// Nothing runs for it any more.
    pub(crate) fn over(&self) {
        self.set_group(0);
        self.over.cancel();
    }

    /// Waits until nothing runs for it any more. Cancel safe.
    pub(crate) async fn until_over(&self) {
        self.over.cancelled().await;
    }
}

impl Running {
    pub(crate) fn entry(&self) -> Arc<Entry> {
        Arc::clone(&self.entry)
    }
}

impl std::ops::Deref for Running {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.registry.requests().running.remove(&self.number);
        self.entry.over();
    }
}
