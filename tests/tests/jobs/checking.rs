//! `--check`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use kakehi_tests::programs::binary;

use super::support::can_inject;

/// Runs `--check` on a file. Returns stdout, stderr and the exit code.
fn check(text: &str) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("jobs.toml"), text).unwrap();
    let output = Command::new(binary("kakehid"))
        .args(["--check", "--jobs", "jobs.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn a_good_file_is_ok() {
    assert_eq!(check(""), ("ok, 0 jobs\n".into(), String::new(), Some(0)));
    let two = "[job.a]\nrun = ['true']\n[job.b]\nrun = ['false']\n";
    assert_eq!(check(two), ("ok, 2 jobs\n".into(), String::new(), Some(0)));
}

#[test]
fn who_lets_callers_give_options_is_warned() {
    for (job, is_warned) in [
        ("run = ['ls']\nargs = ['[a-z0-9-]{1,32}']", true),
        ("run = ['ls', '--']\nargs = ['[a-z0-9-]{1,32}']", false),
        ("run = ['ls']\nargs = ['[a-z0-9][a-z0-9-]{0,31}']", false),
        ("run = ['ls']\nargs = ['x', '.*']", true),
    ] {
        let (stdout, stderr, code) = check(&format!("[job.a]\n{job}\n"));
        assert_eq!((stdout.as_str(), code), ("ok, 1 job\n", Some(0)));
        assert_eq!(
            stderr.starts_with("warning: callers of `a` may give options"),
            is_warned,
            "{job}"
        );
    }
}

#[test]
fn a_jobs_file_that_is_a_fifo_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("jobs.toml");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let output = Command::new("timeout")
        .arg("10")
        .arg(binary("kakehid"))
        .arg("--jobs")
        .arg(&fifo)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("not a regular file"), "{log}");
}

#[test]
fn a_folder_of_files_is_read_as_one_and_a_job_may_be_declared_once() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let mut kakehid = Command::new(binary("kakehid"));
        kakehid.args(["--check", "--jobs"]).arg(folder.path()).output().unwrap()
    };
    fs::write(folder.path().join("1.toml"), "[job.a]\nrun = ['true']\n").unwrap();
    fs::write(folder.path().join("2.toml"), "[job.b]\nrun = ['true']\n").unwrap();
    fs::write(folder.path().join("README"), "not TOML").unwrap();
    assert_eq!(check().stdout, b"ok, 2 jobs\n");
    fs::write(folder.path().join("3.toml"), "[job.a]\nrun = ['true']\n").unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("3.toml: job.a: another file declares it too"), "{said}");
}

#[test]
fn every_mistake_is_told_with_file_line_and_what_was_expected() {
    let (stdout, stderr, code) = check(
        "[job.a]\nrun = 'tar'\ntimeout = 10m\n\n[job.b]\nrun = ['true']\n\
         allow = { users = ['no-such-user'] }\nargs = ['[']\nat_once = 0\ncolour = 'red'\n",
    );
    assert_eq!((stdout.as_str(), code), ("", Some(1)));
    let lines: Vec<_> = stderr.lines().collect();
    for (line, start) in [
        "jobs.toml:2: job.a.run: expected a command line",
        "jobs.toml:3: string values must be quoted",
        "jobs.toml:7: job.b.allow.users: expected the name of a user here",
        "jobs.toml:8: job.b.args[0]: expected a regular expression, found \"[\"",
        "jobs.toml:9: job.b.at_once: expected a whole number, at least 1, found 0",
        "jobs.toml:10: job.b.colour: unknown key, expected one of about, run, args",
    ]
    .iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(start), "{stderr}");
    }
    assert_eq!(lines.len(), 6);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let output =
        Command::new(binary("kakehid")).args(["--check", "--jobs", "/no/file"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("/no/file: cannot be read: No such file"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    let output = Command::new(binary("kakehid")).arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "there is nothing to check");
}

#[test]
fn a_server_does_not_start_with_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    fs::write(&file, "[job.a]\nrun = []\n[job.b]\n").unwrap();
    let socket = folder.path().join("socket");
    let output = Command::new(binary("kakehid"))
        .arg("--jobs")
        .arg(&file)
        .arg("--socket")
        .arg(&socket)
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for words in ["jobs.toml:2: job.a.run", "jobs.toml:3: job.b.run", "the jobs file is wrong"] {
        assert!(log.contains(words), "{log}");
    }
    assert!(!socket.exists());
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    fs::write(&file, "[job.a]\nrun = ['true']\n").unwrap();
    let refused = |words: &str| {
        let output = Command::new(binary("kakehid"))
            .arg("--check")
            .arg("--jobs")
            .arg(&file)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(words), "{stderr}");
        assert_eq!(output.status.code(), Some(1));
    };
    fs::set_permissions(&file, Permissions::from_mode(0o646)).unwrap();
    refused("every user can write to it (mode 0646). Run chmod o-w on it");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    if chown(&file, Some(65534), None).is_ok() {
        refused("it belongs to uid 65534");
    }
}

#[test]
fn a_system_call_that_fails_is_not_told_as_a_wrong_jobs_file() {
    if !can_inject() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    fs::write(&file, "[job.a]\nrun = ['true']\n").unwrap();
    for (error, words) in [("ENOSYS", "not implemented"), ("EPERM", "not permitted")] {
        let output = Command::new("timeout")
            .args(["60", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none"])
            .args(["-e", &format!("inject=prctl:error={error}")])
            .arg(binary("kakehid"))
            .arg("--jobs")
            .arg(&file)
            .arg("--socket")
            .arg(folder.path().join("socket"))
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        let last = log.lines().last().unwrap();
        assert!(last.contains("cannot become the parent of jobs' processes"), "{log}");
        assert!(last.contains(words) && !log.contains("jobs file"), "{log}");
    }
}
