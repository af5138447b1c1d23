//! The `server` binary: what is typed becomes a server that runs named jobs.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::{
    arguments::Arguments,
    daemon::{self, End},
    jobs,
};

/// Does what the arguments say. Each thread of the runtime begins by calling `on_thread_start`.
#[must_use]
pub fn run(on_thread_start: fn()) -> ExitCode {
    let arguments = Arguments::parse();
    if let (true, Some(file)) = (arguments.check, &arguments.jobs) {
        return check(file);
    }
    // What this process has inherited is not for its jobs.
    close_fds::set_fds_cloexec(3, &[]);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // It would panic where stderr cannot be written, as on a full disk.
        .log_internal_errors(false)
        .init();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.enable_all().on_thread_start(on_thread_start).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let end = runtime.block_on(daemon::run(arguments));
    // Whatever is still there has had its time.
    runtime.shutdown_background();
    match end {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::AtOnce(signal)) => ExitCode::from(128 + signal),
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with a jobs file. What cannot be said is not: the exit code tells.
fn check(file: &Path) -> ExitCode {
    match jobs::load(file) {
        Ok(jobs) => {
            for job in jobs.values().filter(|job| job.takes_options()) {
                let _ = writeln!(
                    stderr(),
                    "warning: callers of `{}` may give options to its program: end `run` with \
                     \"--\", or let no pattern begin with a hyphen",
                    job.name,
                );
            }
            let plural = if jobs.len() == 1 { "" } else { "s" };
            let _ = writeln!(stdout(), "ok, {} job{plural}", jobs.len());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in problems {
                let _ = writeln!(stderr(), "{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

/// A job: its name, its program, and its command line.
pub type Declared = (String, PathBuf, Vec<String>);

/// Reads a jobs file: the door for those who fuzz it. It is of no API.
///
/// # Errors
/// All that is wrong with it, each with its line.
pub fn read_jobs(bytes: &[u8]) -> Result<Vec<Declared>, Vec<(usize, String)>> {
    let jobs = jobs::parse(bytes).map_err(|problems| {
        problems.into_iter().map(|problem| (problem.line, problem.text)).collect::<Vec<_>>()
    })?;
    let declared = |job: &Arc<jobs::Job>| (job.name.clone(), job.program.clone(), job.run.clone());
    Ok(jobs.values().map(declared).collect())
}
