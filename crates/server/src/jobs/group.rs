//! A job's process group.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tracing::debug;

/// The process group of one run, while there is one.
///
/// Its number is the pid of its first process. The number is forgotten before that process is
/// reaped, and until then the system gives it to nobody else: no signal can hit a stranger.
#[derive(Debug, Default)]
pub(crate) struct Group(Mutex<Option<Pid>>);

impl Group {
    pub(crate) fn set(&self, pid: Pid) {
        *self.lock() = Some(pid);
    }

    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        *self.lock()
    }

    /// Signals all processes of the group, if there is one.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.lock();
        if let Some(pid) = *pid
            && let Err(error) = kill_process_group(pid, signal)
        {
            debug!(%error, ?pid, ?signal, "cannot signal a process group");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
