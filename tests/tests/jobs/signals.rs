//! SIGTERM, SIGINT, and a second one.

use std::{
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{binary, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::support::{Client, Gate, Jobs, alive, run, unique_seconds, wait_until_alive};

fn started(jobs: &Jobs) -> Client {
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    assert_eq!(client.progress(), "started");
    client
}

fn endless(seconds: &str, before: &str, flags: &[&str]) -> Jobs {
    let script = format!("{before} setsid sleep {seconds} & echo started; sleep {seconds}");
    Jobs::with_flags(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"), flags)
}

fn gated(gate: &Gate) -> Jobs {
    let script = format!("echo started; {}; echo over", gate.wait());
    Jobs::with_flags(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"), &["--drain", "1m"])
}

#[test]
fn a_job_may_end_while_the_server_drains() {
    let gate = Gate::closed();
    let mut jobs = gated(&gate);
    let mut client = started(&jobs);
    let mut other = jobs.client();
    jobs.server.signal(Signal::TERM);
    jobs.wait_for_log("draining");
    other.send("ID-2", run("a", &[]));
    assert_eq!(other.last()["refused"], "shutting_down");
    gate.open();
    assert_eq!(client.progress(), "over");
    assert_eq!(client.last()["status"], "OK");
    assert_eq!(jobs.server.wait().code(), Some(0));
    assert!(!jobs.server.socket().exists());
}

#[test]
fn a_job_that_does_not_end_is_ended_after_the_drain() {
    let seconds = unique_seconds();
    let mut jobs = endless(&seconds, "trap \"\" TERM;", &["--drain", "500ms"]);
    let mut client = started(&jobs);
    wait_until_alive(&seconds, 3);
    let start = Instant::now();
    jobs.server.signal(Signal::INT);
    let last = client.last();
    assert_eq!(last["message"], "`a` was ended: the server is shutting down");
    assert_eq!(last["content"]["ended_by"], "shutdown");
    assert_eq!(jobs.server.wait().code(), Some(0));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(5500) && took < Duration::from_millis(7500), "{took:?}");
    wait_until_alive(&seconds, 0);
}

#[test]
fn a_job_may_clean_up_after_the_drain_and_its_last_output_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clean");
    let script = format!(
        r#"trap "sleep 2; echo clean; touch {}; exit 0" TERM; echo started; while :; do sleep 0.1; done"#,
        file.display(),
    );
    let mut jobs =
        Jobs::with_flags(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"), &["--drain", "1s"]);
    let mut client = started(&jobs);
    jobs.server.signal(Signal::TERM);
    let responses = client.rest();
    assert!(responses.iter().any(|response| response["message"] == "clean"), "{responses:?}");
    assert_eq!(responses.last().unwrap()["content"]["ended_by"], "shutdown");
    assert_eq!(jobs.server.wait().code(), Some(0));
    assert!(file.exists());
    assert!(jobs.server.log().contains(r#"by="shutdown""#), "{}", jobs.server.log());
}

#[test]
fn a_second_signal_ends_at_once_with_all_that_runs() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let seconds = unique_seconds();
        let mut jobs = endless(&seconds, "trap \"\" TERM INT;", &["--drain", "1m"]);
        let mut client = started(&jobs);
        wait_until_alive(&seconds, 3);
        jobs.server.signal(signal);
        jobs.wait_for_log("draining");
        assert_eq!(alive(&seconds).len(), 3, "it drains");
        let start = Instant::now();
        jobs.server.signal(signal);
        assert_eq!(jobs.server.wait().code(), Some(code));
        wait_until_alive(&seconds, 0);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!jobs.server.socket().exists());
        assert!(client.next().is_none_or(|last| last["status"] == "ERROR"));
    }
}

#[test]
fn without_a_path_it_listens_in_its_users_runtime_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Command::new(binary("kakehid"))
        .env("XDG_RUNTIME_DIR", folder.path())
        .env_remove("KAKEHI_SOCKET")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let socket = folder.path().join("kakehi/kakehi.sock");
    assert!(wait_for(|| UnixStream::connect(&socket).ok()).is_some());
    kill_process(Pid::from_child(&server), Signal::INT).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(!socket.exists());
}

#[test]
fn a_signal_after_stop_is_not_the_second_one() {
    let gate = Gate::closed();
    let mut jobs = gated(&gate);
    let mut client = started(&jobs);
    assert_eq!(jobs.ask("stop").pop().unwrap()["status"], "OK");
    jobs.wait_for_log("draining");
    jobs.server.signal(Signal::TERM);
    sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!(client.progress(), "over");
    assert_eq!(client.last()["status"], "OK");
    assert_eq!(jobs.server.wait().code(), Some(0));
}
