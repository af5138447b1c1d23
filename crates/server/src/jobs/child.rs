//! A job's first process: started with nothing but what its job gives it.

use std::{
    env, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::net::unix::pipe::Receiver;

use super::{
    job::Job,
    processes::{Group, Processes},
};

/// What a run writes.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
}

/// Starts `job` with `args` appended.
///
/// It leads its own process group, which is what is signalled as a whole. It needs no session of
/// its own: the server has no terminal.
///
/// # Errors
/// What the system says, or that the server is ending.
pub(crate) fn start(
    job: &Job,
    args: &[String],
    processes: &Arc<Processes>,
) -> io::Result<(Group, Pipes)> {
    let (group, mut child) = processes.start(&mut command(job, args))?;
    let receiver =
        |pipe: Option<OwnedFd>| Receiver::from_owned_fd(pipe.ok_or(io::ErrorKind::BrokenPipe)?);
    let stdout = receiver(child.stdout.take().map(OwnedFd::from))?;
    let stderr = receiver(child.stderr.take().map(OwnedFd::from))?;
    Ok((group, Pipes { stdout, stderr }))
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
    command
}
