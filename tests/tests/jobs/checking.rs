//! `--check`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use kakehi_tests::programs::binary;

/// What `--check` of a file says: on stdout, on stderr, and by its exit code.
fn check(text: &str) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("jobs.toml"), text).unwrap();
    let output = Command::new(binary("server"))
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
        ("run = ['tar']\nargs = ['[a-z0-9-]{1,32}']", true),
        ("run = ['tar', '--']\nargs = ['[a-z0-9-]{1,32}']", false),
        ("run = ['tar']\nargs = ['[a-z0-9][a-z0-9-]{0,31}']", false),
        ("run = ['tar']\nargs = ['x', '.*']", true),
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
        "jobs.toml:8: job.b.args: expected a regular expression, found \"[\"",
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
        Command::new(binary("server")).args(["--check", "--jobs", "/no/file"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("/no/file: cannot be read: No such file"), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    let output = Command::new(binary("server")).arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "there is nothing to check");
}

#[test]
fn a_server_does_not_start_with_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    fs::write(&file, "[job.a]\nrun = []\n[job.b]\n").unwrap();
    let socket = folder.path().join("socket");
    let output = Command::new(binary("server"))
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
        let output = Command::new(binary("server"))
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
    refused("everybody can write to it (mode 0646): chmod o-w");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    if chown(&file, Some(65534), None).is_ok() {
        refused("it belongs to uid 65534");
    }
}
