//! How many system calls a message costs on each side, counted by strace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use kakehi_tests::programs::{binary, has_tool, wait_for};

#[test]
fn a_call_takes_a_read_and_a_write_a_side() {
    for side in each("one", 500, 2_500) {
        assert!(side.others <= 2.05, "{side:?}");
        // The system also reports when the other side has read, which is not waited for.
        assert!(side.waits <= 2.05, "{side:?}");
    }
}

#[test]
fn a_message_of_a_stream_takes_far_less_than_one() {
    for side in each("stream", 10_000, 110_000) {
        assert!(side.others + side.waits < 0.1, "{side:?}");
    }
}

/// System calls of one side.
#[derive(Clone, Copy, Debug)]
struct Calls {
    waits: f64,
    others: f64,
}

/// Those of server and client for each that `more` is more than `few`; none without strace.
fn each(what: &str, few: u32, more: u32) -> Vec<Calls> {
    if !has_tool("strace") {
        return vec![];
    }
    let each = |(before, after): (Calls, Calls)| Calls {
        waits: (after.waits - before.waits) / f64::from(more - few),
        others: (after.others - before.others) / f64::from(more - few),
    };
    count(what, few).into_iter().zip(count(what, more)).map(each).collect()
}

/// All of a server, and of its client that asks for so much.
fn count(what: &str, times: u32) -> [Calls; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let traces = [folder.path().join("server"), folder.path().join("client")];
    let [of_server, of_client] = &traces;
    let mut server = traced(of_server, &["serve", path.to_str().unwrap()]);
    wait_for(|| path.exists().then_some(())).expect("it listens");
    let times = times.to_string();
    let mut client = traced(of_client, &["ask", path.to_str().unwrap(), what, &times]);
    assert!(client.wait().unwrap().success() && server.wait().unwrap().success());
    traces.map(|trace| counted(&trace))
}

fn traced(trace: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(trace).arg(binary("calls")).args(arguments);
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Reads strace's table: `% time, seconds, usecs/call, calls, [errors], syscall`.
fn counted(trace: &Path) -> Calls {
    let text = fs::read_to_string(trace).unwrap();
    let mut calls = Calls { waits: 0.0, others: 0.0 };
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    for row in rows.filter(|row| row.len() >= 5 && row.first().is_some_and(|time| *time != "%")) {
        match (row.get(3).unwrap().parse::<u32>(), row.last().copied()) {
            (Ok(_), Some("total")) | (Err(_), _) | (_, None) => {}
            (Ok(count), Some(name)) if name.starts_with("epoll_") => {
                calls.waits += f64::from(count);
            }
            (Ok(count), Some(_)) => calls.others += f64::from(count),
        }
    }
    assert!(calls.others > 100.0, "{text}");
    calls
}
