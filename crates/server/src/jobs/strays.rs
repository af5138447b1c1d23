//! Processes of a run that have left its process group.

use std::{fs, os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal},
};
use tokio::time::sleep;

/// A process, as far as this needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    group: i32,
    /// When it started: with the pid, no other process has it.
    start: u64,
}

/// A descendant of a process group that is in another one, as `timeout` and the job control of a
/// shell put it there.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    process: Process,
    /// It stands for this process and no other.
    descriptor: Arc<OwnedFd>,
}

/// Adds the strays of `group` to those that are known, and stops them. The group has to be stopped
/// already: while parents can neither fork nor end, no descendant is missed. Those whose parents
/// had ended before, as a daemon's have, are not found.
///
/// It asks `/proc` for the family only, not for all processes. Where that cannot be read, or the
/// kernel lists no children there, none are found.
pub(crate) fn stop(group: i32, known: &mut Vec<Stray>) {
    loop {
        let before = known.len();
        for process in family(group, known) {
            if process.group != group
                && known.iter().all(|stray| stray.process.pid != process.pid)
                && let Some(stray) = Stray::new(process)
            {
                signal(std::slice::from_ref(&stray), Signal::STOP);
                known.push(stray);
            }
        }
        // A new one may have forked before it was stopped.
        if known.len() == before {
            return;
        }
    }
}

pub(crate) fn signal(strays: &[Stray], signal: Signal) {
    for stray in strays {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&stray.descriptor, signal);
    }
}

/// The processes of `group`, the `known` ones, and all their descendants.
fn family(group: i32, known: &[Stray]) -> Vec<Process> {
    // Members whose parents have ended are our own children.
    let ours = children(getpid().as_raw_pid()).into_iter().filter_map(read);
    let mut family: Vec<_> = ours.filter(|process| process.group == group).collect();
    family.extend(known.iter().map(|stray| stray.process).filter(Process::is_there));
    let mut next = 0;
    while let Some(process) = family.get(next).copied() {
        for child in children(process.pid).into_iter().filter_map(read) {
            if !family.contains(&child) {
                family.push(child);
            }
        }
        next += 1;
    }
    family
}

impl Stray {
    fn new(process: Process) -> Option<Self> {
        let pid = Pid::from_raw(process.pid)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        process.is_there().then(|| Self { process, descriptor: Arc::new(descriptor) })
    }

    /// Waits until it has ended. It looks from time to time: there are few, and not for long.
    pub(crate) async fn ended(&self) {
        const OFTEN: Duration = Duration::from_millis(20);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Readable once it has; what cannot be asked is not waited for.
        while poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&at_once)) == Ok(0) {
            sleep(OFTEN).await;
        }
    }
}

impl Process {
    fn is_there(&self) -> bool {
        read(self.pid).is_some_and(|now| now.start == self.start)
    }
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let mut pids = vec![];
    for thread in threads.flatten() {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(listed.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    pids
}

fn read(pid: i32) -> Option<Process> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&bytes))
}

/// The fields of `proc(5)`: behind the name, which may hold anything, the state is the third.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let group = fields.nth(5 - 3)?.parse().ok()?;
    let since = fields.nth(22 - 6)?.parse().ok()?;
    Some(Process { pid, group, start: since })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) R 1) S 5 6 4 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 6 7";
        assert_eq!(parse(7, stat), Some(Process { pid: 7, group: 6, start: 12345 }));
        assert_eq!(parse(7, "7 (a) S 5"), None);
        assert!(read(getpid().as_raw_pid()).is_some_and(|process| process.start > 0));
    }

    #[test]
    fn the_children_of_any_thread_are_listed() {
        let spawning = std::thread::spawn(|| {
            let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
            let listed = children(getpid().as_raw_pid());
            let pid = child.id().cast_signed();
            child.kill().unwrap();
            child.wait().unwrap();
            (pid, listed)
        });
        let (pid, listed) = spawning.join().unwrap();
        assert!(listed.contains(&pid));
        assert!(!children(getpid().as_raw_pid()).contains(&pid));
    }
}
