//! The running requests, for `status` and `cancel`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{caller::Caller, ids, runs::Live};

/// All running requests. There are at most as many as connections.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    requests: Mutex<Requests>,
    /// Notified when a request leaves.
    left: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    last: u64,
    running: BTreeMap<u64, Arc<Entry>>,
}

/// One running request.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The run's id, made by the server.
    pub(crate) run: String,
    /// The request's id: a label that the client chose, not unique.
    pub(crate) id: String,
    pub(crate) command: &'static str,
    pub(crate) job: Option<String>,
    /// As they may be shown: without secrets, and within bounds.
    pub(crate) args: Vec<String>,
    pub(crate) uid: u32,
    /// The name of a caller on another machine, which has no uid.
    pub(crate) remote: Option<String>,
    pub(crate) since: Instant,
    /// The output of a run.
    live: OnceLock<Arc<Live>>,
    /// The run waits for a slot.
    waiting: AtomicBool,
    /// The process group; 0: none.
    group: AtomicI32,
    cancelled: CancellationToken,
    /// The caller who cancelled it.
    canceller: OnceLock<String>,
    /// Cancelled when its processes have ended. Its client may still have to read.
    over: CancellationToken,
}

/// Keeps a request in the registry until dropped.
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
        args: Vec<String>,
        caller: &Caller,
    ) -> Running {
        let requests = &mut *self.requests();
        requests.last = ids::next(requests.last);
        let number = requests.last;
        let entry = Arc::new(Entry {
            run: ids::encode(number),
            id,
            command,
            job,
            args,
            uid: caller.uid,
            remote: caller.remote_name(),
            since: Instant::now(),
            live: OnceLock::new(),
            waiting: AtomicBool::new(false),
            group: AtomicI32::new(0),
            cancelled: CancellationToken::new(),
            canceller: OnceLock::new(),
            over: CancellationToken::new(),
        });
        requests.running.insert(number, Arc::clone(&entry));
        Running { registry: Arc::clone(self), number, entry }
    }

    /// Returns the requests whose processes have not ended, in the order of their arrival.
    pub(crate) fn running(&self) -> Vec<Arc<Entry>> {
        let requests = self.requests();
        requests.running.values().filter(|entry| !entry.over.is_cancelled()).cloned().collect()
    }

    /// Returns the output of a run that goes on, or whose end is not recorded yet.
    pub(crate) fn live(&self, run: &str) -> Option<Arc<Live>> {
        let requests = self.requests();
        let entry = requests.running.values().find(|entry| entry.run == run)?;
        entry.live().cloned()
    }

    /// Makes new ids larger than `number`, that of a run before a restart.
    pub(crate) fn continue_after(&self, number: u64) {
        let requests = &mut *self.requests();
        requests.last = requests.last.max(number);
    }

    /// Waits until no request is left. Cancel safe.
    pub(crate) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.requests().running.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The output of the run, if the request is one.
    pub(crate) fn live(&self) -> Option<&Arc<Live>> {
        self.live.get()
    }

    pub(crate) fn set_live(&self, live: &Arc<Live>) {
        let _ = self.live.set(Arc::clone(live));
    }

    pub(crate) fn waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Returns the number of its process group.
    pub(crate) fn group(&self) -> Option<i32> {
        Some(self.group.load(Ordering::Relaxed)).filter(|group| *group != 0)
    }

    pub(crate) fn set_group(&self, group: i32) {
        self.group.store(group, Ordering::Relaxed);
    }

    /// Cancels the request on behalf of `caller`.
    pub(crate) fn cancel(&self, caller: &Caller) {
        let _ = self.canceller.set(caller.to_string());
        self.cancelled.cancel();
    }

    /// Waits until the request is cancelled, and returns the caller who did it. Cancel safe.
    pub(crate) async fn cancelled(&self) -> String {
        self.cancelled.cancelled().await;
        // Set before the token is cancelled.
        self.canceller.get().cloned().unwrap_or_default()
    }

    /// Records that its processes have ended.
    pub(crate) fn over(&self) {
        self.set_group(0);
        self.over.cancel();
    }

    /// Waits until its processes have ended. Cancel safe.
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
        self.registry.left.notify_waiters();
    }
}
