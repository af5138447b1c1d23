//! No text of a server can harm a terminal.

use serde_json::{Value, json};

use crate::support::{Fake, Said};

/// Every character that could do something, with something to see in between.
fn everything() -> String {
    let single = (0..0x20).chain(0x7f..0xa0).chain([0x61c, 0x200e, 0x200f, 0x2028, 0x2029]);
    let all = single.chain(0x202a..=0x202e).chain(0x2066..=0x2069);
    all.filter_map(char::from_u32).flat_map(|character| [character, 'x']).collect()
}

/// A title, a cleared screen, a line on top of another, in bytes that are not UTF-8 either.
const ATTACK: &str = "\x1b]0;owned\x07\x1b[2J\x1b[H\rerror: none\u{9b}31m";

fn assert_harmless(text: &str, lines: usize) {
    for character in text.chars() {
        let code = u32::from(character);
        let harmful = code < 0x20 && character != '\n'
            || (0x7f..0xa0).contains(&code)
            || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029].contains(&code)
            || (0x202a..=0x202e).contains(&code)
            || (0x2066..=0x2069).contains(&code);
        assert!(!harmful, "U+{code:04X} came out: {text:?}");
    }
    assert_eq!(text.lines().count(), lines, "{text:?}");
}

fn response(status: &str, message: &str, content: &Value) -> String {
    json!({ "id": "ID", "version": 0, "status": status, "message": message, "content": content })
        .to_string()
}

/// The output for a server that puts `text` into each field.
fn asked(text: &str, status: &str, arguments: &[&str]) -> Said {
    let line = |stream: &str| json!({ "stream": stream, "line": 1 });
    let running = json!({
        "id": text, "command": text, "job": text, "uid": 0, "age_ms": 0, "waiting": false, "pid": 1,
    });
    let content = match arguments[0] {
        "list" => json!([{ "job": text, "about": text, "args": [text], "timeout_ms": 1 }]),
        "status" => json!({
            "version": text, "pid": 1, "uptime_ms": 1, "connections": 1, "running": [running],
        }),
        _ => json!({ text: [text] }),
    };
    let fake = Fake::answers(&[
        &response("PROCESSING", text, &Value::Null),
        &response("PROCESSING", text, &json!({ "done": 1, "total": 3 })),
        &response("PROCESSING", text, &line("stdout")),
        &response("PROCESSING", text, &line("stderr")),
        &response(status, text, &content),
    ]);
    fake.said(arguments)
}

impl Said {
    /// Replaces the output of the job, which is unchanged in a pipe.
    fn without_job_output(mut self, text: &str) -> Self {
        for stream in [&mut self.stdout, &mut self.stderr] {
            *stream = stream.replacen(text, "output", 1);
        }
        self
    }
}

#[test]
fn no_harmful_character_comes_out_of_any_command() {
    for text in [everything().as_str(), ATTACK] {
        for (arguments, stdout, stderr) in [
            (&["run", "job"][..], 1, 3),
            (&["list"], 3, 3),
            (&["status"], 9, 3),
            (&["cancel", "x"], 2, 3),
            (&["stop"], 2, 3),
            (&["send", "{}"], 3, 3),
            (&["demo", "--timeout", "5s"], 5, 0),
            (&["run", "job", "--json"], 5, 0),
            (&["run", "job", "--color", "never", "-q"], 1, 1),
        ] {
            let said = asked(text, "OK", arguments).without_job_output(text);
            assert_eq!(said.code, 0, "{said:?}");
            assert_harmless(&said.stdout, stdout);
            assert_harmless(&said.stderr, stderr);
        }
    }
}

#[test]
fn no_harmful_character_comes_out_of_an_error() {
    for text in [everything().as_str(), ATTACK] {
        for (arguments, error) in
            [(&["run", "job"][..], 4), (&["send", "{}"], 3), (&["cancel", "x"], 4)]
        {
            let said = asked(text, "ERROR", arguments).without_job_output(text);
            assert_eq!(said.code, 1, "{said:?}");
            // One line of the job on each stream, two progress messages, and the error.
            assert_harmless(&said.stdout, 1);
            assert_harmless(&said.stderr, 3 + error);
        }
        let said = asked(text, "ERROR", &["demo", "--timeout", "5s"]);
        assert_harmless(&said.stdout, 5);
        let other = json!({ "id": text, "version": 0, "status": "OK", "message": "" }).to_string();
        for (frame, lines) in [(other.as_str(), 3), (&text.replace('\0', ""), 3)] {
            let said = Fake::answers(&[frame]).said(&["status"]);
            assert_eq!(said.code, 76, "{said:?}");
            assert_harmless(&said.stderr, lines);
            let said = Fake::answers(&[frame]).said(&["status", "--json", "-v"]);
            assert_harmless(&said.stdout, 1);
            assert_harmless(&said.stderr, said.stderr.lines().count());
        }
    }
}

#[test]
fn what_json_escapes_means_the_same_as_before() {
    let said = asked(&everything(), "OK", &["run", "job", "--json"]);
    let lines = said.lines();
    assert!(lines.iter().all(|line| line["message"] == everything()), "{said:?}");
}

#[test]
fn a_pipe_gets_the_bytes_of_a_job_and_of_nothing_else() {
    let said = asked(ATTACK, "OK", &["run", "job"]);
    assert_eq!(said.stdout, format!("{ATTACK}\n"));
    let ours: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("processing:")).collect();
    assert_eq!(ours.len(), 2, "{said:?}");
    assert_harmless(&ours.join("\n"), 2);
}
