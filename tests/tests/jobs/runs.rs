//! Runs that outlive their caller: records, kept output, readers.

use std::{
    path::Path,
    thread::{scope, sleep},
    time::Duration,
};

use kakehi_tests::programs::wait_for;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::support::{Client, Gate, Jobs, unique_seconds, wait_until_alive};

fn with_state(jobs: &str, state: &Path) -> Jobs {
    Jobs::with_flags(jobs, &["--state", state.to_str().unwrap()])
}

/// Starts a detached run, and returns its id.
fn detach(jobs: &Jobs, job: &str, args: &[&str]) -> String {
    let last = jobs.ask(json!({ "run": { "job": job, "args": args, "detach": true } }));
    let last = last.last().unwrap();
    assert_eq!(last["status"], "OK", "{last}");
    last["content"]["run"].as_str().unwrap().to_owned()
}

fn records(jobs: &Jobs, filter: &Value) -> Vec<Value> {
    let last = jobs.ask(json!({ "runs": filter })).pop().unwrap();
    last["content"].as_array().unwrap().clone()
}

fn wait_for_all(jobs: &Jobs, runs: &[String]) -> Value {
    jobs.ask(json!({ "wait": { "runs": runs } })).pop().unwrap()
}

/// The messages of the responses that have output.
fn output(responses: &[Value]) -> Vec<&str> {
    let lines = responses.iter().filter(|response| response["content"]["stream"].is_string());
    lines.map(|response| response["message"].as_str().unwrap()).collect()
}

#[test]
fn a_detached_run_goes_on_without_its_client_and_is_recorded() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', 'echo started; {}; echo $1; exit 3', 'sh']\nargs = ['[a-z]+']",
        gate.wait()
    ));
    let id = detach(&jobs, "a", &["over"]);
    let record = &records(&jobs, &json!({}))[0];
    assert_eq!(
        (&record["run"], &record["job"], &record["args"]),
        (&json!(id), &json!("a"), &json!(["over"]))
    );
    assert!(
        wait_for(|| (records(&jobs, &json!({}))[0]["outcome"] == "running").then_some(()))
            .is_some()
    );
    gate.open();
    let last = wait_for_all(&jobs, std::slice::from_ref(&id));
    assert_eq!(
        (&last["status"], &last["message"]),
        (&json!("ERROR"), &json!("1 of 1 runs failed"))
    );
    let record = &last["content"][0];
    assert_eq!((&record["outcome"], &record["exit_code"]), (&json!("failed"), &json!(3)));
    assert_eq!(record["stdout_lines"], 2);
    assert!(record["started_ms"].as_u64() <= record["ended_ms"].as_u64());
    let logs = jobs.ask(json!({ "logs": { "run": &id[..6] } }));
    assert_eq!(output(&logs), ["started", "over"]);
}

#[test]
fn a_client_that_attaches_gets_the_kept_output_then_the_rest_and_the_result() {
    let gate = Gate::closed();
    let script = format!("echo one; echo two; {}; echo three; exit 4", gate.wait());
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"));
    let id = detach(&jobs, "a", &[]);
    let mut leaving = jobs.client();
    leaving.send("ID-1", json!({ "attach": { "run": id } }));
    assert_eq!(leaving.progress(), "one");
    drop(leaving);
    let mut client = jobs.client();
    client.send("ID-2", json!({ "attach": { "run": id } }));
    assert_eq!((client.progress(), client.progress()), ("one".to_owned(), "two".to_owned()));
    gate.open();
    assert_eq!(client.progress(), "three");
    let last = client.last();
    assert_eq!(
        (&last["message"], &last["content"]["exit_code"]),
        (&json!("`a` ended with exit code 4"), &json!(4))
    );
    let again = jobs.ask(json!({ "attach": { "run": id } }));
    assert_eq!(output(&again), ["one", "two", "three"]);
    assert_eq!(again.last().unwrap()["content"], last["content"]);
}

#[test]
fn logs_can_be_limited_to_the_last_lines_and_have_times() {
    let jobs = Jobs::start("[job.a]\nrun = ['sh', '-c', 'seq 100; sleep 0.2; echo late']");
    let id = detach(&jobs, "a", &[]);
    wait_for_all(&jobs, std::slice::from_ref(&id));
    let logs = |more: Value| {
        let mut asked = json!({ "run": id });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jobs.ask(json!({ "logs": asked }))
    };
    assert_eq!(output(&logs(json!({}))).len(), 101);
    assert_eq!(output(&logs(json!({ "tail": 3 }))), ["99", "100", "late"]);
    let timed = logs(json!({ "timestamps": true, "tail": 2 }));
    let stamps: Vec<_> =
        timed.iter().filter_map(|line| line["content"]["at_ms"].as_u64()).collect();
    assert!(stamps.len() == 2 && stamps[1] >= stamps[0] + 150, "{stamps:?}");
    assert_eq!(output(&logs(json!({ "since_ms": stamps[1] }))), ["late"]);
    let pieces = logs(json!({ "output": "pieces" }));
    assert_eq!(pieces[0]["content"]["lines"], 100);
    assert_eq!(output(&logs(json!({ "output": "pieces", "tail": 2 }))), ["100", "late"]);
}

#[test]
fn runs_are_filtered_and_the_oldest_ones_forgotten() {
    let jobs = Jobs::start(
        "[job.good]\nrun = ['true']\nkeep = { runs = 2 }\n[job.bad]\nrun = ['false']\n",
    );
    for _ in 0..4 {
        jobs.run("good", &[]);
    }
    jobs.run("bad", &[]);
    let jobs_of = |filter| -> Vec<_> {
        records(&jobs, &filter).iter().map(|record| record["job"].clone()).collect()
    };
    assert_eq!(jobs_of(json!({})), ["good", "good", "bad"]);
    assert_eq!(jobs_of(json!({ "failed": true })), ["bad"]);
    assert_eq!(jobs_of(json!({ "job": "good" })).len(), 2);
    assert_eq!(jobs_of(json!({ "uid": 12_345 })).len(), 0);
    let last = records(&jobs, &json!({ "job": "bad" }))[0]["queued_ms"].as_u64().unwrap();
    assert_eq!(jobs_of(json!({ "since_ms": last + 1 })).len(), 0);
}

#[test]
fn a_run_is_repeated_unless_its_arguments_are_secret_or_over_16_kib() {
    let jobs = Jobs::start(
        "[job.a]\nrun = ['echo']\nargs = ['[a-z]+', { pattern = '[a-z]+', secret = true }]",
    );
    let id = detach(&jobs, "a", &["hello"]);
    wait_for_all(&jobs, std::slice::from_ref(&id));
    let again = jobs.ask(json!({ "rerun": { "run": id } }));
    assert_eq!(output(&again), ["hello"]);
    assert_ne!(again.last().unwrap()["content"]["run"], json!(id));
    for args in [&["hello", "hidden"][..], &[&"x".repeat(16 * 1024 + 1)]] {
        let id = detach(&jobs, "a", args);
        wait_for_all(&jobs, std::slice::from_ref(&id));
        let refused = jobs.ask(json!({ "rerun": { "run": id } })).pop().unwrap();
        assert!(refused["message"].as_str().unwrap().contains("were not kept"), "{refused}");
    }
}

#[test]
fn a_queued_detached_run_is_checked_again_when_its_turn_comes() {
    let gate = Gate::closed();
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{}']", gate.wait()));
    let (first, second) = (detach(&jobs, "a", &[]), detach(&jobs, "a", &[]));
    jobs.rewrite("[job.b]\nrun = ['true']\n");
    assert_eq!(jobs.ask("reload").pop().unwrap()["message"], "reloaded 1 job");
    gate.open();
    let last = wait_for_all(&jobs, &[first, second]);
    assert_eq!(last["message"], "1 of 2 runs failed");
    assert_eq!(last["content"][1]["message"], "there is no job `a`");
}

#[test]
fn a_run_that_went_on_when_the_daemon_was_killed_is_unknown_and_has_no_processes() {
    let (folder, seconds) = (tempfile::tempdir().unwrap(), unique_seconds());
    let job = format!(
        "[job.a]\nrun = ['sh', '-c', 'setsid sleep {seconds} & echo started; sleep {seconds}']\n\
         [job.b]\nrun = ['echo', 'kept']\n"
    );
    let state = folder.path().join("state");
    let mut jobs = with_state(&job, &state);
    let (unknown, done) = (detach(&jobs, "a", &[]), detach(&jobs, "b", &[]));
    wait_for_all(&jobs, std::slice::from_ref(&done));
    wait_until_alive(&format!("sleep {seconds}"), 3);
    assert!(
        wait_for(|| {
            let logs = jobs.ask(json!({ "logs": { "run": unknown } }));
            (output(&logs) == ["started"]).then_some(())
        })
        .is_some()
    );
    jobs.server.signal(Signal::KILL);
    jobs.server.wait();
    let jobs = with_state(&job, &state);
    wait_until_alive(&format!("sleep {seconds}"), 0);
    let outcomes: Vec<_> = records(&jobs, &json!({}))
        .iter()
        .map(|record| (record["run"].clone(), record["outcome"].clone()))
        .collect();
    assert_eq!(outcomes, [(json!(unknown), json!("unknown")), (json!(done), json!("ok"))]);
    let logs = jobs.ask(json!({ "logs": { "run": unknown } }));
    assert_eq!(output(&logs), ["started"]);
    assert_eq!(output(&jobs.ask(json!({ "attach": { "run": done } }))), ["kept"]);
    assert!(detach(&jobs, "b", &[]) > done, "ids go on after a restart");
}

#[test]
fn a_run_that_was_queued_when_the_daemon_was_killed_was_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let (state, journal) = (folder.path().join("state"), folder.path().join("journal"));
    let gate = Gate::closed();
    let job = format!(
        "[job.a]\nrun = ['sh', '-c', 'echo $KAKEHI_RUN >> {}; {}']\n",
        journal.display(),
        gate.wait()
    );
    let mut jobs = with_state(&job, &state);
    let (going_on, queued) = (detach(&jobs, "a", &[]), detach(&jobs, "a", &[]));
    let started = || std::fs::read_to_string(&journal).ok().filter(|text| text.ends_with('\n'));
    assert!(wait_for(started).is_some());
    jobs.server.signal(Signal::KILL);
    jobs.server.wait();
    gate.open();
    for _ in 0..2 {
        let mut jobs = with_state(&job, &state);
        let all = records(&jobs, &json!({}));
        assert_eq!((&all[0]["run"], &all[0]["outcome"]), (&json!(going_on), &json!("unknown")));
        let record = &all[1];
        assert_eq!((&record["run"], &record["outcome"]), (&json!(queued), &json!("failed")));
        assert_eq!(
            (&record["reason"], &record["started_ms"]),
            (&json!("not_started"), &Value::Null)
        );
        let last = jobs.ask(json!({ "attach": { "run": queued } })).pop().unwrap();
        assert_eq!(last["content"]["reason"], "not_started", "{last}");
        let last = jobs.ask(json!({ "attach": { "run": going_on } })).pop().unwrap();
        assert_eq!(last["content"], json!({ "run": going_on, "outcome": "unknown" }));
        jobs.server.signal(Signal::KILL);
        jobs.server.wait();
    }
    assert_eq!(started(), Some(format!("{going_on}\n")), "the journal agrees");
}

#[test]
fn two_daemons_cannot_use_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let _jobs = with_state("", folder.path());
    let output = std::process::Command::new(kakehi_tests::programs::binary("kakehid"))
        .args(["--socket", folder.path().join("socket").to_str().unwrap()])
        .args(["--state", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("another kakehid uses the state in"), "{log}");
}

/// Reads the output of a run up to its end.
fn read_all(client: &mut Client) -> String {
    let mut text = String::new();
    while let Some(response) = client.next() {
        if response["status"] != "PROCESSING" {
            assert_eq!(response["status"], "OK", "{response}");
            return text;
        }
        text += response["message"].as_str().unwrap();
        if response["content"]["cut"] != true {
            text.push('\n');
        }
    }
    panic!("no final response after {} bytes", text.len());
}

#[test]
fn fifty_attached_readers_each_get_all_lines() {
    // KAKEHI_FULL=1 is for programs built for release: KAKEHI_PROGRAMS=target/release.
    let is_full = std::env::var_os("KAKEHI_FULL").is_some();
    let lines: u64 = if is_full { 1_000_000 } else { 20_000 };
    let jobs =
        Jobs::start(&format!("[job.a]\nrun = ['seq', '{lines}']\nkeep = {{ output = \"8 MiB\" }}"));
    let id = detach(&jobs, "a", &[]);
    let expected = (1..=lines).fold(String::new(), |text, line| text + &format!("{line}\n"));
    scope(|scope| {
        let readers: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = jobs.client();
                    client.send("ID-1", json!({ "attach": { "run": id, "output": "pieces" } }));
                    read_all(&mut client)
                })
            })
            .collect();
        for reader in readers {
            assert!(reader.join().unwrap() == expected);
        }
    });
}

#[test]
fn a_stopped_reader_does_not_hold_a_detached_run_back() {
    let jobs = Jobs::start("[job.a]\nrun = ['seq', '1000000']\nkeep = { output = '64 KiB' }");
    let id = detach(&jobs, "a", &[]);
    let mut stopped = jobs.client();
    stopped.send("ID-1", json!({ "attach": { "run": id } }));
    assert_eq!(wait_for_all(&jobs, &[id])["status"], "OK");
    let responses = stopped.rest();
    let gap = responses.iter().any(|line| line["message"] == "some output is no longer kept");
    assert!(gap, "what it missed is reported");
    assert_eq!(output(&responses).last(), Some(&"1000000"));
}

#[test]
fn wait_reports_how_a_run_ended_that_is_no_longer_kept() {
    let (gate, last_gate) = (Gate::closed(), Gate::closed());
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', '{}']\nat_once = 2\nkeep = {{ runs = 1 }}\n\
         [job.b]\nrun = ['sh', '-c', '{}']\n[job.c]\nrun = ['true']\n",
        gate.wait(),
        last_gate.wait()
    ));
    let [removed, _, last, first] = ["a", "a", "b", "c"].map(|job| detach(&jobs, job, &[]));
    let mut client = jobs.client();
    client.send("ID-2", json!({ "wait": { "runs": [first, last, removed] } }));
    // All runs are looked up before the first is reported.
    client.progress();
    gate.open();
    let is_removed = || (records(&jobs, &json!({ "job": "a" })).len() == 1).then_some(());
    assert!(wait_for(is_removed).is_some());
    last_gate.open();
    assert_eq!(client.last()["message"], "3 of 3 runs succeeded");
}

#[test]
fn wait_refuses_more_runs_than_one_request_may_name() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']\n");
    let last = wait_for_all(&jobs, &vec!["0".to_owned(); 1001]);
    assert_eq!(last["message"], "1001 runs in one request, more than 1000");
}

/// The runs write a journal of their own, so that records can be compared with it.
#[test]
fn the_records_of_200_detached_runs_are_true_over_two_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, mark) = (folder.path().join("journal"), unique_seconds());
    std::fs::create_dir(&journal).unwrap();
    let script = format!(
        "echo $KAKEHI_RUN start >> {0}/$KAKEHI_RUN; seq $1; : {mark}; [ $(($1 % 10)) = 0 ] && sleep 2; sleep 0.$(($1 % 4))5; \
         echo end >> {0}/$KAKEHI_RUN; exit $(($1 % 3))",
        journal.display()
    );
    let job = format!(
        "[job.a]\nrun = ['sh', '-c', '{script}', 'sh']\nargs = ['[0-9]+']\nat_once = 8\n\
         keep = {{ runs = 300 }}"
    );
    let state = folder.path().join("state");
    let mut started = vec![];
    for round in 0..3 {
        let mut jobs = with_state(&job, &state);
        let count = [70, 70, 60][round];
        for _ in 0..count {
            let number = started.len() + 1;
            started.push((detach(&jobs, "a", &[&number.to_string()]), number));
        }
        if round < 2 {
            sleep(Duration::from_millis(100));
            kill_process(jobs.server.pid(), Signal::KILL).unwrap();
            jobs.server.wait();
            continue;
        }
        let ids: Vec<_> = started.iter().map(|(id, _)| id.clone()).collect();
        wait_for_all(&jobs, &ids);
        wait_until_alive(&mark, 0);
        check_records(&jobs, &journal, &started);
    }
}

fn check_records(jobs: &Jobs, journal: &Path, started: &[(String, usize)]) {
    let mut counts = [0; 3];
    for (id, number) in started {
        let record = &wait_for_all(jobs, std::slice::from_ref(id))["content"][0];
        let journal = std::fs::read_to_string(journal.join(id)).unwrap_or_default();
        let lines: Vec<String> = (1..=*number).map(|line| line.to_string()).collect();
        let logs = jobs.ask(json!({ "logs": { "run": id } }));
        let kept = output(&logs);
        let code = number % 3;
        match record["outcome"].as_str().unwrap() {
            _ if record["reason"] == "not_started" => {
                counts[2] += 1;
                assert_eq!((&*journal, kept), ("", vec![]), "{record}");
            }
            "unknown" => {
                counts[0] += 1;
                assert!(
                    lines.starts_with(&kept.iter().map(ToString::to_string).collect::<Vec<_>>())
                );
            }
            outcome => {
                counts[1] += 1;
                assert!(journal.ends_with("end\n"), "{record} {journal}");
                assert_eq!(outcome, if code == 0 { "ok" } else { "failed" });
                assert_eq!(record["exit_code"], code);
                assert_eq!(kept, lines);
            }
        }
    }
    let [unknown, known, unstarted] = counts;
    assert!(unknown > 0 && known > 60 && unstarted > 0, "{counts:?}");
}
