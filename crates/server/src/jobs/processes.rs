//! The processes of all runs: started, signalled and reaped here, and nowhere else.

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
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, set_child_subreaper,
        test_kill_process_group, wait, waitid,
    },
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tracing::debug;

use super::family::{Family, goes_on};

/// The parent of all processes of all runs, also of those whose own parents have ended: as init
/// does, it reaps whatever ends, so that no zombie is left to anybody.
///
/// A run is a process group. Its number belongs to it for as long as it has a process that is not
/// reaped. Nothing is reaped while a group is signalled, and a group whose first process has ended
/// is looked at before: its last process may have left it, so that the number is free.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Whether the end has come. Written while children are reaped, read while one is started
    /// (std waits by itself for one that cannot be) or a group is signalled.
    over: RwLock<bool>,
    groups: Mutex<BTreeMap<i32, watch::Sender<State>>>,
}

/// The processes of one run. Dropped, it kills those that are left.
#[derive(Debug)]
pub(crate) struct Group {
    processes: Arc<Processes>,
    leader: Pid,
    state: watch::Receiver<State>,
    /// Who they were when they were signalled.
    family: Mutex<Family>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// How the first process has ended.
    status: Option<ExitStatus>,
    /// All have ended.
    gone: bool,
}

impl Processes {
    /// Takes charge of the children of this process.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut ends = signal(SignalKind::child())?;
        let processes = Arc::new(Self { over: RwLock::new(false), groups: Mutex::default() });
        let reaping = Arc::clone(&processes);
        tokio::spawn(async move {
            loop {
                ends.recv().await;
                reaping.reap();
            }
        });
        Ok(processes)
    }

    /// Starts `command` as the first process of a group of its own.
    ///
    /// # Errors
    /// What the system says, or that the end has come.
    pub(crate) fn start(self: &Arc<Self>, command: &mut Command) -> io::Result<(Group, Child)> {
        let over = self.read();
        if *over {
            return Err(io::Error::other("the server is ending"));
        }
        let child = command.process_group(0).spawn()?;
        let (sender, state) = watch::channel(State::default());
        let leader = Pid::from_child(&child);
        self.groups().insert(leader.as_raw_pid(), sender);
        let family = Mutex::default();
        Ok((Group { processes: Arc::clone(self), leader, state, family }, child))
    }

    /// Kills all groups; nothing is started afterwards.
    pub(crate) fn kill_all(&self) {
        *self.write() = true;
        let _unreaped = self.read();
        for (leader, group) in &*self.groups() {
            if let Some(leader) = still(*leader, *group.borrow()) {
                signal_all(leader, &mut Family::default(), Signal::KILL);
            }
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

    /// Looks for groups that have gone without anybody's end: the last process has left.
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

/// The number of a group that is still the run's.
fn still(leader: i32, state: State) -> Option<Pid> {
    let pid = Pid::from_raw(leader).filter(|_| !state.gone)?;
    (state.status.is_none() || has_members(pid)).then_some(pid)
}

/// Whether a group has processes of ours that are not reaped, or of others that go on. All that
/// have lost their parents are children of this process; few have a parent that left the group.
fn has_members(leader: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pgid(Some(leader)), look).is_ok()
        || test_kill_process_group(leader) != Err(Errno::SRCH) && goes_on(leader.as_raw_pid())
}

/// Signals a group and those who have left it. All are stopped meanwhile, so that none escapes.
fn signal_all(leader: Pid, family: &mut Family, signal: Signal) {
    let group = leader.as_raw_pid();
    signal_group(leader, Signal::STOP);
    family.stop(group);
    signal_group(leader, signal);
    family.signal_strays(group, signal);
    signal_group(leader, Signal::CONT);
    family.signal(Signal::CONT);
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

    /// Signals all processes of the group, and their descendants that have left it.
    pub(crate) fn signal(&self, signal: Signal) {
        let _unreaped = self.processes.read();
        let family = &mut *self.family();
        match still(self.leader(), *self.state.borrow()) {
            Some(leader) => signal_all(leader, family, signal),
            None => family.signal(signal),
        }
    }

    /// Waits until the first process has ended; says how. Cancel safe.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| state.status.is_some()).await;
        // The sender stays until all are gone.
        ended.ok().and_then(|state| state.status).unwrap_or_default()
    }

    /// Waits until all have ended, also those that were signalled outside of the group. Cancel
    /// safe.
    pub(crate) async fn gone(&self) {
        /// How often it is looked whether the last process has left the group: no signal tells.
        const OFTEN: Duration = Duration::from_millis(20);
        const SELDOM: Duration = Duration::from_millis(100);
        let (mut state, mut pause) = (self.state.clone(), OFTEN);
        // A sender that has gone has said so.
        while timeout(pause, state.wait_for(|state| state.gone)).await.is_err() {
            self.processes.look();
            pause = (2 * pause).min(SELDOM);
        }
        let family = self.family().clone();
        family.gone().await;
    }

    fn family(&self) -> MutexGuard<'_, Family> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
