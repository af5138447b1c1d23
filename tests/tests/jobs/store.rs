//! The kept records and output of runs: bounds, a full disk, and many runs at once.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{has_tool, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{Jobs, can_inject, unique_seconds, wait_until_alive};

fn detached(job: &str) -> Value {
    json!({ "run": { "job": job, "args": [], "detach": true } })
}

fn flags(state: &Path) -> [&str; 2] {
    ["--state", state.to_str().unwrap()]
}

/// The ids of the kept runs.
fn kept(jobs: &Jobs) -> Vec<String> {
    let runs = jobs.ask(json!({ "runs": {} })).pop().unwrap();
    let runs = runs["content"].as_array().unwrap().iter();
    runs.map(|record| record["run"].as_str().unwrap().to_owned()).collect()
}

fn outputs(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state.join("output")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn of_many_runs_that_end_at_once_only_the_newest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let declared = "[job.a]\nrun = ['echo', 'output']\nat_once = 20\nkeep = { runs = 5 }";
    let mut jobs = Jobs::with_flags(declared, &flags(&state));
    for _ in 0..60 {
        assert_eq!(jobs.ask(detached("a")).pop().unwrap()["status"], "OK");
    }
    let pruned = wait_for(|| {
        (jobs.running().is_empty() && kept(&jobs).len() == 5 && outputs(&state).len() == 5)
            .then(|| kept(&jobs))
    });
    let newest = pruned.unwrap_or_else(|| panic!("{:?} {:?}", kept(&jobs), outputs(&state)));
    assert_eq!(outputs(&state), newest, "records and output are of the same runs");
    // The daemon ends between the removal of a record and that of its output.
    jobs.server.signal(Signal::KILL);
    jobs.server.wait();
    fs::create_dir(state.join("output/orphan")).unwrap();
    let jobs = Jobs::with_flags(declared, &flags(&state));
    assert_eq!((kept(&jobs), outputs(&state)), (newest.clone(), newest));
}

#[test]
fn records_are_written_again_once_the_disk_has_space() {
    if !has_tool("prlimit") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let declared = "[job.a]\nrun = ['true']";
    // A limit on the size of files stands for a full disk.
    let mut jobs = Jobs::start_after("trap '' XFSZ", declared, &flags(&state));
    let set = |size: &str| {
        let pid = jobs.server.pid().as_raw_nonzero().to_string();
        let size = format!("--fsize={size}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &size]).status().unwrap().success());
    };
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    set("0");
    for _ in 0..3 {
        let refused = jobs.ask(detached("a")).pop().unwrap();
        assert!(
            refused["message"].as_str().unwrap().contains("cannot record the run"),
            "{refused}"
        );
    }
    let status = jobs.ask("status").pop().unwrap();
    assert!(status["content"]["store_problem"].is_string(), "{status}");
    assert!(status["message"].as_str().unwrap().contains("records are not written"), "{status}");
    assert_eq!(jobs.run("a", &[])["status"], "OK", "a run with a client needs no record");
    set("unlimited");
    let last = jobs.ask(detached("a")).pop().unwrap();
    assert_eq!(last["status"], "OK", "{last}");
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
    assert_eq!(jobs.ask("status").pop().unwrap()["content"]["store_problem"], Value::Null);
    let all = kept(&jobs);
    assert_eq!(all.len(), 3);
    jobs.server.signal(Signal::KILL);
    jobs.server.wait();
    let jobs = Jobs::with_flags(declared, &flags(&state));
    assert_eq!(kept(&jobs), all, "also the run of the time without space");
}

#[test]
fn a_client_that_leaves_while_its_run_is_recorded_loses_nothing() {
    if !can_inject() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [state, journal] = ["state", "journal"].map(|name| folder.path().join(name));
    let declared =
        format!("[job.a]\nrun = ['sh', '-c', 'echo ran >> {}']\nat_once = 5", journal.display());
    // The daemon keeps its process id, and each write to the disk takes a second, after which a
    // disconnect is noticed.
    let slow_disk = "exec strace -D -f -qq -o /dev/null -e signal=none \
                     -e inject=fsync,fdatasync:delay_enter=1000000 \"$0\" \"$@\"";
    let jobs = Jobs::start_after(slow_disk, &declared, &flags(&state));
    for number in 1..=2 {
        let mut client = jobs.client();
        client.send("ID-1", detached("a"));
        // The run is known, and its record is not written.
        assert!(wait_for(|| (!jobs.running().is_empty()).then_some(())).is_some());
        drop(client);
        let idle = wait_for(|| jobs.running().is_empty().then_some(()));
        assert!(idle.is_some(), "{:?}", jobs.running());
        let ran = fs::read_to_string(&journal).unwrap_or_default();
        assert_eq!(ran.lines().count(), number, "{}", jobs.server.log());
        let runs = jobs.ask(json!({ "runs": {} })).pop().unwrap();
        let runs = runs["content"].as_array().unwrap();
        assert_eq!(runs.len(), number, "{runs:?}");
        assert!(runs.iter().all(|record| record["outcome"] == "ok"), "{runs:?}");
    }
}

#[test]
fn two_hundred_runs_are_cancelled_while_others_are_served() {
    let seconds = unique_seconds();
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sleep', '{seconds}']\nat_once = 250\n[job.b]\nrun = ['true']"
    ));
    for _ in 0..200 {
        assert_eq!(jobs.ask(detached("a")).pop().unwrap()["status"], "OK");
    }
    wait_until_alive(&seconds, 200);
    let mut client = jobs.client();
    client.send("ID-1", json!({ "cancel": { "all": true } }));
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    while !jobs.running().is_empty() {
        let start = Instant::now();
        assert_eq!(jobs.run("b", &[])["status"], "OK");
        slowest = slowest.max(start.elapsed());
    }
    let took = start.elapsed();
    println!("200 runs are cancelled in {took:?}; the slowest other run took {slowest:?}");
    assert_eq!(client.last()["status"], "OK");
    wait_until_alive(&seconds, 0);
}

#[test]
fn the_last_lines_are_followed_by_all_that_come() {
    const LINES: u64 = 300_000;
    // Old output is removed between the look at the last lines and the first one that is sent.
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['seq', '{LINES}']\nkeep = {{ output = '16 KiB' }}\nat_once = 20"
    ));
    for _ in 0..10 {
        let started = jobs.ask(detached("a")).pop().unwrap();
        let logs = json!({ "logs": {
            "run": started["content"]["run"], "tail": 10, "follow": true, "output": "lines" } });
        let responses = jobs.ask(logs);
        let mut lines: Vec<u64> = vec![];
        let mut missing = false;
        for response in &responses[..responses.len() - 1] {
            let Ok(line) = response["message"].as_str().unwrap().parse() else {
                missing = true;
                continue;
            };
            let next = lines.last().is_none_or(|last| line == last + 1 || missing && line > *last);
            assert!(next, "{line} after {:?}", lines.last());
            lines.push(line);
            missing = false;
        }
        assert!(lines.len() >= 10, "{lines:?}");
        assert_eq!(lines.last(), Some(&LINES));
    }
}
