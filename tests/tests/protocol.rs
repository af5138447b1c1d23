//! The clients of docs/protocol.md, in Python and with common tools.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use kakehi_tests::programs::{Server, has_tool};
use serde_json::Value;

/// The code block of docs/protocol.md that follows a marker.
fn example(marker: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n")).unwrap();
    let block = rest.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

fn python(server: &Server, command: &str) -> Output {
    let code = example("client.py");
    Command::new("python3").args(["-c", &code]).arg(server.socket()).arg(command).output().unwrap()
}

fn shell(server: &Server, code: &str) -> Vec<Value> {
    let output = Command::new("/bin/sh")
        .args(["-c", code])
        .env("SOCKET", server.socket())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(['\0', '\n'])
        .filter(|frame| !frame.is_empty())
        .map(|frame| serde_json::from_str(frame).unwrap())
        .collect()
}

fn statuses(responses: &[Value]) -> Vec<&str> {
    responses.iter().map(|response| response["status"].as_str().unwrap()).collect()
}

const SHORT: &str = r#"{"countdown":{"steps":3,"interval_ms":100}}"#;

#[test]
fn the_python_client_sees_each_response_and_tells_how_it_ended() {
    if !has_tool("python3") {
        return;
    }
    assert!(example("client.py").lines().count() <= 25);
    let server = Server::start(&[]);
    let cases = [
        (
            SHORT,
            0,
            "PROCESSING Not done yet\nPROCESSING Not done yet\nPROCESSING Not done yet\nOK Done\n",
        ),
        (r#"{"echo":{"text":"héllo"}}"#, 0, "OK héllo\n"),
        (
            r#""fail""#,
            1,
            "PROCESSING Not done yet\nPROCESSING This does not look good\nERROR It failed, as you asked\n",
        ),
    ];
    for (command, code, expected) in cases {
        let output = python(&server, command);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn the_socat_client_sees_ten_steps_one_second_apart() {
    if !has_tool("socat") {
        return;
    }
    let server = Server::start(&[]);
    let begun = std::time::Instant::now();
    let seen = shell(&server, &example("client.sh"));
    let mut expected = vec!["PROCESSING"; 10];
    expected.push("OK");
    assert_eq!(statuses(&seen), expected);
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(seen.iter().all(|response| response["id"] == "socat-1" && response["version"] == 0));
}

#[test]
fn netcat_may_close_its_sending_side_and_is_answered_in_full() {
    if !has_tool("nc") {
        return;
    }
    let server = Server::start(&[]);
    let request = format!(r#"{{"id":"My-urgent-request","version":0,"command":{SHORT}}}"#);
    let seen = shell(&server, &format!(r#"printf '{request}\0' | nc -N -U "$SOCKET""#));
    assert_eq!(statuses(&seen), ["PROCESSING", "PROCESSING", "PROCESSING", "OK"]);
    assert_eq!(seen[0]["message"], "Not done yet");
    assert_eq!(seen[0]["id"], "My-urgent-request");
}

#[test]
fn each_refusal_of_the_table_is_on_the_wire_as_it_says() {
    if !has_tool("python3") {
        return;
    }
    let server = Server::start(&[]);
    let code = r#"
import os, socket
stream = socket.socket(socket.AF_UNIX)
stream.connect(os.environ["SOCKET"])
stream.sendall(b'nonsense\0["a",0]\0{"id":"v","version":1}\0{"id":"u","version":0,"command":"unknown"}\0')
stream.sendall(b'x' * 1048576)
data = b""
try:
    while chunk := stream.recv(65536):
        data += chunk
except ConnectionResetError:
    pass
print(data.decode(), end="")
"#;
    let seen = shell(&server, &format!("python3 -c '{}'", code.replace('\'', r"'\''")));
    let short: Vec<_> =
        seen.iter().map(|r| (r["id"].as_str().unwrap(), r["refused"].as_str().unwrap())).collect();
    let malformed = "malformed";
    assert_eq!(
        short,
        [("", malformed), ("", malformed), ("v", malformed), ("u", malformed), ("", "too_large")]
    );
    let version = seen[2]["message"].as_str().unwrap();
    assert!(version.contains("version 1") && version.contains("version 0"), "{version}");
    let unknown = seen[3]["message"].as_str().unwrap();
    assert!(unknown.contains("run, list, status"), "it says what is known: {unknown}");
}
