//! Processes of a run that have left its process group.

use std::{collections::BTreeSet, fs, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::time::sleep;

/// A process, as far as this needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    /// When it started: with the pid, no other process has it.
    start: u64,
}

/// The descendants of a process group that are in other groups, as `timeout` and the job control
/// of a shell put them there. Those whose parents have ended, as a daemon's have, are not found.
///
/// It reads all of `/proc`: some milliseconds. Where that cannot be read, none are found.
pub(crate) fn of(group: i32) -> Vec<OwnedFd> {
    let strays = find(&processes(), group);
    strays.into_iter().filter_map(open).collect()
}

/// Waits until a stray has ended. It looks from time to time: there are few, and not for long.
pub(crate) async fn ended(stray: &OwnedFd) {
    const OFTEN: Duration = Duration::from_millis(20);
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Readable once it has; what cannot be asked is not waited for.
    while poll(&mut [PollFd::new(stray, PollFlags::IN)], Some(&at_once)) == Ok(0) {
        sleep(OFTEN).await;
    }
}

fn find(processes: &[Process], group: i32) -> Vec<Process> {
    let members = processes.iter().filter(|process| process.group == group);
    let mut family: BTreeSet<i32> = members.map(|process| process.pid).collect();
    let mut strays = vec![];
    loop {
        let before = strays.len();
        for process in processes {
            if family.contains(&process.parent) && family.insert(process.pid) {
                strays.push(*process);
            }
        }
        if strays.len() == before {
            return strays;
        }
    }
}

/// A descriptor that stands for this process and no other.
fn open(process: Process) -> Option<OwnedFd> {
    let descriptor = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
    let same = read(process.pid).is_some_and(|now| now.start == process.start);
    same.then_some(descriptor)
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

fn read(pid: i32) -> Option<Process> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&bytes))
}

/// The fields of `proc(5)`: behind the name, which may hold anything, the state is the third.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let id = |field: usize| i32::try_from(number(field)?).ok();
    Some(Process { pid, parent: id(4)?, group: id(5)?, start: number(22)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_in_other_groups_are_strays_and_nobody_else() {
        let process = |pid, parent, group| Process { pid, parent, group, start: 0 };
        let processes = [
            // A grandchild before its parent.
            process(9, 8, 8),
            process(5, 1, 5),
            process(6, 5, 5),
            process(8, 6, 8),
            // Its parent has ended; another run's; ours.
            process(10, 1, 10),
            process(11, 10, 11),
            process(7, 9, 5),
        ];
        let mut strays: Vec<_> = find(&processes, 5).iter().map(|process| process.pid).collect();
        strays.sort_unstable();
        assert_eq!(strays, [8, 9]);
        assert_eq!(find(&processes, 99), []);
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) R 1) S 5 6 4 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 6 7";
        let process = Process { pid: 7, parent: 5, group: 6, start: 12345 };
        assert_eq!(parse(7, stat), Some(process));
        assert_eq!(parse(7, "7 (a) S 5"), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(read(own).is_some_and(|process| process.start > 0));
    }
}
