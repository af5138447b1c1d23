//! The log of the daemon.

use kakehi_tests::programs::{Server, wait_for};
use rustix::process::Signal;
use serde_json::json;

use super::support::Client;

/// Sends an echo with this `id`, waits for its end, and returns the log of the server.
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
    assert!(!line.contains("number=0 "), "connections are counted from 1: {line}");
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
    client.send("ID-1", json!({ "echo": { "text": "x" } }));
    wait_for(|| chatty.log().contains("answered").then_some(())).unwrap();
    // The response was not read, so the server's connection is reset.
    drop(client);
    let seen = wait_for(|| chatty.log().contains("DEBUG").then_some(()));
    assert!(seen.is_some(), "{}", chatty.log());
}

#[test]
fn a_refused_request_is_logged_with_uid_id_and_command() {
    let server = Server::start(&[]);
    let uid = rustix::process::geteuid().as_raw();
    let refused = |id: &str| {
        let text = format!("refused a request uid={uid} id={id:?}");
        wait_for(|| server.log().lines().find(|line| line.contains(&text)).map(str::to_owned))
    };
    let mut client = Client::connect(&server.socket());
    client.send("ID-1", "nonsense");
    client.last();
    let line = refused("ID-1").expect("the log contains the malformed request");
    assert!(line.contains("INFO") && line.contains("why=Malformed"), "{line}");

    let mut running = Client::connect(&server.socket());
    running.send("ID-2", "countdown");
    running.progress();
    server.signal(Signal::TERM);
    wait_for(|| server.log().contains("draining").then_some(())).unwrap();
    client.send("ID-3", json!({ "echo": { "text": "x" } }));
    client.last();
    let line = refused("ID-3").expect("the log contains the request that came too late");
    assert!(line.contains(r#":request{id="ID-3" command="echo"}"#), "{line}");
    assert!(line.contains("why=ShuttingDown"), "{line}");
}

#[test]
fn a_mode_or_group_without_effect_is_warned_of() {
    let alone = "--group has no effect without --mode 660";
    let unreachable = "other users cannot reach the socket";
    let group = rustix::process::getegid().to_string();
    for (arguments, expected) in [
        (&["--mode", "660"][..], [false, true]),
        (&["--group", &group], [true, false]),
        (&[], [false, false]),
    ] {
        let server = Server::start_after("chmod 700 \"${2%/*}\"", arguments);
        // Warnings come before this line.
        wait_for(|| server.log().contains("listening").then_some(())).unwrap();
        let log = server.log();
        assert_eq!([alone, unreachable].map(|text| log.contains(text)), expected, "{log}");
    }
}
