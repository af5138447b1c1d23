//! How a job is ended: all of its process group, and nothing is left.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{has_tool, wait_for};
use serde_json::json;

use super::support::{Gate, Jobs, alive, run, takes_less_than, unique_seconds, wait_until_alive};

/// A job of four processes. One runs in the background, one outside of the process group.
fn four_processes(seconds: &str, before: &str, keys: &str) -> Jobs {
    let script = format!(
        "{before} sleep {seconds} & setsid sleep {seconds} & echo started; sleep {seconds}; echo over",
    );
    Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\n{keys}"))
}

fn descriptors(jobs: &Jobs) -> usize {
    let folder = format!("/proc/{}/fd", jobs.server.pid().as_raw_nonzero());
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_killed_client_takes_its_jobs_whole_group_with_it_within_a_second() {
    if !has_tool("nc") {
        return;
    }
    let seconds = unique_seconds();
    let jobs = four_processes(&seconds, "", "");
    let request = json!({ "id": "ID-1", "version": 0, "command": run("a", &[]) });
    takes_less_than(Duration::from_secs(1), || {
        let mut client = Command::new("nc")
            .arg("-U")
            .arg(jobs.server.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        write!(client.stdin.as_ref().unwrap(), "{request}\0").unwrap();
        wait_until_alive(&seconds, 4);
        client.kill().unwrap();
        let took = wait_until_alive(&seconds, 0);
        client.wait().unwrap();
        took
    });
    assert!(jobs.zombies().is_empty());
}

#[test]
fn a_job_that_is_to_finish_does_so_without_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("finished");
    let gate = Gate::closed();
    let (wait, shown) = (gate.wait(), file.display());
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', 'echo one; {wait}; yes | head -n 100000; echo done > {shown}']\n\
         when_client_leaves = 'finish'",
    ));
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    assert_eq!(client.progress(), "one");
    drop(client);
    sleep(Duration::from_millis(200));
    assert_eq!(jobs.running().len(), 1);
    gate.open();
    assert!(wait_for(|| fs::read(&file).ok().filter(|text| !text.is_empty())).is_some());
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
    jobs.wait_for_log("ended");
}

#[test]
fn a_job_that_ignores_sigterm_is_killed_five_seconds_later() {
    let seconds = unique_seconds();
    let jobs = four_processes(&seconds, "trap \"\" TERM;", "");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    client.progress();
    wait_until_alive(&seconds, 4);
    drop(client);
    let start = Instant::now();
    sleep(Duration::from_millis(4500));
    assert_eq!(alive(&seconds).len(), 4, "it has its time");
    wait_until_alive(&seconds, 0);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(6500), "{took:?}");
    assert!(wait_for(|| jobs.zombies().is_empty().then_some(())).is_some());
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
}

#[test]
fn a_job_is_ended_with_what_its_shell_runs_under_timeout() {
    let seconds = unique_seconds();
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', 'echo started; timeout 900 sleep {seconds}; echo over']",
    ));
    takes_less_than(Duration::from_secs(1), || {
        let mut client = jobs.client();
        client.send("ID-1", run("a", &[]));
        client.progress();
        wait_until_alive(&seconds, 3);
        drop(client);
        wait_until_alive(&seconds, 0)
    });
}

#[test]
fn what_has_left_the_group_may_clean_up_too_before_the_answer() {
    let seconds = unique_seconds();
    let stray = format!(
        r#"trap "sleep 0.7; exit" TERM; echo started {seconds}; while :; do sleep 0.05; done"#,
    );
    let command = json!(["setsid", "-w", "sh", "-c", stray]);
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', '\"$@\"; exit', 'sh', {}\ntimeout = '500ms'",
        command.to_string().trim_start_matches('['),
    ));
    let start = Instant::now();
    assert_eq!(jobs.run("a", &[])["content"]["ended_by"], "timeout");
    assert!(start.elapsed() >= Duration::from_millis(1200), "{:?}", start.elapsed());
    assert!(alive(&seconds).is_empty(), "{:?}", alive(&seconds));
}

#[test]
fn a_job_may_clean_up_when_it_is_told_to_end() {
    let script = "trap \"echo cleaning; sleep 0.5; echo clean; exit 0\" TERM; echo started; \
                  while :; do sleep 0.1; done";
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\ntimeout = '300ms'"));
    let responses = jobs.ask(run("a", &[]));
    // The shell itself says something on stderr, about its `sleep`.
    let stdout = responses.iter().filter(|response| response["content"]["stream"] == "stdout");
    let messages: Vec<_> = stdout.map(|response| &response["message"]).collect();
    assert_eq!(messages, ["started", "cleaning", "clean"]);
    let last = responses.last().unwrap();
    assert_eq!(last["status"], "ERROR", "it did not end by itself");
    assert_eq!(last["message"], "`a` was ended: its timeout of 300 ms has passed");
    assert_eq!(
        (&last["content"]["exit_code"], &last["content"]["ended_by"]),
        (&json!(0), &json!("timeout"))
    );
}

#[test]
fn a_job_ends_at_its_timeout() {
    let seconds = unique_seconds();
    let jobs = four_processes(&seconds, "", "timeout = '500ms'");
    let start = Instant::now();
    let last = jobs.run("a", &[]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(last["content"]["signal"], 15);
    assert!(alive(&seconds).is_empty());
}

#[test]
fn a_request_whose_deadline_passes_takes_its_job_along() {
    let seconds = unique_seconds();
    let jobs = four_processes(&seconds, "", "");
    let mut client = jobs.client();
    let request =
        json!({ "id": "ID-1", "version": 0, "command": run("a", &[]), "deadline_ms": 500 });
    client.request(&request);
    let last = client.last();
    assert_eq!(last["message"], "cancelled: the deadline has passed");
    wait_until_alive(&seconds, 0);
}

/// A client that is a process of its own, once its job has said its first word.
fn in_mid_job(jobs: &Jobs, request: &str) -> Child {
    let mut client = Command::new("nc")
        .arg("-U")
        .arg(jobs.server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.as_ref().unwrap().write_all(request.as_bytes()).unwrap();
    let mut frame = vec![];
    BufReader::new(client.stdout.take().unwrap()).read_until(0, &mut frame).unwrap();
    let frame = String::from_utf8(frame).unwrap();
    assert!(frame.contains("started"), "{frame}");
    client
}

#[test]
fn a_thousand_killed_clients_leave_no_process_and_no_descriptor() {
    if !has_tool("nc") {
        return;
    }
    let seconds = unique_seconds();
    let script = format!("sleep {seconds} & echo started; sleep {seconds}");
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\nat_once = 100"));
    let request = json!({ "id": "ID-1", "version": 0, "command": run("a", &[]) });
    let request = format!("{request}\0");
    // Once the connection that waited for the server to listen is closed.
    assert!(
        wait_for(|| (jobs.ask("status")[0]["content"]["connections"] == 1).then_some(())).is_some()
    );
    let before = descriptors(&jobs);
    for _ in 0..50 {
        let clients: Vec<_> = (0..20).map(|_| in_mid_job(&jobs, &request)).collect();
        for mut client in clients {
            client.kill().unwrap();
            client.wait().unwrap();
        }
        wait_until_alive(&seconds, 0);
    }
    assert!(wait_for(|| jobs.zombies().is_empty().then_some(())).is_some(), "{:?}", jobs.zombies());
    let left = wait_for(|| (descriptors(&jobs) <= before).then_some(()));
    assert!(left.is_some(), "{} descriptors, {before} before", descriptors(&jobs));
    let content = &jobs.ask("status")[0]["content"];
    assert_eq!(content["counters"]["cancelled"], 1000, "each was ended: {content}");
}
