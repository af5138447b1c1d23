//! Processes of runs that a daemon left behind when it crashed.

use std::{collections::BTreeSet, fs, thread::sleep, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tracing::warn;

use super::child::{RUN, STATE};

/// Kills the processes whose environment names the state folder `state` and one of `runs`. Returns
/// how many there were. Blocks, for at most a second.
///
/// Only processes of the daemon's own user are found, and of all users if it is root. A process that
/// removed the variable is not found; under systemd, the control group of the unit ends it.
pub(crate) fn kill(state: &str, runs: &[String]) -> usize {
    const ROUNDS: usize = 50;
    const PAUSE: Duration = Duration::from_millis(20);
    if runs.is_empty() {
        return 0;
    }
    let wanted = Wanted {
        state: format!("{STATE}={state}").into_bytes(),
        runs: runs.iter().map(|run| format!("{RUN}={run}").into_bytes()).collect(),
    };
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        let found = find(&wanted);
        if found.is_empty() {
            break;
        }
        for pid in found {
            kill_process(pid, &wanted);
            killed.insert(pid);
        }
        // A process that was just killed may have forked before.
        sleep(PAUSE);
    }
    if !killed.is_empty() {
        warn!(
            processes = killed.len(),
            "killed processes of runs that a crashed daemon left behind"
        );
    }
    killed.len()
}

/// The variables of the processes to kill.
struct Wanted {
    state: Vec<u8>,
    runs: BTreeSet<Vec<u8>>,
}

fn find(wanted: &Wanted) -> Vec<i32> {
    let own = getpid().as_raw_pid();
    let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own && belongs(*pid, wanted)).collect()
}

/// Whether the environment of a process names the state folder and one of the runs. That of a zombie is empty.
fn belongs(pid: i32, wanted: &Wanted) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let is_run = variables.clone().any(|variable| wanted.runs.contains(variable));
    is_run && variables.any(|variable| variable == wanted.state)
}

fn kill_process(pid: i32, wanted: &Wanted) {
    let Some(process) = Pid::from_raw(pid) else { return };
    let Ok(descriptor) = pidfd_open(process, PidfdFlags::empty()) else { return };
    // The pid may have been reused before the descriptor was opened.
    if belongs(pid, wanted) {
        let _ = pidfd_send_signal(&descriptor, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_processes_of_the_named_runs_are_killed() {
        let started = [("leftover-1", "1:2"), ("leftover-2", "1:2"), ("leftover-1", "1:3")];
        let mut sleeping = started.map(|(run, state)| {
            Command::new("sleep").arg("1000").env(RUN, run).env(STATE, state).spawn().unwrap()
        });
        // Right after the start, the environment can still be empty.
        sleep(Duration::from_millis(200));
        assert_eq!(kill("1:2", &["leftover-1".to_owned()]), 1);
        assert!(sleeping[0].wait().unwrap().code().is_none());
        for other in &mut sleeping[1..] {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
