//! The demo commands of a server that was started with `--demo`.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use kakehi_tests::programs::Server;

use crate::support::{Fake, client, client_of, said};

#[test]
fn without_a_command_it_shows_its_help() {
    let said = said(client(&[]));
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");
    assert!(said.stdout.contains("Usage: kakehi"), "{said:?}");
}

#[test]
fn without_a_command_it_asks_a_server_for_nothing() {
    let fake = Fake::start(|_, request| panic!("asked for {request}"));
    let said = said(client_of(&fake.socket(), &[]));
    assert_eq!((said.code, &*said.stdout), (2, ""), "{said:?}");
    let server = Server::start(&[]);
    let mut bare = client(&[]);
    bare.env("KAKEHI_SOCKET", server.socket());
    let said = crate::support::said(bare);
    assert_eq!((said.code, said.stderr.is_empty()), (0, true), "{said:?}");
    assert!(said.stdout.contains("Usage: kakehi") && !said.stdout.contains("Done"), "{said:?}");
}

#[test]
fn a_server_without_demo_refuses_the_demo_commands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    std::fs::write(&file, "[job.a]\nrun = ['true']\n").unwrap();
    let server = Server::without_demo(&["--jobs", file.to_str().unwrap()]);
    let asked = |arguments: &[&str]| said(client_of(&server.socket(), arguments));
    for (name, request) in [
        ("countdown", r#"{"command":"countdown"}"#),
        ("countdown", r#"{"command":{"countdown":{"steps":1,"interval_ms":1}}}"#),
        ("fail", r#"{"command":"fail"}"#),
        ("echo", r#"{"command":{"echo":{"text":"x"}}}"#),
    ] {
        let said = asked(&["send", request, "--json"]);
        let lines = said.lines();
        assert_eq!((lines.len(), &lines[0]["status"]), (1, &"ERROR".into()), "{said:?}");
        assert_eq!(lines[0]["refused"], "other", "{said:?}");
        let why = format!("the command `{name}` needs a server that was started with --demo");
        assert_eq!(lines[0]["message"], why);
    }
    let said = asked(&["send", "{}"]);
    assert!(said.stderr.contains("the request has no command: there are run, list"), "{said:?}");
    let demo = asked(&["demo"]);
    assert_ne!(demo.code, 0);
    assert!(!demo.stdout.contains("Not done yet"), "{demo:?}");
    let described = asked(&["send", r#"{"command":"kakehi.describe"}"#, "--json"]).stdout;
    assert!(described.contains("reload") && !described.contains("countdown"), "{described}");
    assert_eq!(asked(&["run", "a"]).code, 0);
}

#[test]
fn an_error_is_told_as_the_result() {
    let error = r#"{"id":"ID","version":0,"status":"ERROR","message":"It failed"}"#;
    let said = Fake::answers(&[error]).said(&["demo"]);
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "failed: It failed\n", ""));
}

#[test]
fn it_asks_for_no_command_and_shows_each_step_as_it_comes() {
    let server = Server::start(&[]);
    let mut child = client_of(&server.socket(), &["demo"])
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
