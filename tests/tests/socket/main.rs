//! The socket of a server: creation, refusal, takeover and removal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails; the other process talks by its output"
)]

mod existing;
mod handed;
mod leaving;
mod newborn;
mod other;
mod place;
mod refusing;
mod single;

use std::{
    env,
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use kakehi_server::{BindError, BindErrorKind as Kind};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::geteuid,
};
use tempfile::TempDir;

/// The uid of an unprivileged user.
const NOBODY: u32 = 65534;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kind of the system call's error behind `error`.
fn io_kind(error: &BindError) -> Option<io::ErrorKind> {
    let source: &dyn std::error::Error = error;
    Some(source.source()?.downcast_ref::<io::Error>()?.kind())
}

/// A private directory for sockets, empty at first.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// What, why and what to do, in one line.
fn assert_refused(error: &BindError, kind: Kind, why: &str, remedy: &str) {
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    let (what, rest) = message.split_once(": ").expect("a reason");
    assert!(what.starts_with("cannot listen on "), "{message}");
    let (because, so) = rest.rsplit_once("; ").expect("a remedy");
    assert!(because.contains(why), "no {why:?} in {message:?}");
    assert!(so.contains(remedy), "no {remedy:?} in {message:?}");
    assert_eq!(message.lines().count(), 1, "{message:?}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    File::open(path).unwrap().set_permissions(Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn is_root() -> bool {
    geteuid().is_root()
}

fn skip_tool(tool: &str) {
    assert!(env::var("KAKEHI_REQUIRE_TOOLS").as_deref() != Ok("1"), "{tool} is not usable here");
    skip(&format!("{tool} is not usable here"));
}

/// Past the capture of output, which hides what passing tests print.
fn skip(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let notice = format!("\nSKIPPED, in whole or in part: {test}: {why}\n");
    io::stderr().write_all(notice.as_bytes()).unwrap();
}
