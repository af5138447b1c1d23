//! Bounds on memory and time, whatever the server sends and however slowly the output is read.

use std::{
    fs,
    io::{BufRead, PipeReader, Read, Write, pipe},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{Server, wait_for};

use crate::support::{Fake, Jobs, client_of, said};

/// The largest response that the client accepts, without the bytes around it.
const LARGEST: usize = 16 * 1024 * 1024 - 1024;
/// The bound on resident memory, in KiB.
const MOST: usize = 64 * 1024;

/// A server that answers with one or two responses of `LARGEST` bytes each.
fn hostile(fields: &'static str, unit: &'static str, end: &'static str, finishes: bool) -> Fake {
    Fake::start(move |stream, request| {
        let id = request["id"].as_str().unwrap();
        let mut response = format!(r#"{{"id":"{id}","version":0,{fields}"#).into_bytes();
        while response.len() + unit.len() <= LARGEST {
            response.extend_from_slice(unit.as_bytes());
        }
        response.extend_from_slice(end.as_bytes());
        response.push(0);
        if !finishes {
            let ok = format!(r#"{{"id":"{id}","version":0,"status":"OK","message":""}}"#);
            response.extend_from_slice(ok.as_bytes());
            response.push(0);
        }
        let _ = stream.get_mut().write_all(&response);
        let _ = stream.read_until(0, &mut vec![]);
    })
}

/// The most memory that the client was resident with, in KiB, and how much it wrote. Its output is
/// read, and so it ends, only while its memory is looked at.
fn peak(mut client: Command) -> (usize, usize) {
    let (mut output, writer) = pipe().unwrap();
    let stderr = writer.try_clone().unwrap();
    let mut child = client.stdout(writer).stderr(stderr).spawn().unwrap();
    drop(client);
    let mut most = 0;
    let size = read_all(&mut output, || most = most.max(resident(&child)));
    child.wait().unwrap();
    assert!(most > 0, "the memory was seen");
    (most, size)
}

fn read_all(output: &mut PipeReader, mut look: impl FnMut()) -> usize {
    let (mut size, mut buffer) = (0, vec![0; 64 * 1024]);
    // Time to receive and to decode: a pipe holds the first bytes of the output.
    for _ in 0..25 {
        look();
        sleep(Duration::from_millis(20));
    }
    loop {
        look();
        match output.read(&mut buffer).unwrap() {
            0 => return size,
            count => size += count,
        }
    }
}

/// `VmHWM`, which a process that has ended does not have.
fn resident(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_response_of_16_mib_takes_at_most_64_mib_of_memory() {
    const OK: &str = r#""status":"OK","message":"","content":["#;
    const OBJECTS: &str = r#"{"a":0},"#;
    const JOBS: &str = r#"{"job":"a"},"#;
    const MESSAGE: &str = r#""status":"OK","message":""#;
    const ERROR: &str = r#""status":"ERROR","message":""#;
    const PROGRESS: &str = r#""status":"PROCESSING","message":"","content":[ "#;
    const LINE: &str =
        r#""status":"PROCESSING","message":"","content":{"stream":"stdout","base64":""#;
    for (fields, unit, end, command) in [
        (OK, OBJECTS, "0]}", &["send", "{}"][..]),
        (OK, OBJECTS, "0]}", &["send", "{}", "--json"]),
        (OK, OBJECTS, "0]}", &["status"]),
        (OK, JOBS, r#"{"job":"a"}]}"#, &["list"]),
        (MESSAGE, "\u{7f}", r#""}"#, &["send", "{}"]),
        (MESSAGE, "\u{7f}", r#""}"#, &["send", "{}", "--json"]),
        (ERROR, "\u{7f}", r#""}"#, &["run", "job"]),
        (PROGRESS, OBJECTS, "0]}", &["run", "job"]),
        (LINE, "AAAA", r#""}}"#, &["run", "job"]),
    ] {
        let fake = hostile(fields, unit, end, !fields.contains("PROCESSING"));
        let (peak, size) = peak(client_of(&fake.socket(), command));
        assert!(peak <= MOST, "{command:?} {unit:?}: {peak} KiB resident");
        let shows_all = ["send", "--json"].iter().any(|word| command.contains(word));
        assert!(!shows_all || size >= LARGEST - 2048, "{command:?} {unit:?}: {size} bytes written");
    }
}

#[test]
fn the_servers_answer_to_the_deadline_makes_the_outcome_known() {
    let server = Server::start(&[]);
    let countdown = r#"{"command":{"countdown":{"steps":900,"interval_ms":100}}}"#;
    let arguments = ["send", countdown, "--deadline", "300ms"];
    let said = |more| {
        said({
            let mut client = client_of(&server.socket(), &arguments);
            client.arg(more);
            client
        })
    };
    said("-q").assert_failed(124, &["the deadline passed", "cancelled", "--deadline"]);
    let json = said("--json");
    let last = json.lines().pop().unwrap();
    assert_eq!(
        (json.code, &last["error"], &last["outcome"]),
        (124, &"deadline".into(), &"failed".into())
    );
}

#[test]
fn the_deadline_ends_a_run_whose_output_is_not_read() {
    let jobs = Jobs::start();
    for option in ["--quiet", "--json"] {
        let (unread, writer) = pipe().unwrap();
        let start = Instant::now();
        let mut client = jobs.client(&["run", "forever", "--deadline", "1s", option]);
        let mut child = client.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        drop(client);
        let status = wait_for(|| child.try_wait().unwrap());
        let elapsed = start.elapsed();
        let _ = child.kill();
        assert_eq!(status.and_then(|status| status.code()), Some(124), "{option}");
        assert!(elapsed < Duration::from_millis(1_900), "{option}: {elapsed:?}");
        drop(unread);
        jobs.wait_until_idle();
    }
}
