//! `--json`: the responses as they came, and exactly one terminal line, always.

use kakehi_tests::programs::Server;
use serde_json::{Value, json};

use crate::support::{Fake, Jobs, Said, Then, client_of, said};

/// Each line but the last is progress, and the last is the final one: gives it.
fn terminal(said: &Said) -> Value {
    let mut lines = said.lines();
    let last = lines.pop().unwrap_or_else(|| panic!("no line: {said:?}"));
    assert!(matches!(last["status"].as_str(), Some("OK" | "ERROR")), "{said:?}");
    assert!(lines.iter().all(|line| line["status"] == "PROCESSING"), "{said:?}");
    assert_eq!(said.stderr, "", "everything is said on stdout");
    last
}

#[test]
fn each_response_is_a_line_and_the_last_one_is_the_final_one() {
    let jobs = Jobs::start();
    for (arguments, code, status) in [
        (&["run", "both", "--json"][..], 0, "OK"),
        (&["run", "exit", "7", "--json"], 7, "ERROR"),
        (&["run", "nothing", "--json"], 127, "ERROR"),
        (&["list", "--json"], 0, "OK"),
        (&["status", "--json"], 0, "OK"),
        (&["cancel", "x", "--json"], 125, "ERROR"),
        (&["send", r#"{"command":"fail"}"#, "--json"], 1, "ERROR"),
    ] {
        let said = jobs.said(arguments);
        assert_eq!(
            (said.code, terminal(&said)["status"].as_str()),
            (code, Some(status)),
            "{said:?}"
        );
    }
    let both = jobs.said(&["run", "both", "--json"]);
    let mut streams: Vec<_> =
        both.lines().iter().map(|line| line["content"]["stream"].clone()).collect();
    streams.sort_by_key(ToString::to_string);
    assert_eq!(streams, ["stderr".into(), "stdout".into(), Value::Null]);
}

#[test]
fn a_response_keeps_what_is_not_known_here_and_is_one_line_however_it_came() {
    let fake = Fake::answers(&[
        "{\"version\":0,\n\t\"id\":\"ID\",\r\n \"status\":\"PROCESSING\",\"message\":\"a\",\"x\":1.000000000000000000001}",
        "{\"id\":\"ID\",\"version\":0,\"status\":\"OK\",\"message\":\"\",\"z\":1,\"a\":{\"b\":[]}}",
    ]);
    let said = fake.said(&["status", "--json"]);
    assert_eq!(said.stdout.lines().count(), 2, "{said:?}");
    assert!(said.stdout.contains("\"x\":1.000000000000000000001}"), "{said:?}");
    assert!(said.stdout.ends_with("\"z\":1,\"a\":{\"b\":[]}}\n"), "{said:?}");
    terminal(&said);
}

#[test]
fn an_error_of_our_own_is_the_terminal_line() {
    let silent = Fake::writes(b"", Then::Stays);
    let nonsense = Fake::answers(&["nonsense"]);
    let progress = r#"{"id":"ID","version":0,"status":"PROCESSING","message":"a"}"#;
    let half = Fake::writes(format!("{progress}\0{{").as_bytes(), Then::Leaves);
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none");
    let server = Server::start(&[]);
    for (socket, arguments, code, word, outcome) in [
        (silent.socket(), &["status", "--timeout", "50ms"][..], 124, "timeout", "unknown"),
        (silent.socket(), &["status", "--deadline", "50ms"], 124, "deadline", "unknown"),
        (nonsense.socket(), &["status"], 76, "protocol", "unknown"),
        (half.socket(), &["status"], 76, "disconnected", "unknown"),
        (half.socket(), &["demo"], 76, "disconnected", "unknown"),
        (nowhere.clone(), &["status"], 69, "not_running", "not_sent"),
        (nowhere.clone(), &["demo"], 69, "not_running", "not_sent"),
        (server.socket(), &["status", "--server-uid", "4294967294"], 77, "permission", "not_sent"),
        (nowhere.clone(), &["run"], 2, "usage", "not_sent"),
        (nowhere, &["send", "[]"], 2, "usage", "not_sent"),
    ] {
        let mut client = client_of(&socket, arguments);
        client.arg("--json");
        let said = said(client);
        let last = terminal(&said);
        let message = last["message"].as_str().unwrap();
        assert!(message.len() > 20, "{said:?}");
        let expected =
            json!({ "status": "ERROR", "error": word, "outcome": outcome, "message": message });
        assert_eq!((said.code, last), (code, expected), "{arguments:?}");
    }
}

#[test]
fn without_json_a_word_that_only_looks_like_it_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(client_of(&folder.path().join("none"), &["run", "--", "--json", "a"]));
    assert_eq!((said.code, &*said.stdout), (69, ""), "it is the name of a job here: {said:?}");
}
