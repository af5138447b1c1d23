//! The processes of a run, also those that have left its process group.

use std::{fs, os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal},
};
use tokio::time::sleep;

/// The processes of a group and their descendants, some of which may be in other groups, as
/// `timeout` and the job control of a shell put them there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family(Vec<Member>);

#[derive(Clone, Debug)]
struct Member {
    process: Process,
    /// It stands for this process and no other.
    descriptor: Arc<OwnedFd>,
}

/// A process, as far as this needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    group: i32,
    /// When it started: with the pid, no other process has it.
    start: u64,
    /// It has ended, and its parent has not asked how.
    is_zombie: bool,
}

impl Family {
    /// Gets to know the family of `group`, and stops those who have left it. The group has to be
    /// stopped already: while parents neither fork nor end, no descendant is missed. Those whose
    /// parents had ended before, as a daemon's have, are not found.
    ///
    /// It asks `/proc` for the family only, not for all processes. Where that cannot be read, or
    /// the kernel lists no children there, nobody is found.
    pub(crate) fn stop(&mut self, group: i32) {
        loop {
            let before = self.0.len();
            for process in self.look(group) {
                if self.0.iter().any(|member| member.process.is(&process)) {
                    continue;
                }
                let Some(member) = Member::new(process) else { continue };
                if process.group != group {
                    member.signal(Signal::STOP);
                }
                self.0.push(member);
            }
            // A new one may have forked before it was stopped.
            if self.0.len() == before {
                return;
            }
        }
    }

    /// Signals those who are not in `group`.
    pub(crate) fn signal_strays(&self, group: i32, signal: Signal) {
        for member in &self.0 {
            let now = read(member.process.pid).filter(|now| now.is(&member.process));
            if now.is_some_and(|now| now.group != group) {
                member.signal(signal);
            }
        }
    }

    /// Signals all.
    pub(crate) fn signal(&self, signal: Signal) {
        for member in &self.0 {
            member.signal(signal);
        }
    }

    /// Waits until all have ended. It looks from time to time: there are few, and not for long.
    pub(crate) async fn gone(&self) {
        const OFTEN: Duration = Duration::from_millis(20);
        for member in &self.0 {
            while !member.has_ended() {
                sleep(OFTEN).await;
            }
        }
    }

    /// The processes of `group`, those that are known, and all their descendants.
    fn look(&self, group: i32) -> Vec<Process> {
        // Members whose parents have ended are our own children.
        let ours = children(getpid().as_raw_pid()).into_iter().filter_map(read);
        let mut family: Vec<_> = ours.filter(|process| process.group == group).collect();
        for Member { process, .. } in &self.0 {
            family.extend(read(process.pid).filter(|now| now.is(process)));
        }
        let mut next = 0;
        while let Some(process) = family.get(next).copied() {
            for child in children(process.pid).into_iter().filter_map(read) {
                if !family.iter().any(|known| known.is(&child)) {
                    family.push(child);
                }
            }
            next += 1;
        }
        family
    }
}

impl Member {
    fn new(process: Process) -> Option<Self> {
        let pid = Pid::from_raw(process.pid)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let same = read(process.pid).is_some_and(|now| now.is(&process));
        same.then(|| Self { process, descriptor: Arc::new(descriptor) })
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.descriptor, signal);
    }

    /// What cannot be asked is not waited for.
    fn has_ended(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Readable once it has.
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&at_once)) != Ok(0)
    }
}

impl Process {
    fn is(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }
}

/// Whether any process of `group` goes on, whoever its parent is. It asks all of `/proc`.
pub(crate) fn goes_on(group: i32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).any(|process| process.group == group && !process.is_zombie)
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
    let is_zombie = fields.next()? == "Z";
    let group = fields.nth(5 - 4)?.parse().ok()?;
    let since = fields.nth(22 - 6)?.parse().ok()?;
    Some(Process { pid, group, start: since, is_zombie })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) R 1) S 5 6 4 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 6 7";
        assert_eq!(
            parse(7, stat),
            Some(Process { pid: 7, group: 6, start: 12345, is_zombie: false })
        );
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
