//! The program `kakehid`: a daemon that runs named jobs.

mod arguments;
mod daemon;
mod demo;
mod fleet;
mod jobs;
mod manual;
mod systemd;

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tracing::error;
use tracing_subscriber::EnvFilter;

use self::{arguments::Arguments, daemon::End};

/// Runs the program. Each thread of the runtime first calls `on_thread_start`.
#[must_use]
pub fn run(on_thread_start: fn()) -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.man {
        let printed = stdout().write_all(&manual::page());
        return printed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if let (true, Some(file)) = (arguments.check, &arguments.jobs) {
        return check(file);
    }
    // Jobs do not inherit the descriptors that this process inherited.
    close_fds::set_fds_cloexec(3, &[]);
    // The fleet logs the connections to its broker itself.
    let default = || EnvFilter::new("info,async_nats=warn");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| default());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // Reporting a failed write would panic, as on a full disk.
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
    // Tasks that still run have had their time.
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

/// Prints the problems of a jobs file. If printing fails, the exit code still shows the result.
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

/// Reads a jobs file. Public for fuzzing only; not covered by semver.
///
/// # Errors
/// All problems of the file, each with its line.
pub fn read_jobs(bytes: &[u8]) -> Result<Vec<Declared>, Vec<(usize, String)>> {
    let jobs = jobs::parse(bytes).map_err(|problems| {
        problems.into_iter().map(|problem| (problem.line, problem.text)).collect::<Vec<_>>()
    })?;
    let declared = |job: &Arc<jobs::Job>| (job.name.clone(), job.program.clone(), job.run.clone());
    Ok(jobs.values().map(declared).collect())
}
