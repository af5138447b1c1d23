//! Name and state of a process, from `/proc`.

use std::{fs, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use tokio::time::{sleep, timeout};

use super::show::escape;

/// The name of the process; `None` if it cannot be read.
pub(super) fn name(pid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(escape(name.trim_ascii_end()))
}

/// The state of the process, as the letter in `/proc/PID/stat`.
pub(super) fn state(pid: i32) -> Option<char> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain any byte, also parentheses.
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

/// Whether the process has exited, also if its parent has not noticed yet.
pub(super) fn has_exited(pid: i32) -> bool {
    let Some(id) = Pid::from_raw(pid) else { return false };
    // `/proc` may hide the processes of others.
    test_kill_process(id) == Err(Errno::SRCH) || matches!(state(pid), Some('Z' | 'X'))
}

/// Waits up to 100 ms for the process to exit: it closes its sockets a moment before.
pub(super) async fn exits(pid: i32) {
    let exited = async {
        while !has_exited(pid) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = timeout(Duration::from_millis(100), exited).await;
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_a_name_and_runs() {
        let pid = std::process::id().try_into().unwrap();
        assert!(super::name(pid).is_some_and(|name| !name.is_empty()));
        assert!(super::state(pid).is_some_and(|state| "RS".contains(state)));
    }
}
