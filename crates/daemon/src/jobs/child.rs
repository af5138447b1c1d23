//! The first process of a run, with the environment that its job declares.

use std::{
    env, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::Arc,
};

use kakehi_channel::TraceContext;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::{Receiver, Sender},
};
use tracing::debug;

use super::{
    job::Job,
    processes::{Group, Processes},
    progress::Source,
};

/// The pipes of a run.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) output: Output,
    /// Reports of progress, if the job declares them.
    pub(crate) progress: Option<Receiver>,
    /// `None`: the standard input is empty.
    pub(crate) stdin: Option<Sender>,
}

/// The output of a run.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
}

/// Starts `job` as the run `run` of the daemon with the state `state`, with `args` appended. The
/// process belongs to the trace of the request, unless the environment of the job sets another one.
///
/// The process leads its own process group, so that the whole run can be signalled. It needs no
/// session of its own, because the daemon has no terminal.
///
/// # Errors
/// If the system cannot start the program, or the daemon is shutting down.
pub(crate) fn start(
    job: &Job,
    (run, state): (&str, &str),
    trace: Option<&TraceContext>,
    args: &[String],
    has_input: bool,
    processes: &Arc<Processes>,
) -> io::Result<(Group, Pipes)> {
    let mut command = command(job, trace, args, has_input);
    command.env(RUN, run).env(STATE, state);
    let (progress, reports) = match job.progress {
        Some(Source::Descriptor) => Some(pipe_with(PipeFlags::CLOEXEC)?).unzip(),
        _ => (None, None),
    };
    if let Some(reports) = &reports {
        // The number of the descriptor stays the same in the child.
        command.env("KAKEHI_PROGRESS_FD", reports.as_raw_fd().to_string());
    }
    let (group, mut child) = processes.start(run, &mut command, |inherited| {
        let flags = if inherited { FdFlags::empty() } else { FdFlags::CLOEXEC };
        reports.as_ref().map_or(Ok(()), |reports| Ok(fcntl_setfd(reports, flags)?))
    })?;
    let receiver =
        |pipe: Option<OwnedFd>| Receiver::from_owned_fd(pipe.ok_or(io::ErrorKind::BrokenPipe)?);
    let stdout = receiver(child.stdout.take().map(OwnedFd::from))?;
    let stderr = receiver(child.stderr.take().map(OwnedFd::from))?;
    let stdin = child.stdin.take().map(|pipe| Sender::from_owned_fd(pipe.into())).transpose()?;
    let progress = progress.map(Receiver::from_owned_fd).transpose()?;
    Ok((group, Pipes { output: Output { stdout, stderr }, progress, stdin }))
}

fn command(job: &Job, trace: Option<&TraceContext>, args: &[String], has_input: bool) -> Command {
    let mut command = Command::new(&job.program);
    if let Some((name, fixed)) = job.run.split_first() {
        command.arg0(name).args(fixed);
    }
    command.args(args).current_dir(&job.cwd).env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(env::var_os(name).map(|value| (name, value)));
    }
    if let Some(trace) = trace {
        command.env("TRACEPARENT", trace.traceparent());
        command.envs(trace.tracestate().map(|state| ("TRACESTATE", state)));
    }
    command.envs(&job.env);
    command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The variable with the id of the run. After a crash, the next daemon finds processes by it.
pub(crate) const RUN: &str = "KAKEHI_RUN";
/// The variable with what identifies the state folder, as two daemons may have runs of the same id.
pub(crate) const STATE: &str = "KAKEHI_STATE";

/// Writes the standard input of a run, and closes it.
pub(crate) async fn feed(pipe: Option<Sender>, input: Vec<u8>) {
    if let Some(mut pipe) = pipe
        && let Err(error) = pipe.write_all(&input).await
    {
        debug!(%error, "a run has not read its standard input");
    }
}
