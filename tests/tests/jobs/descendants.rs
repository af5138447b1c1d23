//! Processes that leave the group of their run, or stay in it behind a parent that left.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{binary, has_tool, wait_for};
use rustix::process::Signal;

use super::support::{Jobs, alive, kill, unique_seconds, wait_until_alive};

/// A job by a python program, in which `sleep()` becomes a process that can be counted.
fn python(seconds: &str, script: &str) -> Jobs {
    let sleep = format!("sleep = lambda: os.execvp('sleep', ['sleep', '{seconds}'])");
    let script = format!("import os, time\n{sleep}\n{script}");
    Jobs::start(&format!("[job.a]\nrun = ['python3', '-c', \"\"\"\n{script}\"\"\"]"))
}

fn kill_all(seconds: &str) {
    for process in alive(seconds) {
        kill(&process, Signal::KILL);
    }
    wait_until_alive(seconds, 0);
}

#[test]
fn a_run_is_over_once_its_last_process_has_left_the_group() {
    let seconds = unique_seconds();
    let script = format!("(sleep 0.3; exec setsid sleep {seconds}) & exit 0");
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"));
    let start = Instant::now();
    let last = jobs.run("a", &[]);
    let took = start.elapsed();
    assert_eq!(last["status"], "OK", "{last}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(alive(&seconds).len(), 1, "a daemon goes on");
    kill_all(&seconds);
}

#[test]
fn who_stays_in_the_group_is_ended_though_its_parent_has_left() {
    if !has_tool("python3") {
        return;
    }
    let seconds = unique_seconds();
    let jobs = python(
        &seconds,
        "\
if os.fork():
    time.sleep(0.3)
    os._exit(0)
if os.fork():
    os.setsid()
sleep()
",
    );
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    wait_until_alive(&seconds, 1);
    kill_all(&seconds);
}

#[test]
fn a_daemon_without_proc_warns_that_processes_can_escape() {
    if !rustix::process::geteuid().is_root() || !has_tool("unshare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut server = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" --socket \"$1\""])
        .arg(binary("kakehid"))
        .arg(folder.path().join("socket"))
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let seen = wait_for(|| text().contains("listening").then(text));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(seen.unwrap_or_else(text).contains("/proc cannot be read"), "{}", text());
    let jobs = Jobs::start("");
    jobs.wait_for_log("listening");
    assert!(!jobs.server.log().contains("/proc"), "{}", jobs.server.log());
}
