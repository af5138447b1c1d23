//! What the server logs.

use kakehi_tests::programs::{Server, wait_for};
use serde_json::json;

use super::support::Client;

/// Asks for an echo under `id`, and gives what the server has logged once that has ended.
fn log_of(server: &Server, id: &str) -> String {
    let mut client = Client::connect(&server.socket());
    client.send(id, json!({ "echo": { "text": "the secret text" } }));
    client.last();
    drop(client);
    wait_for(|| Some(server.log()).filter(|log| log.contains("answered"))).expect("it is logged")
}

#[test]
fn each_request_is_a_line_with_who_asked_what_and_how_it_ended() {
    let server = Server::start(&[]);
    let log = log_of(&server, "ID-1");
    let line = log.lines().find(|line| line.contains("answered")).unwrap();
    let (uid, pid) = (rustix::process::geteuid().as_raw(), std::process::id());
    let request = r#":request{id="ID-1" command="echo"}"#;
    assert!(line.contains("connection{number="), "{line}");
    assert!(line.contains(&format!("uid={uid} pid={pid}}}{request}")), "{line}");
    assert!(line.contains("end=Answered(Ok) duration="), "{line}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn what_clients_write_cannot_touch_the_log() {
    let server = Server::start(&[]);
    let log = log_of(&server, "a\u{1b}[2J\nfake INFO line\u{202e}\u{9b}");
    assert!(!log.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{log:?}");
    let line = log.lines().find(|line| line.contains("answered")).unwrap();
    assert!(line.contains(r"a\u{1b}[2J\nfake INFO line\u{202e}\u{9b}"), "{line}");
}

#[test]
fn rust_log_says_what_is_logged() {
    let quiet = Server::start_after("export RUST_LOG=error", &[]);
    let mut client = Client::connect(&quiet.socket());
    client.send("ID-1", json!({ "echo": { "text": "x" } }));
    client.last();
    assert_eq!(quiet.log(), "");

    let chatty = Server::start_after("export RUST_LOG=debug", &[]);
    let mut client = Client::connect(&chatty.socket());
    client.send("ID-1", "nonsense");
    client.last();
    let seen = wait_for(|| chatty.log().contains("DEBUG").then_some(()));
    assert!(seen.is_some(), "{}", chatty.log());
}

#[test]
fn who_is_let_in_and_cannot_come_in_is_warned_of() {
    let alone = "--group alone admits nobody";
    let unreachable = "others may use the socket, and cannot reach it";
    for (arguments, expected) in [
        (&["--mode", "660"][..], [false, true]),
        (&["--group", "0"], [true, false]),
        (&[], [false, false]),
    ] {
        let server = Server::start_after("chmod 700 \"${2%/*}\"", arguments);
        let log = server.log();
        assert_eq!([alone, unreachable].map(|text| log.contains(text)), expected, "{log}");
    }
}
