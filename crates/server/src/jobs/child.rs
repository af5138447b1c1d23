//! A job's process: started with nothing but what its job gives it, and never left behind.

use std::{
    env, io,
    process::{ExitStatus, Stdio},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, waitid},
};
use tokio::{
    process::{ChildStderr, ChildStdout, Command},
    signal::unix::{Signal as Signals, SignalKind, signal},
};

use super::{job::Job, registry::Running};

/// The first process of a run, the leader of its own process group.
///
/// A process group is enough, a new session is not needed: the server has no terminal, and a group
/// is what can be signalled as a whole. Dropped, it kills the whole group; the runtime reaps.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    process: tokio::process::Child,
    running: &'a Running,
    pid: Pid,
    /// One for each child of this process that changes its state.
    changes: Signals,
}

/// What a run writes.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl<'a> Child<'a> {
    /// Starts `job` with `args` appended.
    ///
    /// # Errors
    /// What the system says, or that the server is ending.
    pub(crate) fn start(
        job: &Job,
        args: &[String],
        running: &'a Running,
    ) -> io::Result<(Self, Pipes)> {
        let changes = signal(SignalKind::child())?;
        let mut command = command(job, args);
        let started = running.unless_over(|| {
            let process = command.spawn()?;
            let pid = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            let pid = pid.ok_or_else(|| io::Error::other("it has no pid"))?;
            running.group.set(pid);
            Ok(Self { process, running, pid, changes })
        });
        let mut child: Self =
            started.unwrap_or_else(|| Err(io::Error::other("the server is ending")))?;
        let pipes = child.process.stdout.take().zip(child.process.stderr.take());
        let (stdout, stderr) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((child, Pipes { stdout, stderr }))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Signals the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.group.signal(signal);
    }

    /// Waits until the process has ended, and leaves it unreaped: its group still has its number.
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.pid), look) {
                Ok(None) | Err(Errno::INTR) => {}
                Ok(Some(_)) | Err(_) => return,
            }
            self.changes.recv().await;
        }
    }

    /// Reaps the process, which has ended. There is no group to signal any more.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.running.group.forget();
        self.process.wait().await
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.running.group.forget();
    }
}

fn command(job: &Job, args: &[String]) -> Command {
    let mut command = Command::new(&job.program);
    if let Some((name, fixed)) = job.run.split_first() {
        command.arg0(name).args(fixed);
    }
    command.args(args).current_dir(&job.cwd).env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(env::var_os(name).map(|value| (name, value)));
    }
    command.envs(&job.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    command
}
