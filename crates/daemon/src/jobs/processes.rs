//! Starts, signals and reaps the processes of all runs.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, kill_process_group,
        set_child_subreaper, test_kill_process_group, wait, waitid,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    cgroups::{Cgroup, Cgroups},
    descendants::{Descendants, can_list_children, goes_on},
};

/// The processes of all runs. This process is their subreaper: it also adopts and reaps orphans.
///
/// A run is a process group. The kernel reuses the number of a group once its last process is
/// reaped. Therefore no process is reaped while a group is signalled. If the first process has
/// ended, the group is first checked for members, because the last one may have left it.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Whether starting processes is over. Locked for writing while children are reaped. Locked
    /// for reading while a process starts (std reaps one that fails) or a group is signalled.
    over: RwLock<bool>,
    groups: Mutex<BTreeMap<i32, watch::Sender<State>>>,
    starting: Mutex<()>,
    /// Where the daemon has a delegated control group.
    cgroups: Option<Cgroups>,
    /// Cancelled when the drain is over, to end the runs that are left.
    pub(crate) shutdown: CancellationToken,
}

/// The processes of one run. Dropping it kills those that are left.
#[derive(Debug)]
pub(crate) struct Group {
    processes: Arc<Processes>,
    leader: Pid,
    state: watch::Receiver<State>,
    /// The descendants when the group was last signalled.
    descendants: Mutex<Descendants>,
    cgroup: Option<Cgroup>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The exit status of the first process.
    status: Option<ExitStatus>,
    /// All processes have ended.
    gone: bool,
}

impl Processes {
    /// Makes this process the subreaper, and reaps its children.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut ends = signal(SignalKind::child())?;
        let cgroups = Cgroups::find();
        if cgroups.is_none() && !can_list_children() {
            warn!(
                "/proc cannot be read or lists no children, and there is no delegated control \
                 group: processes of a run that leave its process group are not ended"
            );
        }
        let processes = Arc::new(Self {
            over: RwLock::new(false),
            groups: Mutex::default(),
            starting: Mutex::default(),
            cgroups,
            shutdown: CancellationToken::new(),
        });
        let reaping = Arc::clone(&processes);
        tokio::spawn(async move {
            loop {
                ends.recv().await;
                reaping.reap();
            }
        });
        Ok(processes)
    }

    /// Starts `command` as the first process of the run `run`, in a process group of its own. Calls
    /// `inherit` with `true` before and `false` after the fork, to let the child inherit
    /// descriptors.
    ///
    /// # Errors
    /// If the system cannot start it, or all runs have been killed.
    pub(crate) fn start(
        self: &Arc<Self>,
        run: &str,
        command: &mut Command,
        inherit: impl Fn(bool) -> io::Result<()>,
    ) -> io::Result<(Group, Child)> {
        // One at a time, so that no other child inherits the descriptors of this one, or is taken
        // into its control group.
        let _alone = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let cgroup = self.cgroups.as_ref().map(|cgroups| cgroups.create(run)).transpose()?;
        let (leader, state, child) = self.spawn(command, inherit)?;
        let descendants = Mutex::default();
        let group = Group { processes: Arc::clone(self), leader, state, descendants, cgroup };
        // On an error, dropping the group kills it.
        group.cgroup.as_ref().map_or(Ok(()), Cgroup::adopt)?;
        Ok((group, child))
    }

    fn spawn(
        &self,
        command: &mut Command,
        inherit: impl Fn(bool) -> io::Result<()>,
    ) -> io::Result<(Pid, watch::Receiver<State>, Child)> {
        let over = self.read();
        if *over {
            return Err(io::Error::other("the daemon is shutting down"));
        }
        inherit(true)?;
        let child = command.process_group(0).spawn();
        inherit(false)?;
        let child = child?;
        let (sender, state) = watch::channel(State::default());
        let leader = Pid::from_child(&child);
        self.groups().insert(leader.as_raw_pid(), sender);
        Ok((leader, state, child))
    }

    /// Kills all groups. No process starts afterwards.
    pub(crate) fn kill_all(&self) {
        *self.write() = true;
        let _unreaped = self.read();
        for (leader, group) in &*self.groups() {
            if let Some(leader) = still(*leader, *group.borrow()) {
                signal_all(leader, &mut Descendants::default(), Signal::KILL);
            }
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.kill_all();
        }
    }

    fn reap(&self) {
        let _alone = self.write();
        let groups = &mut *self.groups();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(group) = groups.get(&pid.as_raw_pid()) {
                        let status = Some(ExitStatus::from_raw(status.as_raw()));
                        group.send_modify(|state| state.status = status);
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
        forget_the_gone(groups);
    }

    /// Forgets groups whose last process left them. No signal reports this.
    fn look(&self) {
        let _alone = self.write();
        forget_the_gone(&mut self.groups());
    }

    fn read(&self) -> RwLockReadGuard<'_, bool> {
        self.over.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, bool> {
        self.over.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<i32, watch::Sender<State>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_the_gone(groups: &mut BTreeMap<i32, watch::Sender<State>>) {
    groups.retain(|leader, group| {
        let state = *group.borrow();
        let gone = state.status.is_some() && still(*leader, state).is_none();
        if gone {
            group.send_modify(|state| state.gone = true);
        }
        !gone
    });
}

/// Returns the number of a group if it still belongs to the run.
fn still(leader: i32, state: State) -> Option<Pid> {
    let pid = Pid::from_raw(leader).filter(|_| !state.gone)?;
    (state.status.is_none() || has_members(pid)).then_some(pid)
}

/// Whether a group has children of this process that are not reaped, or other running processes.
/// Orphans are children of this process. Few members have a parent that left the group.
fn has_members(leader: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pgid(Some(leader)), look).is_ok()
        || test_kill_process_group(leader) != Err(Errno::SRCH) && goes_on(leader.as_raw_pid())
}

/// Signals a group and the descendants that have left it. All are stopped first, so that none can
/// fork meanwhile.
fn signal_all(leader: Pid, descendants: &mut Descendants, signal: Signal) {
    let group = leader.as_raw_pid();
    signal_group(leader, Signal::STOP);
    descendants.stop(group);
    signal_group(leader, signal);
    descendants.signal_outside(group, signal);
    signal_group(leader, Signal::CONT);
    descendants.signal(Signal::CONT);
}

fn signal_group(leader: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(leader, signal) {
        debug!(%error, ?leader, ?signal, "cannot signal a process group");
    }
}

impl Group {
    /// The number of the group, and of its first process.
    pub(crate) fn leader(&self) -> i32 {
        self.leader.as_raw_pid()
    }

    /// Signals all processes of the group, their descendants that have left it, and all others of the
    /// control group.
    pub(crate) fn signal(&self, signal: Signal) {
        let _unreaped = self.processes.read();
        let descendants = &mut *self.descendants();
        match still(self.leader(), *self.state.borrow()) {
            Some(leader) => signal_all(leader, descendants, signal),
            None => descendants.signal(signal),
        }
        match &self.cgroup {
            Some(cgroup) if signal == Signal::KILL => cgroup.kill(),
            Some(cgroup) => cgroup.signal_others(signal, |pid| {
                descendants.contains(pid) || getpgid(Some(pid)) == Ok(self.leader)
            }),
            None => {}
        }
    }

    /// Waits until the first process has ended, and returns its exit status. Cancel safe.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| state.status.is_some()).await;
        // The sender lives until all processes have ended.
        ended.ok().and_then(|state| state.status).unwrap_or_default()
    }

    /// Waits until all processes have ended, also the descendants outside of the group, and all of
    /// the control group. Cancel safe.
    pub(crate) async fn gone(&self) {
        /// Intervals of checking the group for members.
        const OFTEN: Duration = Duration::from_millis(20);
        const SELDOM: Duration = Duration::from_millis(100);
        let (mut state, mut pause) = (self.state.clone(), OFTEN);
        // A dropped sender also means that all have ended.
        while timeout(pause, state.wait_for(|state| state.gone)).await.is_err() {
            self.processes.look();
            pause = (2 * pause).min(SELDOM);
        }
        let descendants = self.descendants().clone();
        descendants.gone().await;
        if let Some(cgroup) = &self.cgroup {
            while !cgroup.is_empty() {
                sleep(OFTEN).await;
            }
        }
    }

    fn descendants(&self) -> MutexGuard<'_, Descendants> {
        self.descendants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
