//! A server on another machine: the `kakehi` binary through OpenSSH, of which both ends are real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

mod asking;
mod dialing;
mod failing;
mod many;
mod sshd;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use kakehi_tests::programs::{Server, binary, wait_for};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use sshd::Sshd;

/// Two jobs: one that ends by itself, and one that does not.
const JOBS: &str = r#"
[job.fails]
run = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]

[job.stays]
run = ["/bin/sh", "-c", "echo $$; exec sleep 600"]
"#;

/// A server with [`JOBS`].
fn server() -> Server {
    let jobs = tempfile::NamedTempFile::new().unwrap();
    fs::write(jobs.path(), JOBS).unwrap();
    Server::start(&["--jobs", jobs.path().to_str().unwrap()])
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Whether it has not ended: who was orphaned may be a zombie for a while.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

fn wait_for_end(pid: i32) {
    wait_for(|| (!is_alive(pid)).then_some(())).expect("it ends");
}

/// The processes that `parent` has started.
fn children(parent: &Child) -> Vec<i32> {
    let pid = parent.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The child of `parent` that is ssh, once it is.
fn ssh_of(parent: &Child) -> i32 {
    let is_ssh = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "ssh\n")
    };
    wait_for(|| children(parent).into_iter().find(is_ssh)).expect("there is an ssh")
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
