//! SIGHUP.

use kakehi_tests::programs::wait_for;
use rustix::process::Signal;
use serde_json::Value;

use super::support::{Client, Gate, Jobs, run};

fn names(jobs: &Jobs) -> Vec<Value> {
    let last = jobs.ask("list").pop().unwrap();
    last["content"].as_array().unwrap().iter().map(|job| job["job"].clone()).collect()
}

fn reload(jobs: &Jobs, text: &str, log: &str) {
    jobs.rewrite(text);
    jobs.server.signal(Signal::HUP);
    jobs.wait_for_log(log);
}

const WAITS: &str = "[job.a]\nrun = ['sh', '-c', 'echo started; sleep 1000']\n";

fn started(jobs: &Jobs) -> Client {
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    assert_eq!(client.progress(), "started");
    client
}

#[test]
fn sighup_reloads_the_jobs_and_does_not_touch_runs() {
    let gate = Gate::closed();
    let script = format!("echo started; {}; echo old", gate.wait());
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"));
    let mut client = started(&jobs);
    reload(&jobs, "[job.b]\nrun = ['true']\n[job.c]\nrun = ['true']", "jobs=2");
    assert_eq!(names(&jobs), ["b", "c"]);
    assert_eq!(jobs.run("a", &[])["message"], "there is no job `a`");
    gate.open();
    assert_eq!(client.progress(), "old");
    assert_eq!(client.last()["status"], "OK");
}

#[test]
fn a_wrong_file_changes_nothing_and_all_its_problems_are_logged() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']");
    reload(&jobs, "[job.b]\nrun = []\n[job.c]\nat_once = 0\n", "the previous jobs stay in use");
    let log = jobs.server.log();
    for words in ["jobs.toml:2: job.b.run", "jobs.toml:3: job.c.run", "jobs.toml:4: job.c.at_once"]
    {
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(names(&jobs), ["a"]);
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    reload(&jobs, "[job.b]\nrun = ['true']", "jobs=1");
    assert_eq!(names(&jobs), ["b"]);
}

#[test]
fn a_job_that_may_run_more_often_now_does_and_runs_from_before_count() {
    let jobs = Jobs::start(WAITS);
    let _first = started(&jobs);
    reload(&jobs, &format!("{WAITS}at_once = 2"), "jobs=1");
    let _second = started(&jobs);
    let mut third = jobs.client();
    third.send("ID-3", run("a", &[]));
    assert_eq!(third.progress(), "waiting: 2 of 2 runs of `a` are going on");
}

#[test]
fn a_server_without_jobs_lives_through_a_sighup() {
    let server = kakehi_tests::programs::Server::start(&[]);
    server.signal(Signal::HUP);
    let seen = wait_for(|| server.log().contains("reloaded the jobs").then_some(()));
    assert!(seen.is_some(), "{}", server.log());
    let mut client = Client::connect(&server.socket());
    client.send("ID-1", "list");
    assert_eq!(client.last()["message"], "no jobs");
}
