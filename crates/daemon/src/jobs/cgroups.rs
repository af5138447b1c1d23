//! A control group for each run, where the daemon has a delegated one. No process can leave it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::getxattr,
    process::{Pid, PidfdFlags, Signal, geteuid, getpid, pidfd_open, pidfd_send_signal},
};
use tracing::{info, warn};

/// The daemon's delegated control group. The daemon is in its child `daemon`, and each run in a
/// child of `runs`.
#[derive(Debug)]
pub(crate) struct Cgroups {
    daemon: PathBuf,
    runs: PathBuf,
}

/// The control group of one run. Dropping it removes it, if it is empty.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where a child of the daemon begins.
    daemon: PathBuf,
}

impl Cgroups {
    /// Moves the daemon into a child of its control group, and kills what an earlier daemon left in
    /// it. Returns `None` where the group is not delegated, or has other processes. Blocks.
    pub(crate) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let folder = folder(&own, &mounts)?;
        if !is_delegated(&folder) || pids(&folder) != [getpid().as_raw_pid()] {
            return None;
        }
        match Self::prepare(&folder) {
            Ok(cgroups) => {
                info!(folder = ?cgroups.runs, "each run has a control group of its own");
                Some(cgroups)
            }
            Err(error) => {
                warn!(?folder, %error, "cannot use the delegated control group");
                None
            }
        }
    }

    fn prepare(folder: &Path) -> io::Result<Self> {
        // Comes with Linux 5.14.
        fs::metadata(folder.join("cgroup.kill"))?;
        let cgroups = Self { daemon: folder.join("daemon"), runs: folder.join("runs") };
        create(&cgroups.daemon)?;
        if !pids(&cgroups.daemon).is_empty() {
            return Err(io::Error::other("another daemon uses it"));
        }
        create(&cgroups.runs)?;
        cgroups.clear();
        fs::write(cgroups.daemon.join("cgroup.procs"), "0")?;
        Ok(cgroups)
    }

    /// Kills the runs of an earlier daemon and removes their control groups.
    fn clear(&self) {
        const ROUNDS: usize = 50;
        const PAUSE: Duration = Duration::from_millis(20);
        self.kill_all();
        for _ in 0..ROUNDS {
            let left = children(&self.runs);
            if left.iter().filter(|path| remove(path).is_err()).count() == 0 {
                return;
            }
            sleep(PAUSE);
        }
    }

    /// Creates the control group of a run.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn create(&self, run: &str) -> io::Result<Cgroup> {
        let path = self.runs.join(run);
        create(&path)?;
        Ok(Cgroup { path, daemon: self.daemon.clone() })
    }

    /// Kills all processes of all runs.
    pub(crate) fn kill_all(&self) {
        kill(&self.runs);
    }
}

impl Cgroup {
    /// Moves the processes into this group that are in the group of the daemon and are not the
    /// daemon. While one run starts at a time, they are the first process of that run and what it
    /// has forked since. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// If the system refuses, or the processes fork faster than they can be moved.
    pub(crate) fn adopt(&self) -> io::Result<()> {
        const ROUNDS: usize = 1000;
        let (own, procs) = (getpid().as_raw_pid(), self.path.join("cgroup.procs"));
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            let mut new = pids(&self.daemon);
            new.retain(|pid| *pid != own);
            if new.is_empty() {
                return Ok(());
            }
            // Fails if the process has ended.
            let moved = new.into_iter().map(|pid| fs::write(&procs, pid.to_string()));
            result = moved.fold(Ok(()), io::Result::and);
        }
        result.and_then(|()| Err(io::Error::other("its processes fork too fast")))
    }

    /// Kills all processes of the group at once, also those that fork meanwhile.
    pub(crate) fn kill(&self) {
        kill(&self.path);
    }

    /// Signals the processes of the group for which `is_known` is `false`.
    pub(crate) fn signal_others(&self, signal: Signal, is_known: impl Fn(Pid) -> bool) {
        let others = pids(&self.path).into_iter().filter_map(Pid::from_raw);
        for pid in others.filter(|pid| !is_known(*pid)) {
            let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            // The pid may have been reused before the descriptor was opened.
            if pids(&self.path).contains(&pid.as_raw_pid()) {
                let _ = pidfd_send_signal(&descriptor, signal);
            }
        }
    }

    /// Whether all processes have ended.
    pub(crate) fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        !events.lines().any(|line| line == "populated 1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while a killed process has not ended. The next daemon removes the group then.
        let _ = remove(&self.path);
    }
}

/// Returns the folder of the control group that `/proc/self/cgroup` names, by `/proc/self/mountinfo`.
fn folder(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| Path::new(point).join(below))
    })
}

/// Whether the group was given to this daemon: systemd marks it, or gives it to the daemon's user.
fn is_delegated(folder: &Path) -> bool {
    let mut value = [0; 8];
    let marked = getxattr(folder, "user.delegate", &mut value).ok();
    if marked.and_then(|length| value.get(..length)) == Some(b"1") {
        return true;
    }
    let owner = fs::metadata(folder).map(|metadata| metadata.uid()).unwrap_or_default();
    owner != 0 && owner == geteuid().as_raw()
}

/// Returns the processes that are directly in a group. Those of another PID namespace are 0.
fn pids(group: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn create(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn kill(group: &Path) {
    if let Err(error) = fs::write(group.join("cgroup.kill"), "1") {
        warn!(?group, %error, "cannot kill a control group");
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Removes a group, and the groups that its processes made in it.
fn remove(group: &Path) -> io::Result<()> {
    for child in children(group) {
        remove(&child)?;
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let found = |own, mounts| folder(own, mounts).map(|path| path.display().to_string());
        let unified = "24 1 0:22 / /proc rw - proc proc rw\n\
                       30 24 0:26 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let own = "0::/system.slice/kakehid.service\n";
        let expected = "/sys/fs/cgroup/system.slice/kakehid.service";
        assert_eq!(found(own, unified).as_deref(), Some(expected));
        let hybrid = "29 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let own = "1:name=systemd:/a\n0::/b\n";
        assert_eq!(found(own, hybrid).as_deref(), Some("/sys/fs/cgroup/unified/b"));
        let below = "30 24 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        assert_eq!(found("0::/docker/1/c\n", below).as_deref(), Some("/sys/fs/cgroup/c"));
        assert_eq!(found("0::/other\n", below), None);
        assert_eq!(found("1:name=systemd:/a\n", hybrid), None);
        assert_eq!(found(own, ""), None);
    }
}
