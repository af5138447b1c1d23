//! The commands about runs that outlive their caller.

use std::{fs::read_to_string, io::Read, process::Stdio, thread::sleep, time::Duration};

use kakehi_tests::programs::{binary, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::support::Jobs;

fn detach(jobs: &Jobs, arguments: &[&str]) -> String {
    let said = jobs.said(&[&["run", "--detach"], arguments].concat());
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");
    said.stdout.trim_end().to_owned()
}

#[test]
fn a_detached_run_is_waited_for_read_listed_and_repeated() {
    let jobs = Jobs::start();
    let run = detach(&jobs, &["slow"]);
    assert!(run.len() == 7 && run.starts_with('0'), "{run}");
    let said = jobs.said(&["wait", &run]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.starts_with(&format!("{run}: `slow` ended in ")), "{said:?}");
    assert_eq!(jobs.said(&["logs", &run]).stdout, "1\n2\n3\n");
    assert_eq!(jobs.said(&["logs", "--tail", "1", &run[..6]]).stdout, "3\n");
    assert_eq!(jobs.said(&["attach", &run]).stdout, "1\n2\n3\n");
    let timed = jobs.said(&["logs", "--timestamps", &run]).stdout;
    assert!(
        timed.lines().all(|line| line.get(..2) == Some("20") && line.contains("Z ")),
        "{timed}"
    );
    assert_eq!(jobs.said(&["rerun", &run]).stdout, "1\n2\n3\n");
    let table = jobs.said(&["runs"]).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("RUN") && lines.len() == 3, "{table}");
    assert!(lines[1].starts_with(&run) && lines[1].contains("ok") && lines[1].ends_with("slow"));
    assert_eq!(jobs.said(&["runs", "--failed"]).stdout, "");
    let records = jobs.said(&["-o", "json", "runs"]).lines();
    assert_eq!(records[0][0]["run"], run, "{records:?}");
}

#[test]
fn attach_and_wait_pass_on_how_a_run_ended() {
    let jobs = Jobs::start();
    let run = detach(&jobs, &["exit", "7"]);
    assert_eq!(jobs.said(&["attach", &run]).code, 7);
    let said = jobs.said(&["wait", &run]);
    assert_eq!(said.stdout, format!("{run}: `exit` ended with exit code 7\n"));
    assert_eq!((said.code, &*said.stderr), (7, "failed: 1 of 1 runs failed\n"));
    let (good, bad) = (detach(&jobs, &["exit", "0"]), detach(&jobs, &["exit", "9"]));
    assert_eq!(jobs.said(&["wait", &good]).code, 0);
    assert_eq!(jobs.said(&["wait", &good, &bad, &run]).code, 9, "the first one of equal outcomes");
    assert_eq!(jobs.said(&["wait", &run, "--json"]).code, 7);
    let said = jobs.said(&["wait", &run, "-o", "json"]);
    assert_eq!((said.code, &said.lines()[0][0]["exit_code"]), (7, &7.into()));
    let table = jobs.said(&["runs", "--failed", "--job", "exit"]).stdout;
    assert!(table.contains("failed (7)") && table.contains("exit 7"), "{table}");
}

#[test]
fn ctrl_backslash_leaves_an_attached_run_that_goes_on() {
    let jobs = Jobs::start();
    let run = detach(&jobs, &["silent"]);
    for (signal, code) in [(Signal::QUIT, 0), (Signal::INT, 130)] {
        let mut attached = jobs.client(&["attach", &run]);
        let mut attached = attached.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 6];
        attached.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        kill_process(Pid::from_child(&attached), signal).unwrap();
        let output = attached.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("the run goes on"), "{stderr}");
    }
    let mut waiting = jobs.client(&["wait", &run]).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&waiting);
    assert!(wait_for(|| catches(pid, Signal::QUIT).then_some(())).is_some());
    kill_process(pid, Signal::QUIT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130), "the end was not seen");
    assert_eq!(jobs.running().len(), 1);
    assert_eq!(jobs.said(&["cancel", "--job", "silent"]).stdout, "cancelled 1 request\n");
    jobs.wait_until_idle();
}

fn catches(pid: Pid, signal: Signal) -> bool {
    let status = read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn many_lines_come_in_few_responses_unless_they_are_json() {
    let jobs = Jobs::start();
    let said = jobs.said(&["run", "lines"]);
    assert!(said.stdout.starts_with("1\n2\n") && said.stdout.ends_with("\n200000\n"));
    assert_eq!(said.stdout.lines().count(), 200_000);
    let lines = jobs.said(&["run", "--json", "both"]).lines();
    assert!(lines.iter().all(|line| line["content"].get("lines").is_none()), "{lines:?}");
}

#[test]
fn a_dry_run_starts_nothing_and_a_busy_job_is_not_waited_for() {
    let jobs = Jobs::start();
    let said = jobs.said(&["run", "--dry-run", "silent"]);
    assert_eq!(said.stdout, "`silent` would run: 0 of 1 runs are going on\n");
    detach(&jobs, &["silent"]);
    assert!(wait_for(|| (jobs.running().len() == 1).then_some(())).is_some());
    let said = jobs.said(&["run", "--no-wait", "silent"]);
    assert_eq!(said.code, 125, "{said:?}");
    sleep(Duration::from_millis(10));
    assert_eq!(jobs.said(&["cancel", "--all"]).code, 0);
    assert_eq!(jobs.said(&["reload"]).stdout.split(' ').next(), Some("reloaded"));
}

#[test]
fn the_largest_standard_input_reaches_the_job_whatever_its_bytes() {
    const LARGEST: usize = 512 * 1024;
    let jobs = Jobs::with("[job.cat]\nrun = ['cat']\nstdin = true\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input");
    for unit in [&b"\x01"[..], b"\"", b"a line\n", b"\xff\0"] {
        let input: Vec<u8> = unit.iter().copied().cycle().take(LARGEST).collect();
        std::fs::write(&file, &input).unwrap();
        let mut client = jobs.client(&["run", "--stdin", "cat"]);
        let output = client.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == input, "{unit:?}: {said}");
    }
}

#[test]
fn a_reload_prints_each_problem_of_the_file_on_a_line_as_the_check_does() {
    let jobs = Jobs::start();
    let file = jobs.file();
    std::fs::write(&file, "[job.a]\nrun = []\n[job.b]\nat_once = 0\n").unwrap();
    let mut check = std::process::Command::new(binary("kakehid"));
    let check = check.arg("--check").arg("--jobs").arg(&file).output().unwrap();
    let problems = String::from_utf8(check.stderr).unwrap();
    assert_eq!(problems.lines().count(), 3, "{problems}");
    let said = jobs.said(&["reload"]);
    let error = said.stderr.strip_prefix(&problems).unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!((said.code, &*said.stdout), (1, ""));
    let why = "  why: 3 problems in the jobs file; the previous jobs stay in use\n";
    assert!(
        error.starts_with("error: the jobs were not reloaded\n") && error.contains(why),
        "{error}"
    );
}

#[test]
fn the_runs_of_a_job_that_does_not_exist_cannot_be_cancelled() {
    let jobs = Jobs::start();
    let said = jobs.said(&["cancel", "--job", "silnt"]);
    said.assert_failed(127, &["there is no job `silnt`", "did you mean `silent`?"]);
    assert_eq!(jobs.said(&["cancel", "--job", "silent"]).stdout, "cancelled 0 requests\n");
}

#[test]
fn a_job_is_described_with_what_its_arguments_must_be() {
    let jobs = Jobs::with(
        "[job.backup]\nabout = 'archive'\nrun = ['true']\nargs = [\n\
         { name = 'folder', choices = ['photos', 'music'], required = true },\n\
         { name = 'level', pattern = '[0-9]', default = '3' }]\n",
    );
    let expected = "backup: archive\n\nArguments of the job:\n\
        \x20 <folder>  one of photos, music\n  [level]   matches `[0-9]`; default: 3\n";
    let described = jobs.said(&["describe", "backup"]);
    assert_eq!((described.code, &*described.stdout), (0, expected), "{described:?}");
    let help = jobs.said(&["run", "backup", "--help"]);
    assert!(help.code == 0 && help.stdout.starts_with(expected), "{help:?}");
    assert!(help.stdout.contains("Usage: kakehi run [OPTIONS] <JOB>"), "{help:?}");
    let json = jobs.said(&["describe", "backup", "-o", "json"]).lines().remove(0);
    assert_eq!(json["arguments"][0]["choices"][1], "music");
    jobs.said(&["describe", "bakup"]).assert_failed(127, &["no such job", "`backup`"]);
    // The job of another server, or without one: the help is still there.
    let help = crate::support::said(crate::support::client(&["run", "backup", "-h"]));
    assert!(help.code == 0 && help.stdout.contains("Usage: kakehi run"), "{help:?}");
}
