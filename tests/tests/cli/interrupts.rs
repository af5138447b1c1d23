//! Ctrl-C, SIGTERM, and a reader that goes away.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use kakehi_tests::programs::{Server, binary, has_tool, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Fake, Jobs, Said, Then, client_of};

/// A client whose job has written its first line.
struct Begun {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    first: String,
}

impl Begun {
    fn start(mut client: Command) -> Self {
        let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "it has begun");
        Self { child, stdout: Some(stdout), first }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends the second SIGINT after the message for the first one. Returns the output without that
    /// message, and the time from the second signal to the end.
    fn interrupted_twice(mut self) -> (Said, Duration) {
        self.signal(Signal::INT);
        let mut stderr = BufReader::new(self.child.stderr.take().unwrap());
        let mut told = String::new();
        stderr.read_line(&mut told).unwrap();
        assert!(told.contains("press Ctrl-C again to leave at once"), "{told}");
        self.signal(Signal::INT);
        let (said, elapsed) = self.end();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        (Said { stderr: rest, ..said }, elapsed)
    }

    /// The output, and the time from now to the end.
    fn end(mut self) -> (Said, Duration) {
        let start = Instant::now();
        let mut rest = self.first.into_bytes();
        if let Some(mut stdout) = self.stdout {
            stdout.read_to_end(&mut rest).unwrap();
        }
        if wait_for(|| self.child.try_wait().unwrap()).is_none() {
            self.child.kill().unwrap();
            panic!("it does not end");
        }
        let elapsed = start.elapsed();
        let output = self.child.wait_with_output().unwrap();
        (Said::of(std::process::Output { stdout: rest, ..output }), elapsed)
    }
}

const A_MOMENT: Duration = Duration::from_millis(1_800);

#[test]
fn the_first_ctrl_c_cancels_the_job_and_waits_for_its_end() {
    let jobs = Jobs::start();
    let client = Begun::start(jobs.client(&["run", "trap"]));
    client.signal(Signal::INT);
    let (said, elapsed) = client.end();
    assert_eq!((said.code, &*said.stdout), (130, "begun\ntrapped\n"), "{said:?}");
    assert!(said.stderr.starts_with("interrupted: "), "{said:?}");
    assert!(said.stderr.contains("failed: `trap` was ended: cancelled by uid"), "{said:?}");
    assert!(elapsed < A_MOMENT, "{elapsed:?}");
    jobs.wait_until_idle();
}

#[test]
fn a_job_that_does_not_end_is_waited_for_2_s_and_no_longer() {
    let jobs = Jobs::start();
    let client = Begun::start(jobs.client(&["run", "stubborn", "--json"]));
    client.signal(Signal::INT);
    let (said, elapsed) = client.end();
    assert_eq!((said.code, &*said.stderr), (130, ""));
    let last = said.lines().pop().unwrap();
    assert_eq!((&last["error"], &last["outcome"]), (&"interrupted".into(), &"unknown".into()));
    assert!(
        elapsed > Duration::from_millis(1_800) && elapsed < Duration::from_millis(3_500),
        "{elapsed:?}"
    );
}

#[test]
fn the_second_ctrl_c_leaves_at_once() {
    let jobs = Jobs::start();
    let client = Begun::start(jobs.client(&["run", "stubborn"]));
    let (said, elapsed) = client.interrupted_twice();
    assert_eq!((said.code, &*said.stdout), (130, "begun\n"));
    assert_eq!(said.stderr.lines().count(), 3, "an error in three parts: {said:?}");
    assert!(said.stderr.contains("closed at once"), "{said:?}");
    assert!(elapsed < A_MOMENT, "{elapsed:?}");
}

#[test]
fn where_the_server_cannot_cancel_the_connection_is_closed() {
    // The server shows a line, refuses `cancel`, and reports when a client disconnects.
    let (sender, left) = std::sync::mpsc::channel();
    let fake = Fake::start(move |stream, request| {
        let refusal = serde_json::json!({
            "id": request["id"], "version": 0, "status": "ERROR", "message": "what?",
        });
        let line = serde_json::json!({
            "id": request["id"], "version": 0, "status": "PROCESSING", "message": "begun",
            "content": { "stream": "stdout" },
        });
        let is_cancel = request["command"].get("cancel").is_some();
        let answer: &Value = if is_cancel { &refusal } else { &line };
        stream.get_mut().write_all(format!("{answer}\0").as_bytes()).unwrap();
        let _ = stream.read_until(0, &mut vec![]);
        sender.send(is_cancel).unwrap();
    });
    let client = Begun::start(client_of(&fake.socket(), &["run", "job"]));
    client.signal(Signal::INT);
    let (said, elapsed) = client.end();
    assert_eq!(said.code, 130);
    assert!(said.stderr.contains("the server cannot cancel the request"), "{said:?}");
    assert!(elapsed < A_MOMENT, "{elapsed:?}");
    let mut left: Vec<_> = (0..2).map(|_| left.recv_timeout(A_MOMENT).unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [false, true], "it asked to cancel, and closed both connections");
}

#[test]
fn a_server_that_does_not_answer_does_not_hold_anyone_who_wants_to_leave() {
    let progress = r#"{"id":"ID","version":0,"status":"PROCESSING","message":"begun"}"#;
    let fake = Fake::writes(format!("{progress}\0").as_bytes(), Then::Stays);
    let client = Begun::start(client_of(&fake.socket(), &["demo"]));
    client.signal(Signal::INT);
    let (said, elapsed) = client.end();
    assert_eq!(said.code, 130);
    assert!(elapsed < Duration::from_millis(3_500), "{elapsed:?}");
}

#[test]
fn sigterm_ends_at_once_and_closes_the_connection() {
    let jobs = Jobs::start();
    let client = Begun::start(jobs.client(&["run", "trap"]));
    client.signal(Signal::TERM);
    let (said, elapsed) = client.end();
    assert_eq!(said.code, 143, "{said:?}");
    assert!(said.stderr.contains("error: terminated"), "{said:?}");
    assert!(elapsed < A_MOMENT, "{elapsed:?}");
    jobs.wait_until_idle();
}

#[test]
fn a_reader_that_does_not_read_does_not_hold_anyone_who_wants_to_leave() {
    let jobs = Jobs::start();
    let mut client = Begun::start(jobs.client(&["run", "forever"]));
    // The pipe gets full, and so does everything behind it.
    std::thread::sleep(Duration::from_millis(300));
    let unread = client.stdout.take();
    let (said, _) = client.interrupted_twice();
    assert_eq!(said.code, 130);
    assert!(said.stderr.contains("closed at once"), "{said:?}");
    drop(unread);
    jobs.wait_until_idle();
}

fn piped(jobs: &Jobs, pipeline: &str) -> (String, String, Duration) {
    let start = Instant::now();
    let output = Command::new("bash")
        .args(["-c", &format!("{pipeline}; echo \"${{PIPESTATUS[@]}}\"")])
        .env("CLIENT", binary("kakehi"))
        .env("KAKEHI_SOCKET", jobs.server.socket())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), start.elapsed())
}

#[test]
fn a_closed_stdout_ends_it_quietly_and_cancels_the_job() {
    if !has_tool("bash") {
        return;
    }
    let jobs = Jobs::start();
    for (pipeline, expected) in [
        ("$CLIENT run forever | head -1", "y\n141 0\n"),
        ("$CLIENT run forever --raw | head -1", "y\n141 0\n"),
        // It has nothing to write for a long time, and leaves all the same.
        ("$CLIENT run silent | head -1", "begun\n141 0\n"),
        ("$CLIENT run silent --json | head -c 1", "{141 0\n"),
        ("$CLIENT status | :", "141 0\n"),
    ] {
        let (stdout, stderr, elapsed) = piped(&jobs, pipeline);
        // The reader may close its end after the whole output was written.
        let expected = [expected.to_owned(), expected.replace("141", "0")];
        let is_status = pipeline.contains("status");
        assert!(
            stdout == expected[0] || is_status && stdout == expected[1],
            "{pipeline}: {stdout}"
        );
        assert_eq!(stderr, "", "{pipeline}");
        assert!(elapsed < Duration::from_secs(5), "{pipeline}: {elapsed:?}");
        jobs.wait_until_idle();
    }
}

#[test]
fn an_interrupted_client_of_a_server_that_was_killed_ends_too() {
    let mut server = Server::start(&[]);
    let client = Begun::start(client_of(&server.socket(), &["demo"]));
    server.signal(Signal::KILL);
    server.wait();
    let (said, _) = client.end();
    assert_eq!(said.code, 76, "{said:?}");
    assert!(said.stderr.contains("connection ended before the final response"), "{said:?}");
}

#[test]
fn a_client_that_was_stopped_reads_what_has_come_meanwhile() {
    let server = Server::start(&[]);
    let countdown = r#"{"command":{"countdown":{"steps":25,"interval_ms":100}}}"#;
    let arguments = ["--json", "--timeout", "1s", "send", countdown];
    let client = Begun::start(client_of(&server.socket(), &arguments));
    client.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(1_500));
    client.signal(Signal::CONT);
    let (said, _) = client.end();
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");
}

#[test]
fn ctrl_c_counts_though_nobody_reads_what_it_says() {
    let jobs = Jobs::start();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'x'; 64 * 1024]).unwrap();
    let mut client = jobs.client(&["run", "forever"]);
    let mut child = client.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    assert!(wait_for(|| (!jobs.running().is_empty()).then_some(())).is_some());
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = wait_for(|| child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
    }
    assert_eq!(status.and_then(|status| status.code()), Some(130));
    jobs.wait_until_idle();
}
