//! The output of a job arrives complete, in order and at once. A reader that stops holds it back.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use kakehi_tests::programs::has_tool;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::{Jobs, memory, run, unique_seconds, wait_until_alive};

/// Restores the bytes of a stream from the responses, by the rule of docs/protocol.md.
fn restored(responses: &[Value], stream: &str) -> Vec<u8> {
    let mut bytes = vec![];
    for response in responses.iter().filter(|response| response["content"]["stream"] == stream) {
        let content = &response["content"];
        match content.get("base64") {
            Some(text) => bytes.extend(decoded(text.as_str().unwrap())),
            None => bytes.extend(response["message"].as_str().unwrap().as_bytes()),
        }
        let goes_on = content["cut"] == true || content["newline"] == false;
        bytes.extend((!goes_on).then_some(b'\n'));
    }
    bytes
}

fn decoded(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = vec![];
    for digit in base64.trim_end_matches('=').bytes() {
        let value = (0_u8..64).find(|value| DIGITS[usize::from(*value)] == digit).unwrap();
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn each_line_is_told_with_its_stream_and_number() {
    let jobs =
        Jobs::start("[job.a]\nrun = ['sh', '-c', 'echo one; echo; echo bad >&2; printf two']");
    let responses = jobs.ask(run("a", &[]));
    let of = |stream: &str| -> Vec<_> {
        let lines = responses.iter().filter(|response| response["content"]["stream"] == stream);
        lines.map(|line| json!([line["message"], line["content"]])).collect()
    };
    assert_eq!(
        of("stdout"),
        [
            json!(["one", { "stream": "stdout", "line": 1 }]),
            json!(["", { "stream": "stdout", "line": 2 }]),
            json!(["two", { "stream": "stdout", "line": 3, "newline": false }]),
        ],
    );
    assert_eq!(of("stderr"), [json!(["bad", { "stream": "stderr", "line": 1 }])]);
    let last = responses.last().unwrap();
    assert_eq!(last["status"], "OK");
    assert_eq!(last["content"]["exit_code"], 0);
    assert_eq!(
        (&last["content"]["stdout_lines"], &last["content"]["stderr_lines"]),
        (&json!(3), &json!(1))
    );
    assert!(last["content"]["duration_ms"].is_u64());
}

#[test]
fn a_line_comes_when_it_appears_and_not_at_the_end() {
    let jobs = Jobs::start("[job.a]\nrun = ['sh', '-c', 'echo now; sleep 2; echo then']");
    let mut client = jobs.client();
    let start = Instant::now();
    client.send("ID-1", run("a", &[]));
    assert_eq!(client.progress(), "now");
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(client.progress(), "then");
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(client.last()["status"], "OK");
}

#[test]
fn a_line_that_has_not_ended_is_sent_after_a_short_pause() {
    let jobs = Jobs::start(
        r#"
[job.percent]
run = ["sh", "-c", "printf '\\r  1%%'; sleep 3; printf '\\r  2%%'"]
[job.question]
run = ["sh", "-c", "printf 'sure? '; sleep 3; echo; echo next"]
"#,
    );
    for (job, first, whole) in
        [("percent", "\r  1%", "\r  1%\r  2%"), ("question", "sure? ", "sure? \nnext\n")]
    {
        let mut client = jobs.client();
        let start = Instant::now();
        client.send("ID-1", run(job, &[]));
        let response = client.next().unwrap();
        assert_eq!(response["message"], first);
        assert_eq!(
            (&response["content"]["cut"], &response["content"]["part"]),
            (&json!(true), &json!(1))
        );
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        let responses = [vec![response], client.rest()].concat();
        assert_eq!(restored(&responses, "stdout"), whole.as_bytes());
    }
}

#[test]
fn any_bytes_arrive_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = b"plain\n\xff\xfe\nhalf \xe2\x82\n\nnul \0 esc \x1b\n".to_vec();
    data.extend((0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    data.extend(b"\nno end");
    let file = folder.path().join("data");
    std::fs::write(&file, &data).unwrap();
    let jobs = Jobs::start(&format!(
        "[job.a]\nrun = ['sh', '-c', 'cat {0}; cat {0} >&2']",
        file.display(),
    ));
    let responses = jobs.ask(run("a", &[]));
    assert_eq!(restored(&responses, "stdout"), data);
    assert_eq!(restored(&responses, "stderr"), data);
    let bad = responses.iter().find(|response| response["content"]["base64"] == "//4=").unwrap();
    assert_eq!(bad["message"], "\u{FFFD}\u{FFFD}");
    assert_eq!(bad["content"]["line"], 2);
}

#[test]
fn a_line_of_a_mebibyte_comes_in_pieces_that_say_so() {
    let script = r#"head -c 1048576 /dev/zero | tr "\0" x; echo; echo next"#;
    let jobs = Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', '{script}']"));
    let responses = jobs.ask(run("a", &[]));
    assert_eq!(responses.len(), 16 + 1 + 1);
    for (index, response) in responses.iter().take(16).enumerate() {
        let content = &response["content"];
        assert_eq!(response["message"].as_str().unwrap().len(), 65_536);
        assert_eq!((&content["line"], &content["part"]), (&json!(1), &json!(index + 1)));
        assert_eq!(content.get("cut"), (index < 15).then_some(&json!(true)));
    }
    assert_eq!(responses[16]["message"], "next");
    assert_eq!(responses[16]["content"], json!({ "stream": "stdout", "line": 2 }));
    assert_eq!(responses[17]["content"]["stdout_lines"], 2);
}

#[test]
fn neither_stream_starves_the_other() {
    let jobs = Jobs::start(
        "[job.a]\nrun = ['sh', '-c', 'yes out & yes err >&2 & sleep 1000']\ntimeout = '2s'",
    );
    let responses = jobs.ask(run("a", &[]));
    let content = &responses.last().unwrap()["content"];
    let (stdout, stderr) =
        (content["stdout_lines"].as_u64().unwrap(), content["stderr_lines"].as_u64().unwrap());
    assert!(stdout > 1000 && stderr > 1000, "{content}");
    assert!(stdout / 4 < stderr && stderr / 4 < stdout, "{content}");
}

#[test]
fn a_line_that_cannot_be_sent_ends_the_job_and_is_not_left_out() {
    let seconds = unique_seconds();
    let script = format!(r#"echo one; head -c 5000 /dev/zero | tr "\0" x; echo; sleep {seconds}"#);
    let jobs = Jobs::with_flags(
        &format!("[job.a]\nrun = ['sh', '-c', '{script}']"),
        &["--response-bytes", "2000"],
    );
    let responses = jobs.ask(run("a", &[]));
    assert_eq!((responses.len(), &responses[0]["message"]), (2, &json!("one")));
    let message = responses[1]["message"].as_str().unwrap();
    assert!(message.starts_with("`a` was ended: a line cannot be sent"), "{message}");
    assert_eq!(responses[1]["content"]["ended_by"], "output");
    wait_until_alive(&seconds, 0);
}

/// A client that is a process of its own, and its responses.
fn nc(jobs: &Jobs, job: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut nc = Command::new("nc")
        .args(["-N", "-U"])
        .arg(jobs.server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = json!({ "id": "ID-1", "version": 0, "command": run(job, &[]) });
    write!(nc.stdin.take().unwrap(), "{request}\0").unwrap();
    let stdout = BufReader::with_capacity(1 << 20, nc.stdout.take().unwrap());
    (nc, stdout)
}

fn payload(responses: &mut impl BufRead) -> Vec<u8> {
    let mut frame = vec![];
    responses.read_until(0, &mut frame).unwrap();
    assert_eq!(frame.pop(), Some(0), "the connection goes on");
    frame
}

/// Reads one line. It may come in pieces, if the job was not scheduled for 50 ms within it.
#[track_caller]
fn assert_line(responses: &mut impl BufRead, line: u32) {
    let mut text = String::new();
    loop {
        let frame = payload(responses);
        let whole = format!(
            r#"{{"id":"ID-1","version":0,"status":"PROCESSING","message":"{line:079}","content":{{"stream":"stdout","line":{line}}}}}"#,
        );
        if frame == whole.as_bytes() {
            return;
        }
        let piece: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(piece["content"]["line"], line, "{piece}");
        text += piece["message"].as_str().unwrap();
        if piece["content"].get("cut").is_none() {
            return assert_eq!(text, format!("{line:079}"));
        }
    }
}

#[test]
fn a_million_lines_arrive_in_order_in_constant_memory_though_the_client_stops_midway() {
    const LINES: u32 = 1_000_000;
    if !has_tool("nc") {
        return;
    }
    let jobs = Jobs::start("[job.million]\nrun = ['seq', '-f', '%079.0f', '1000000']");
    let pid = jobs.server.pid();
    let before = memory(pid, "VmRSS:");
    let (mut nc, mut responses) = nc(&jobs, "million");
    for line in 1..=LINES {
        assert_line(&mut responses, line);
        if line == LINES / 2 {
            let client = Pid::from_child(&nc);
            kill_process(client, Signal::STOP).unwrap();
            sleep(Duration::from_secs(1));
            let job = jobs.running().pop().unwrap();
            assert_eq!(job["job"], "million", "the job waits for its reader");
            kill_process(client, Signal::CONT).unwrap();
        }
    }
    let last: Value = serde_json::from_slice(&payload(&mut responses)).unwrap();
    assert_eq!((&last["status"], &last["content"]["stdout_lines"]), (&json!("OK"), &json!(LINES)));
    nc.wait().unwrap();
    let grown = memory(pid, "VmHWM:") - before;
    assert!(grown <= 16 << 20, "the server grew by {grown} bytes");
}
