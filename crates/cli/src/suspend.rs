//! Stops this process, as Ctrl-Z does.

use std::fs;

use rustix::process::{Pid, Signal, getpgid, getpid, getppid, getsid, kill_process};

/// Stops the process group until SIGCONT. The terminal does that where it handles Ctrl-Z.
#[cfg(feature = "top")]
pub(crate) fn stop_group() {
    let _ = rustix::process::kill_current_process_group(Signal::STOP);
}

/// Stops this process until SIGCONT, if a shell can continue it.
pub(crate) fn stop() {
    if has_job_control() {
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// Whether the parent of the process group is in the same session, as a shell is.
pub(crate) fn has_job_control() -> bool {
    let group = |pid| getpgid(Some(pid)).ok();
    let ours = group(getpid());
    let mut parent = getppid();
    // A program between the shell and this one, such as sudo, is in the same group.
    for _ in 0..16 {
        let Some(pid) = parent else { return false };
        if group(pid) != ours {
            return getsid(Some(pid)).ok() == getsid(None).ok();
        }
        parent = parent_of(pid);
    }
    false
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The state follows the name, which may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}
