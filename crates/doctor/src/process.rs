//! Name and state of a process, from `/proc`.

use std::fs;

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

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_a_name_and_runs() {
        let pid = std::process::id().try_into().unwrap();
        assert!(super::name(pid).is_some_and(|name| !name.is_empty()));
        assert!(super::state(pid).is_some_and(|state| "RS".contains(state)));
    }
}
