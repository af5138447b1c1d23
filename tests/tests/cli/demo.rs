//! Without a command: the whole journey, even where there is no server.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kakehi_tests::programs::Server;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Fake, client, client_of, said};

/// A client that finds no server: nothing is on its default path.
fn lonely(folder: &Path, arguments: &[&str]) -> Command {
    let mut client = client(arguments);
    client.env("XDG_RUNTIME_DIR", folder).env("TMPDIR", folder);
    client
}

fn journey(steps: usize) -> String {
    "processing: Not done yet\n".repeat(steps) + "success: Done\n"
}

#[test]
fn one_command_shows_the_whole_journey_on_a_fresh_machine() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(lonely(folder.path(), &[]));
    assert_eq!((said.code, &*said.stdout), (0, &*journey(10)), "{said:?}");
    assert!(said.stderr.starts_with("no server listens on "), "{said:?}");
    assert!(said.stderr.contains("starting one in this process"), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn the_server_inside_is_private_and_leaves_nothing_even_if_interrupted() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = lonely(folder.path(), &["-q"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let inside: Vec<PathBuf> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [inside] = &inside[..] else { panic!("{inside:?}") };
        assert_eq!(fs::metadata(inside).unwrap().permissions().mode() & 0o7777, 0o700);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if signal == Signal::INT { 130 } else { 143 }));
        assert!(!inside.exists(), "{signal:?}");
    }
}

#[test]
fn the_clocks_count_without_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(lonely(folder.path(), &["--deadline", "300ms", "--json"]));
    assert_eq!(said.code, 124, "{said:?}");
    let lines = said.lines();
    assert_eq!(lines.len(), 2, "{said:?}");
    assert_eq!(lines[0]["content"]["total"], 10);
    assert_eq!(lines[1]["error"], "deadline");
}

#[test]
fn a_server_on_the_default_path_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let answer = r#"{"id":"ID","version":0,"status":"OK","message":"from the default path"}"#;
    let fake = Fake::answers(&[answer]);
    fs::create_dir(folder.path().join("kakehi")).unwrap();
    let path = folder.path().join("kakehi/kakehi.sock");
    std::os::unix::fs::symlink(fake.socket(), path).unwrap();
    let said = said(lonely(folder.path(), &[]));
    assert_eq!((said.code, &*said.stdout), (0, "success: from the default path\n"));
    assert_eq!(said.stderr, "");
}

#[test]
fn an_error_is_told_as_the_result() {
    let error = r#"{"id":"ID","version":0,"status":"ERROR","message":"It failed"}"#;
    let said = Fake::answers(&[error]).said(&[]);
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "failed: It failed\n", ""));
}

#[test]
fn it_asks_for_no_command_and_shows_each_step_as_it_comes() {
    let server = Server::start(&[]);
    let mut child = client_of(&server.socket(), &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "processing: Not done yet\n");
    assert!(start.elapsed().as_millis() < 900, "{:?}", start.elapsed());
    child.kill().unwrap();
    child.wait().unwrap();
}
