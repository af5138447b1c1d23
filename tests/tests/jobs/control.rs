//! Commands that show and end runs work also when the daemon is full or shuts down.

use std::{thread::sleep, time::Duration};

use kakehi_tests::programs::wait_for;
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::support::{Gate, Jobs, run};

fn gated(gate: &Gate, more: &str, flags: &[&str]) -> Jobs {
    let script = format!("echo started; {}", gate.wait());
    Jobs::with_flags(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\n{more}"), flags)
}

#[test]
fn a_user_at_the_limit_can_still_look_and_cancel() {
    let gate = Gate::closed();
    let jobs = gated(&gate, "", &["--connections-per-uid", "3"]);
    let mut clients: Vec<_> = (0..3)
        .map(|number| {
            let mut client = jobs.client();
            client.send(&format!("ID-{number}"), run("a", &[]));
            client.next().unwrap();
            client
        })
        .collect();
    let refused = jobs.run("a", &[]);
    assert_eq!(refused["refused"], "busy", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("3 running requests already"));
    assert_eq!(jobs.running().len(), 3);
    assert_eq!(jobs.ask("list").pop().unwrap()["status"], "OK");
    let last = jobs.ask(json!({ "cancel": { "job": "a" } })).pop().unwrap();
    assert_eq!((&last["status"], &last["message"]), (&json!("OK"), &json!("cancelled 3 requests")));
    for client in &mut clients {
        assert_eq!(client.last()["status"], "ERROR");
    }
    assert_eq!(
        jobs.ask(json!({ "cancel": { "all": true } })).pop().unwrap()["message"],
        "cancelled 0 requests"
    );
}

#[test]
fn status_and_cancel_are_answered_during_a_drain() {
    let gate = Gate::closed();
    let mut jobs = gated(&gate, "", &["--drain", "1m"]);
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    client.progress();
    jobs.server.signal(Signal::TERM);
    jobs.wait_for_log("draining");
    assert_eq!(jobs.running().len(), 1);
    assert_eq!(jobs.ask("list").pop().unwrap()["status"], "OK");
    assert_eq!(jobs.run("a", &[])["refused"], "shutting_down");
    assert_eq!(jobs.ask(json!({ "cancel": { "id": "ID-1" } })).pop().unwrap()["status"], "OK");
    assert_eq!(client.last()["content"]["ended_by"], "cancel");
    assert_eq!(jobs.server.wait().code(), Some(0));
}

/// A run that writes more than any buffer holds, and then a last line.
fn chatty(more: &str) -> Jobs {
    let job = format!("[job.a]\nrun = ['sh', '-c', 'seq 300000; echo last']\n{more}");
    Jobs::with_flags(&job, &["--write-time", "300ms"])
}

#[test]
fn a_stopped_reader_holds_its_run_back_and_does_not_end_it() {
    let jobs = chatty("");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    sleep(Duration::from_millis(1500));
    assert_eq!(jobs.running().len(), 1, "{}", jobs.server.log());
    let last = client.last();
    assert_eq!(
        (&last["status"], &last["content"]["stdout_lines"]),
        (&json!("OK"), &json!(300_001))
    );
}

#[test]
fn a_job_can_limit_how_long_its_reader_may_stop_and_both_sides_name_the_cause() {
    let jobs = chatty("reader_timeout = '500ms'");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
    let cause = "its client read no output for 500 ms (reader_timeout of the job)";
    jobs.wait_for_log(cause);
    let last = client.last();
    assert_eq!(last["message"], format!("`a` was ended: {cause}"));
    assert_eq!(last["content"]["ended_by"], "reader");
}

#[test]
fn a_run_that_finishes_goes_on_without_a_reader_that_stopped() {
    let jobs = chatty("when_client_leaves = 'finish'\nreader_timeout = '500ms'");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    jobs.wait_for_log("it is given up");
    let message = client.last()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("of `a` goes on without it"), "{message}");
    drop(client);
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
    let record = jobs.ask(json!({ "runs": {} })).pop().unwrap()["content"][0].clone();
    assert_eq!((&record["outcome"], &record["stdout_lines"]), (&json!("ok"), &json!(300_001)));
}

#[test]
fn a_huge_reader_timeout_is_no_limit() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']\nreader_timeout = '18446744073709551615s'\n");
    assert_eq!(jobs.run("a", &[])["status"], "OK");
}

#[test]
fn a_long_name_of_no_job_is_cut() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']\n");
    let message = jobs.run(&"a".repeat(100_000), &[])["message"].as_str().unwrap().len();
    assert!(message < 400, "{message}");
}

#[test]
fn reload_returns_the_problems_of_the_file_and_changes_nothing() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']\n");
    jobs.rewrite("[job.b]\nrun = []\n");
    let last = jobs.ask("reload").pop().unwrap();
    let problem = last["content"]["problems"][0].as_str().unwrap();
    assert!(problem.ends_with("jobs.toml:2: job.b.run: expected a command line, such as [\"tar\", \"-c\", \"/srv\"], found an empty array"), "{problem}");
    assert_eq!(last["message"], "1 problem in the jobs file; the previous jobs stay in use");
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    jobs.rewrite("[job.b]\nrun = ['true']\n[job.c]\nrun = ['true']\n");
    assert_eq!(jobs.ask("reload").pop().unwrap()["content"], json!({ "jobs": 2 }));
    assert_eq!(jobs.run("b", &[])["status"], "OK");
}

#[test]
fn describe_shows_the_declaration_of_a_job() {
    let jobs = Jobs::start(
        "[job.a]\nabout = 'archive'\nrun = ['tar', '-c']\nprogress = 'percent'\nconfirm = true\n\
         keep = { output = '1 MiB', runs = 5, days = 7 }\nreader_timeout = '5m'\nstdin = true",
    );
    let last = jobs.ask(json!({ "describe": { "job": "a" } })).pop().unwrap();
    assert_eq!(last["message"], "archive");
    let content = &last["content"];
    for (key, value) in [
        ("job", json!("a")),
        ("command", json!(["tar", "-c"])),
        ("keep", json!({ "output": 1_048_576, "runs": 5 })),
        ("keep_days", json!(7)),
        ("reader_timeout_ms", json!(300_000)),
        ("progress", json!(true)),
        ("confirm", json!(true)),
        ("stdin", json!(true)),
    ] {
        assert_eq!(content[key], value, "{key}");
    }
}

#[test]
fn a_dry_run_and_a_run_that_may_not_wait_start_nothing() {
    let gate = Gate::closed();
    let jobs = gated(&gate, "args = ['[a-z]+']", &[]);
    let ask = |field: &str, args: &[&str]| {
        jobs.ask(json!({ "run": { "job": "a", "args": args, field: true } })).pop().unwrap()
    };
    let last = ask("dry_run", &["x"]);
    assert_eq!(last["message"], "`a` would run: 0 of 1 runs are going on");
    assert_eq!(last["content"]["command"].as_array().unwrap().last(), Some(&json!("x")));
    assert_eq!(ask("dry_run", &["X"])["refused"], "other");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    client.progress();
    let last = ask("no_wait", &[]);
    assert_eq!(last["message"], "`a` was not started: 1 of 1 runs are going on");
    assert_eq!(last["refused"], "busy");
    gate.open();
    assert_eq!(client.last()["status"], "OK");
}

#[test]
fn a_job_may_need_a_confirmation_and_take_a_standard_input() {
    let jobs = Jobs::start(
        "[job.a]\nrun = ['cat']\nstdin = true\nconfirm = true\nabout = 'careful'\n\
         [job.b]\nrun = ['cat']\n",
    );
    let last = jobs.run("a", &[]);
    assert_eq!(last["content"], json!({ "confirm": true, "about": "careful" }));
    assert_eq!(
        (&last["message"], &last["refused"]),
        (&json!("`a` must be confirmed: `kakehi run --yes`"), &json!("other"))
    );
    let ask = |job: &str, key: &str, text: &str| {
        jobs.ask(json!({ "run": { "job": job, "confirmed": true, key: text } }))
    };
    assert_eq!(ask("a", "stdin", "one\ntwo\n")[1]["message"], "two");
    assert_eq!(ask("a", "stdin_base64", "/wo=")[0]["content"]["base64"], "/w==");
    assert_eq!(ask("b", "stdin", "x")[0]["message"], "`b` takes no standard input");
    let large = "x".repeat(500_000);
    let responses = ask("a", "stdin", &large);
    let bytes: usize = responses
        .iter()
        .filter(|response| response["status"] == "PROCESSING")
        .map(|response| response["message"].as_str().unwrap().len())
        .sum();
    assert_eq!(bytes, large.len());
}

/// The progress that a client gets.
fn progress(jobs: &Jobs) -> Vec<(u64, u64)> {
    let responses = jobs.ask(run("a", &[]));
    let numbers = responses.iter().map(|response| &response["content"]);
    numbers
        .filter_map(|content| Some((content["done"].as_u64()?, content["total"].as_u64()?)))
        .collect()
}

#[test]
fn a_job_reports_its_progress_in_its_output_or_to_a_descriptor() {
    let job = |rule: &str, script: &str| {
        Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\nprogress = '{rule}'"))
    };
    let jobs = job("percent", r#"for n in 10 50; do printf "\\r%3d%%" $n; sleep 0.1; done"#);
    assert_eq!(progress(&jobs), [(10, 100), (50, 100)]);
    let jobs = job(r"step (\d+)/(\d+)", "echo step 1/3; sleep 0.1; echo step 3/3");
    assert_eq!(progress(&jobs), [(1, 3), (3, 3)]);
    let fd = "echo 1 4 >&$KAKEHI_PROGRESS_FD; sleep 0.1; echo 75% >&$KAKEHI_PROGRESS_FD; sleep 0.1";
    // `dash` only redirects to descriptors of one digit.
    let jobs = job(
        "fd",
        &format!(
            "eval \\\"exec 9>/proc/self/fd/$KAKEHI_PROGRESS_FD\\\"; {}",
            fd.replace("$KAKEHI_PROGRESS_FD", "9")
        )
        .replace("\\\"", "\""),
    );
    assert_eq!(progress(&jobs), [(1, 4), (75, 100)]);
}

#[test]
fn a_stopped_client_process_gets_all_output_when_it_goes_on() {
    let jobs = chatty("");
    let mut client = std::process::Command::new(kakehi_tests::programs::binary("kakehi"))
        .args(["--socket", jobs.server.socket().to_str().unwrap(), "run", "a"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    let mut stdout = client.stdout.take().unwrap();
    std::io::Read::read_exact(&mut stdout, &mut first).unwrap();
    let pid = Pid::from_child(&client);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    sleep(Duration::from_millis(1500));
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    assert!(rest.ends_with("\n300000\nlast\n"));
    assert!(client.wait().unwrap().success());
}

#[test]
fn the_daemon_describes_its_commands() {
    let jobs = Jobs::with_flags("[job.a]\nrun = ['true']\n", &[]);
    let answer = jobs.ask("kakehi.describe").pop().unwrap();
    let content = &answer["content"];
    assert_eq!(content["name"], "kakehid", "{answer}");
    let commands = content["commands"].as_array().unwrap();
    let names: Vec<_> = commands.iter().map(|command| command["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&"run"), "{names:?}");
    let run = commands.iter().find(|command| command["name"] == "run").unwrap();
    assert_eq!(run["arguments"]["properties"]["job"]["enum"], json!(["a"]));
}
