//! Runs of a daemon with a delegated control group: no process escapes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kakehi_tests::programs::{has_tool, skip, wait_for};
use rustix::{
    fs::{XattrFlags, setxattr},
    process::Signal,
};
use serde_json::json;

use super::support::{Jobs, alive, run, unique_seconds, wait_until_alive};

/// A control group that is marked as systemd marks a delegated one. Dropping it kills and removes it.
struct Delegated(PathBuf);

impl Delegated {
    /// Returns `None`, and says so, where this test may not create one.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root can create a control group");
            return None;
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mounted = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let points: Vec<_> = mounted.filter_map(|line| line.split(' ').nth(1)).collect();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let created = points.iter().find_map(|point| {
            let path = Path::new(point).join(own).join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&path).ok().map(|()| Self(path))
        });
        let marked = created.filter(|group| {
            setxattr(&group.0, "user.delegate", b"1", XattrFlags::empty()).is_ok()
                && group.0.join("cgroup.kill").exists()
        });
        if marked.is_none() {
            skip("no control group of version 2 can be created");
        }
        marked.filter(|_| has_tool("setsid"))
    }

    /// Starts a daemon in the group.
    fn start(&self, jobs: &str, flags: &[&str]) -> Jobs {
        let setting = format!("echo $$ > {}/cgroup.procs", self.0.display());
        let jobs = Jobs::start_after(&setting, jobs, flags);
        jobs.wait_for_log("each run has a control group of its own");
        jobs
    }

    /// The control groups of runs.
    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join("runs")).unwrap().map(|entry| entry.unwrap());
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders.map(|entry| entry.path()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        fn remove(group: &Path) {
            for entry in fs::read_dir(group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = wait_for(|| fs::remove_dir(group).ok());
        }
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        remove(&self.0);
    }
}

/// For a shell: starts a process that becomes a daemon, with nothing in its environment.
fn escaping(what: &str) -> String {
    format!("setsid env -i PATH=\"$PATH\" sh -c \"{what} & exit\"")
}

#[test]
fn a_cancelled_run_ends_also_what_became_a_daemon() {
    let Some(group) = Delegated::new("kakehi-cancel") else { return };
    let seconds = unique_seconds();
    let escape = escaping(&format!("sleep {seconds}"));
    let script = format!("{escape}; {escape}; echo started; sleep {seconds}");
    let jobs = group.start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"), &[]);
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    assert_eq!(client.progress(), "started");
    wait_until_alive(&seconds, 4);
    assert_eq!(group.runs().len(), 1);
    let run = jobs.running()[0]["run"].clone();
    jobs.ask(json!({ "cancel": { "id": run } }));
    assert_eq!(client.last()["content"]["ended_by"], "cancel");
    assert!(alive(&seconds).is_empty(), "{:?}", alive(&seconds));
    assert!(group.runs().is_empty());
}

#[test]
fn nothing_is_left_of_a_run_that_ended_by_itself() {
    let Some(group) = Delegated::new("kakehi-end") else { return };
    let seconds = unique_seconds();
    // Many processes fork and leave at the very start of the run.
    let escape = escaping(&format!("sleep {seconds}"));
    let script = format!("for i in 1 2 3 4 5 6 7 8 9 10; do {escape}; done; exit 3");
    let jobs = group.start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"), &[]);
    for _ in 0..5 {
        assert_eq!(jobs.run("a", &[])["content"]["exit_code"], 3);
        assert!(alive(&seconds).is_empty(), "{:?}", alive(&seconds));
    }
    assert!(group.runs().is_empty());
    assert_eq!(jobs.run("a", &[])["content"]["ended_by"], json!(null));
}

#[test]
fn what_became_a_daemon_may_clean_up() {
    let Some(group) = Delegated::new("kakehi-clean") else { return };
    let (seconds, folder) = (unique_seconds(), tempfile::tempdir().unwrap());
    let script = folder.path().join("stray");
    let clean = folder.path().join("clean");
    let text = format!(
        "trap 'sleep 0.3; touch {}; exit' TERM\n: {seconds}\nwhile :; do sleep 0.05; done\n",
        clean.display()
    );
    fs::write(&script, text).unwrap();
    let escape = escaping(&format!("sh {} {seconds}", script.display()));
    let jobs = group.start(
        &format!(
            "[job.a]\nrun = ['sh', '-c', '{escape}; echo started; sleep 1000']\ntimeout = '2s'"
        ),
        &[],
    );
    assert_eq!(jobs.run("a", &[])["content"]["ended_by"], "timeout");
    assert!(clean.exists(), "it had its time");
    assert!(alive(&seconds).is_empty(), "{:?}", alive(&seconds));
}

#[test]
fn the_next_daemon_kills_what_a_crashed_one_left() {
    let Some(group) = Delegated::new("kakehi-crash") else { return };
    let (seconds, state) = (unique_seconds(), tempfile::tempdir().unwrap());
    let flags = ["--state", state.path().to_str().unwrap()];
    let escape = escaping(&format!("sleep {seconds}"));
    let declared = format!("[job.a]\nrun = ['sh', '-c', '{escape}; sleep {seconds}']");
    let mut jobs = group.start(&declared, &flags);
    jobs.ask(json!({ "run": { "job": "a", "args": [], "detach": true } }));
    wait_until_alive(&seconds, 3);
    jobs.server.signal(Signal::KILL);
    jobs.server.wait();
    assert_eq!(alive(&seconds).len(), 3, "the killed server leaves its processes");
    let jobs = group.start(&declared, &flags);
    assert!(alive(&seconds).is_empty(), "{:?}", alive(&seconds));
    assert!(group.runs().is_empty());
    drop(jobs);
}

#[test]
fn a_group_with_other_processes_is_not_used() {
    let Some(group) = Delegated::new("kakehi-shared") else { return };
    let setting = format!("echo $$ > {}/cgroup.procs; sleep 1000 &", group.0.display());
    let jobs = Jobs::start_after(&setting, "[job.a]\nrun = ['true']", &[]);
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    assert!(!group.0.join("runs").exists());
}
