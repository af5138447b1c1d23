//! The causes why a client does not reach its server, found by the library and shown by the binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

mod binary;
mod path;
mod permission;
mod server;
mod wire;

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use kakehi_doctor::{Check, Finding, Problem, Report};
use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use tempfile::TempDir;

/// The uid of an unprivileged user, for tests that need a second user.
const NOBODY: u32 = 65534;

/// For servers that answer, on a machine that is busy.
const LONG: Duration = Duration::from_secs(10);

/// For servers that do not.
const SHORT: Duration = Duration::from_millis(200);

/// A folder that everybody can pass through.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        chmod(home.0.path(), 0o755);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Examines `path` as the user that runs the tests.
fn examine(path: impl AsRef<Path>) -> Report {
    examine_for(LONG, path)
}

fn examine_for(patience: Duration, path: impl AsRef<Path>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(kakehi_doctor::examine(path, patience))
}

/// Examines `path` as the user `NOBODY` in the group `gid`. Returns `None` if the tests may not
/// change user.
fn examine_as_nobody(path: &Path, gid: u32) -> Option<Report> {
    if !geteuid().is_root() {
        skip("only root can be another user");
        return None;
    }
    let path = path.to_owned();
    let examining = thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(gid));
        // Of this thread alone.
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        examine(path)
    });
    Some(examining.join().unwrap())
}

/// The one finding that is a problem is the last one; it is about `check`, and says all three
/// things in one line each, `what` among them.
#[track_caller]
fn problem<'r>(report: &'r Report, check: Check, problem: Problem, what: &str) -> &'r Finding {
    assert!(!report.is_healthy());
    let finding = report.first_problem().unwrap();
    assert_eq!(Some(finding), report.findings.last(), "{report}");
    assert_eq!((finding.check, finding.problem), (check, Some(problem)), "{report}");
    assert!(finding.what.contains(what), "no {what:?} in {finding}");
    for part in [Some(&finding.what), finding.why.as_ref(), finding.remedy.as_ref()] {
        let part = part.expect("it says all three things");
        assert!(!part.is_empty() && !part.contains(char::is_control), "{part:?}");
    }
    assert!(!finding.to_string().contains("os error"), "{finding}");
    finding
}

#[track_caller]
fn healthy(report: &Report) {
    assert!(report.is_healthy(), "{report}");
    for finding in &report.findings {
        assert_eq!((&finding.why, &finding.remedy), (&None, &None), "{finding}");
    }
}

fn why(finding: &Finding) -> &str {
    finding.why.as_deref().unwrap()
}

fn remedy(finding: &Finding) -> &str {
    finding.remedy.as_deref().unwrap()
}

/// Past the capture of output, which hides what passing tests print.
fn skip(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let notice = format!("\nSKIPPED, in whole or in part: {test}: {why}\n");
    io::stderr().write_all(notice.as_bytes()).unwrap();
}
