//! The queue of a job.

use std::{thread::sleep, time::Duration};

use kakehi_tests::programs::wait_for;
use rustix::process::Signal;
use serde_json::json;

use super::support::{Client, Gate, Jobs, run, unique_seconds, wait_until_alive};

fn started(jobs: &Jobs, id: &str) -> Client {
    let mut client = jobs.client();
    client.send(id, run("a", &[]));
    assert_eq!(client.progress(), "started");
    client
}

fn job(gate: &Gate) -> String {
    format!("[job.a]\nrun = ['sh', '-c', 'echo started; {}']\n", gate.wait())
}

#[test]
fn a_second_caller_waits_for_the_first_and_is_told_so() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&job(&gate));
    let mut first = started(&jobs, "first");
    let mut second = jobs.client();
    second.send("second", run("a", &[]));
    let told = second.next().unwrap();
    assert_eq!(told["message"], "waiting: 1 of 1 runs of `a` are going on");
    let mut content = told["content"].clone();
    let id = content.as_object_mut().unwrap().remove("run").unwrap();
    assert_eq!(content, json!({ "waiting": true, "running": 1, "at_once": 1 }));

    let running = jobs.running();
    let waiting: Vec<_> =
        running.iter().map(|entry| json!([entry["id"], entry["waiting"]])).collect();
    assert_eq!(waiting, [json!(["first", false]), json!(["second", true])]);
    assert_eq!((running[1].get("pid"), &running[1]["run"]), (None, &id));

    gate.open();
    assert_eq!(first.last()["status"], "OK");
    assert_eq!(second.progress(), "started");
    assert_eq!(second.last()["status"], "OK");
}

#[test]
fn as_many_run_at_once_as_the_file_says() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&(job(&gate) + "at_once = 2"));
    let (mut first, mut second) = (started(&jobs, "first"), started(&jobs, "second"));
    let mut third = jobs.client();
    third.send("third", run("a", &[]));
    assert_eq!(third.progress(), "waiting: 2 of 2 runs of `a` are going on");
    gate.open();
    for client in [&mut first, &mut second, &mut third] {
        assert_eq!(client.last()["status"], "OK");
    }
}

#[test]
fn a_queued_run_is_refused_once_its_job_is_removed_or_its_caller_may_not_run_it() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&job(&gate));
    let mut first = started(&jobs, "first");
    let mut second = jobs.client();
    second.send("second", run("a", &[]));
    second.progress();
    jobs.rewrite("[job.b]\nrun = ['true']\n");
    jobs.server.signal(Signal::HUP);
    jobs.wait_for_log("reloaded the jobs");
    gate.open();
    assert_eq!(first.last()["status"], "OK");
    let last = second.last();
    assert_eq!(
        (&last["message"], &last["refused"]),
        (&json!("there is no job `a`"), &json!("other"))
    );
}

#[test]
fn a_queued_run_runs_as_its_job_is_declared_when_its_turn_comes() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&job(&gate));
    let mut first = started(&jobs, "first");
    let mut second = jobs.client();
    second.send("second", run("a", &[]));
    second.progress();
    jobs.rewrite("[job.a]\nrun = ['echo', 'new']\n");
    jobs.server.signal(Signal::HUP);
    jobs.wait_for_log("reloaded the jobs");
    gate.open();
    assert_eq!(first.last()["status"], "OK");
    assert_eq!(second.progress(), "new");
}

#[test]
fn a_job_does_not_start_if_its_client_gave_up_while_the_server_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("started");
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['touch', '{}']\nwhen_client_leaves = 'finish'",
        mark.display(),
    ));
    jobs.server.signal(Signal::STOP);
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    drop(client);
    jobs.server.signal(Signal::CONT);
    jobs.wait_for_log("answered");
    sleep(Duration::from_millis(200));
    assert!(!mark.exists(), "{}", jobs.server.log());
}

#[test]
fn a_queued_run_is_refused_when_the_server_shuts_down() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&job(&gate));
    let mut first = started(&jobs, "first");
    let mut second = jobs.client();
    second.send("second", run("a", &[]));
    second.progress();
    jobs.server.signal(Signal::TERM);
    assert_eq!(second.last()["refused"], "shutting_down");
    gate.open();
    assert_eq!(first.last()["status"], "OK");
}

#[test]
fn a_queued_run_is_not_started_if_its_client_disconnects() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&(job(&gate) + "when_client_leaves = 'finish'"));
    let mut first = started(&jobs, "first");
    let mut second = jobs.client();
    second.send("second", run("a", &[]));
    second.progress();
    drop(second);
    assert!(wait_for(|| (jobs.running().len() == 1).then_some(())).is_some());
    gate.open();
    assert_eq!(first.last()["status"], "OK");
    sleep(Duration::from_millis(200));
    assert_eq!(jobs.server.log().matches("started run").count(), 1, "{}", jobs.server.log());
}

#[test]
fn another_job_does_not_wait() {
    let seconds = unique_seconds();
    let jobs =
        Jobs::start(&format!("[job.a]\nrun = ['sleep', '{seconds}']\n[job.b]\nrun = ['true']"));
    let mut first = jobs.client();
    first.send("first", run("a", &[]));
    wait_until_alive(&seconds, 1);
    assert_eq!(jobs.run("b", &[])["status"], "OK");
}

#[test]
fn a_run_that_has_ended_frees_its_slot_though_its_client_reads_nothing() {
    let script = r#"head -c 600000 /dev/zero | tr "\0" x >&2; sleep 1"#;
    let jobs =
        Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\ntimeout = '500ms'\n"));
    let mut deaf = jobs.client();
    deaf.send("deaf", run("a", &[]));
    assert!(wait_for(|| (jobs.running().len() == 1).then_some(())).is_some());
    let next = jobs.ask(run("a", &[]));
    assert_eq!(next[0]["content"]["waiting"], true);
    assert_eq!(next.last().unwrap()["content"]["ended_by"], "timeout");
    assert_eq!(jobs.running().len(), 0, "the processes of both have ended");
    assert_eq!(deaf.last()["content"]["ended_by"], "timeout");
}
