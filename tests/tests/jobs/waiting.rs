//! Only so many runs of a job at once; the others wait, and are told so.

use std::{thread::sleep, time::Duration};

use kakehi_tests::programs::wait_for;
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
    assert_eq!(told["content"], json!({ "waiting": true, "running": 1, "at_once": 1 }));

    let running = jobs.running();
    let waiting: Vec<_> =
        running.iter().map(|entry| json!([entry["id"], entry["waiting"]])).collect();
    assert_eq!(waiting, [json!(["first", false]), json!(["second", true])]);
    assert_eq!(running[1].get("pid"), None);

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
fn who_stops_waiting_is_not_run() {
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
    assert_eq!(jobs.server.log().matches("started job").count(), 1, "{}", jobs.server.log());
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
fn a_run_that_has_ended_gives_its_place_to_the_next_though_its_client_reads_nothing() {
    let script = r#"head -c 600000 /dev/zero | tr "\0" x >&2; sleep 1"#;
    let jobs =
        Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\ntimeout = '500ms'\n"));
    let mut deaf = jobs.client();
    deaf.send("deaf", run("a", &[]));
    assert!(wait_for(|| (jobs.running().len() == 1).then_some(())).is_some());
    let next = jobs.ask(run("a", &[]));
    assert_eq!(next[0]["content"]["waiting"], true);
    assert_eq!(next.last().unwrap()["content"]["ended_by"], "timeout");
    assert_eq!(jobs.running().len(), 1, "the first has not got its answer");
    assert_eq!(deaf.last()["content"]["ended_by"], "timeout");
}
