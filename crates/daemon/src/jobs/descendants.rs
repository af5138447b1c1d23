//! The processes of a run, also those that have left its process group.

use std::{fs, os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getpgid, getpid, pidfd_open, pidfd_send_signal},
};
use tokio::time::sleep;

/// The processes of a group and their descendants. Some may be in other groups, because `timeout`
/// and the job control of a shell create groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Descendants(Vec<Member>);

#[derive(Clone, Debug)]
struct Member {
    process: Process,
    /// Refers to this process even after its pid is reused.
    descriptor: Arc<OwnedFd>,
}

/// The data of a process in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    group: i32,
    /// When it started. Together with the pid, this identifies a process.
    start: u64,
    /// It has ended and is not reaped.
    is_zombie: bool,
}

impl Descendants {
    /// Finds the descendants of `group`, and stops those outside of it. The group must be stopped:
    /// while parents neither fork nor end, no descendant is missed. Orphans outside of the group,
    /// such as a process that became a daemon, are not found.
    ///
    /// Reads `/proc` for the descendants only, not for all processes. Finds none where `/proc`
    /// cannot be read or does not list children.
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
            // A process found just now may have forked before it was stopped.
            if self.0.len() == before {
                return;
            }
        }
    }

    /// Signals the processes outside of `group`.
    pub(crate) fn signal_outside(&self, group: i32, signal: Signal) {
        for member in &self.0 {
            let now = read(member.process.pid).filter(|now| now.is(&member.process));
            if now.is_some_and(|now| now.group != group) {
                member.signal(signal);
            }
        }
    }

    /// Signals all processes.
    pub(crate) fn signal(&self, signal: Signal) {
        for member in &self.0 {
            member.signal(signal);
        }
    }

    /// Whether a process is known.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.0.iter().any(|member| member.process.pid == pid.as_raw_pid())
    }

    /// Waits until all processes have ended, by polling.
    pub(crate) async fn gone(&self) {
        const OFTEN: Duration = Duration::from_millis(20);
        for member in &self.0 {
            while !member.has_ended() {
                sleep(OFTEN).await;
            }
        }
    }

    /// Returns the processes of `group`, the known ones, and the descendants of both.
    fn look(&self, group: i32) -> Vec<Process> {
        // Orphans of the group are children of this process. With many runs, most children are of
        // others: asking for the group is much cheaper than reading `/proc`.
        let ours = children(getpid().as_raw_pid()).into_iter();
        let ours = ours.filter(|pid| group_of(*pid) == Some(group)).filter_map(read);
        let mut descendants: Vec<_> = ours.filter(|process| process.group == group).collect();
        for Member { process, .. } in &self.0 {
            descendants.extend(read(process.pid).filter(|now| now.is(process)));
        }
        let mut next = 0;
        while let Some(process) = descendants.get(next).copied() {
            for child in children(process.pid).into_iter().filter_map(read) {
                if !descendants.iter().any(|known| known.is(&child)) {
                    descendants.push(child);
                }
            }
            next += 1;
        }
        descendants
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
        // Fails if the process has ended.
        let _ = pidfd_send_signal(&self.descriptor, signal);
    }

    /// Returns `true` if the state cannot be read.
    fn has_ended(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The descriptor is readable once the process has ended.
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&at_once)) != Ok(0)
    }
}

impl Process {
    fn is(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }
}

/// Whether any process of `group` runs, also as a child of another process. Reads all of `/proc`.
pub(crate) fn goes_on(group: i32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).any(|process| process.group == group && !process.is_zombie)
}

/// Whether `/proc` tells the children of processes.
pub(crate) fn can_list_children() -> bool {
    fs::read_to_string("/proc/thread-self/children").is_ok()
}

/// Returns the children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return vec![] };
    let mut pids = vec![];
    for thread in threads.flatten() {
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        pids.extend(listed.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    pids
}

fn group_of(pid: i32) -> Option<i32> {
    getpgid(Pid::from_raw(pid)).ok().map(Pid::as_raw_pid)
}

fn read(pid: i32) -> Option<Process> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&bytes))
}

/// Reads the fields of `proc(5)`. The state, the third field, follows the last `)`: the name may
/// contain any character.
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
