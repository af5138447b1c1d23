//! Runs that end by themselves, and the processes that they leave behind.

use std::{
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kakehi_tests::programs::{binary, system_path, wait_for};
use serde_json::{Value, json};

use super::support::{Client, Jobs, alive, run, takes_less_than, unique_seconds, wait_until_alive};

fn job(script: &str) -> Jobs {
    let job = json!({ "run": ["sh", "-c", script] });
    Jobs::start(&format!("[job.a]\nrun = {}", job["run"]))
}

#[test]
fn an_exit_code_of_zero_is_ok_and_any_other_an_error_that_says_it() {
    let jobs = job("exit 0");
    let last = jobs.run("a", &[]);
    assert_eq!((&last["status"], &last["content"]["exit_code"]), (&json!("OK"), &json!(0)));

    let jobs = job("echo out; echo err >&2; exit 3");
    let last = jobs.run("a", &[]);
    assert_eq!(last["message"], "`a` ended with exit code 3");
    assert_eq!((&last["status"], &last["content"]["exit_code"]), (&json!("ERROR"), &json!(3)));
    assert_eq!(last["content"]["stdout_lines"], 1);
    assert_eq!(last["content"]["stderr_lines"], 1);
    assert_eq!(last.get("refused"), None);
}

#[test]
fn a_job_killed_from_elsewhere_says_by_which_signal() {
    let last = job("kill -SEGV $$").run("a", &[]);
    assert_eq!(last["message"], "`a` was killed by signal 11 (SIGSEGV)");
    assert_eq!((&last["content"]["signal"], last["content"].get("exit_code")), (&json!(11), None));
}

#[test]
fn a_job_that_closes_its_output_early_is_waited_for() {
    let start = Instant::now();
    let last = job("echo one; exec >&- 2>&-; sleep 1; exit 4").run("a", &[]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        (&last["content"]["exit_code"], &last["content"]["stdout_lines"]),
        (&json!(4), &json!(1))
    );
}

#[test]
fn a_job_that_closes_its_output_early_gets_all_of_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    let jobs = Jobs::start(&format!(
        "[job.a]\nstdin = true\n\
         run = ['sh', '-c', 'exec >/dev/null 2>&1; sleep 0.5; cat >{}']\n",
        file.display()
    ));
    let text = "x".repeat(500 * 1024);
    let last = jobs.ask(json!({ "run": { "job": "a", "args": [], "stdin": text } })).pop().unwrap();
    assert_eq!(last["status"], "OK", "{last}");
    assert_eq!(std::fs::metadata(file).unwrap().len(), 500 * 1024);
}

#[test]
fn what_a_job_leaves_behind_in_its_group_is_killed_a_second_later() {
    let seconds = unique_seconds();
    let jobs = job(&format!("sleep {seconds} & echo started"));
    let start = Instant::now();
    let last = jobs.run("a", &[]);
    let took = start.elapsed();
    assert_eq!(last["status"], "OK");
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    wait_until_alive(&format!("sleep {seconds}"), 0);
}

#[test]
fn what_ends_in_that_second_is_waited_for_and_no_longer() {
    let jobs = job("sleep 0.4 >/dev/null 2>&1 & exit 0");
    takes_less_than(Duration::from_millis(950), || {
        let start = Instant::now();
        assert_eq!(jobs.run("a", &[])["status"], "OK");
        assert!(start.elapsed() >= Duration::from_millis(400));
        start.elapsed()
    });
}

#[test]
fn what_ends_without_a_parent_is_reaped_while_the_job_goes_on() {
    let jobs = job("(sleep 0.1 & sleep 0.2 &); echo started; sleep 1000");
    let mut client = jobs.client();
    client.send("ID-1", run("a", &[]));
    client.progress();
    std::thread::sleep(Duration::from_millis(500));
    assert!(jobs.zombies().is_empty(), "{:?}", jobs.zombies());
}

#[test]
fn a_child_that_writes_on_for_a_moment_is_heard() {
    let responses = job("(sleep 0.3; echo late) & echo early").ask(run("a", &[]));
    let messages: Vec<_> = responses.iter().map(|response| &response["message"]).collect();
    assert_eq!(messages[..2], ["early", "late"]);
}

#[test]
fn a_daemon_that_keeps_the_output_open_does_not_keep_the_answer() {
    let seconds = unique_seconds();
    let jobs = job(&format!("setsid sleep {seconds} & echo started; sleep 0.2"));
    let start = Instant::now();
    let last = jobs.run("a", &[]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!((&last["status"], &last["content"]["stdout_lines"]), (&json!("OK"), &json!(1)));
    // It left the process group and is not ended with the run.
    let daemons = alive(&format!("sleep {seconds}"));
    assert_eq!(daemons.len(), 1);
    super::support::kill(&daemons[0], rustix::process::Signal::KILL);
}

#[test]
fn a_daemon_that_writes_for_ever_does_not_keep_the_answer() {
    let mark = unique_seconds();
    let jobs = job(&format!("setsid yes {mark} & sleep 0.2"));
    let start = Instant::now();
    let last = jobs.ask(run("a", &[])).pop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(last["status"], "OK");
    // A closed pipe ends it.
    wait_until_alive(&format!("yes {mark}"), 0);
}

#[test]
fn a_job_has_its_own_environment_folder_and_group_and_no_descriptor_of_the_server() {
    let jobs = Jobs::start(
        "[job.env]\nrun = ['env']\nenv = { LANG = 'C', HOME = '/nowhere' }\n\
         [job.files]\nrun = ['ls', '-l', '/proc/self/fd']\n\
         [job.group]\nrun = ['sh', '-c', 'echo $$; cut -d\" \" -f5 /proc/$$/stat; pwd; umask']\n\
         cwd = '/tmp'\n[job.name]\nrun = ['sh', '-c', 'echo $0', 'own']\nargs = ['.*']\n",
    );
    let lines = |job: &str| -> Vec<String> {
        let mut responses = jobs.ask(run(job, &[]));
        responses.pop();
        let texts =
            responses.iter().map(|response| response["message"].as_str().unwrap().to_owned());
        texts.collect()
    };
    let mut variables = lines("env");
    variables.sort();
    let run = variables.remove(1);
    assert!(run.starts_with("KAKEHI_RUN=0"), "{run}");
    let state = variables.remove(1);
    assert!(state.starts_with("KAKEHI_STATE="), "{state}");
    let path = format!("PATH={}", system_path().to_str().unwrap());
    assert_eq!(variables, ["HOME=/nowhere", "LANG=C", &path]);

    // The last one is the folder that `ls` looks into.
    let files: Vec<_> = lines("files")
        .iter()
        .filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned()))
        .collect();
    assert_eq!((files.len(), files[0].as_str()), (4, "/dev/null"), "{files:?}");
    assert!(files[1].starts_with("pipe:") && files[2].starts_with("pipe:"), "{files:?}");

    let group = lines("group");
    assert_eq!(group[0], group[1], "it leads its own group");
    assert_eq!(group[2], "/tmp");
    assert_eq!(lines("name"), ["own"]);
}

#[test]
fn a_descriptor_that_the_server_was_started_with_is_not_for_its_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (folder.path().join("jobs.toml"), folder.path().join("socket"));
    std::fs::write(&file, "[job.a]\nrun = ['ls', '/proc/self/fd']").unwrap();
    let mut server = Command::new("/bin/sh")
        .args(["-c", r#"exec 9</dev/null; exec "$0" --jobs "$1" --socket "$2""#])
        .args([&binary("kakehid"), &file, &socket])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_for(|| UnixStream::connect(&socket).ok()).is_some());
    let mut client = Client::connect(&socket);
    client.send("ID-1", run("a", &[]));
    // 3 is the folder that `ls` looks into.
    let files: Vec<_> = (0..4).map(|_| client.progress()).collect();
    assert_eq!(files, ["0", "1", "2", "3"]);
    assert_eq!(client.last()["status"], "OK");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn arguments_are_appended_if_each_matches_its_pattern_and_never_seen_by_a_shell() {
    let jobs = Jobs::start("[job.a]\nrun = ['printf', '<%s>\\n']\nargs = ['[a-z ;$()]+', '^x?$']");
    let told = |args: &[&str]| {
        let mut responses = jobs.ask(run("a", args));
        let last = responses.pop().unwrap();
        (responses.into_iter().map(|r| r["message"].clone()).collect::<Vec<_>>(), last)
    };
    assert_eq!(told(&["a; b $(id)"]).0, ["<a; b $(id)>"]);
    assert_eq!(told(&["a", ""]).0, ["<a>", "<>"]);
    for (args, why) in [
        (&["A"][..], "argument 1 of `a` must match `[a-z ;$()]+`"),
        (&["a\n"], "argument 1 of `a` must match"),
        (&["a", "xx"], "argument 2 of `a` must match `^x?$`"),
        (&["a", "x", "y"], "`a` takes at most 2 arguments, not 3"),
    ] {
        let (progress, last) = told(args);
        assert!(progress.is_empty());
        assert!(last["message"].as_str().unwrap().contains(why), "{args:?}: {last}");
        assert_eq!((&last["status"], last["refused"].is_string()), (&json!("ERROR"), true));
    }
    let unknown: Value = jobs.run("b", &[]);
    assert_eq!(
        (&unknown["message"], unknown["refused"].is_string()),
        (&json!("there is no job `b`"), true)
    );
}

#[test]
fn a_program_that_has_gone_since_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['{}']", program.display()));
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    std::fs::remove_file(program).unwrap();
    let last = jobs.run("a", &[]);
    let message = last["message"].as_str().unwrap();
    assert!(message.starts_with("`a` cannot be started: No such file"), "{last}");
    assert!(jobs.running().is_empty());
}
