//! A server without free file descriptors: it sleeps, and later serves the waiting clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use kakehi_tests::programs::{PATIENCE, Server, wait_for};

const CLIENTS: usize = 120;

fn ask(stream: &mut UnixStream) {
    stream
        .write_all(b"{\"id\":\"e\",\"version\":0,\"command\":{\"echo\":{\"text\":\"hi\"}}}\0")
        .unwrap();
}

/// Whether the whole answer is there; `false` for as long as nothing is.
fn answered(stream: &mut UnixStream) -> bool {
    let mut answer = [0; 256];
    match stream.read(&mut answer) {
        Ok(count) => {
            let answer = String::from_utf8_lossy(&answer[..count]);
            assert!(answer.contains("\"OK\"") && answer.ends_with('\0'), "{answer:?}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn without_descriptors_the_server_sleeps_and_later_serves_all_clients() {
    let server = Server::start_after("ulimit -n 64", &[]);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut stream = UnixStream::connect(server.socket()).unwrap();
            stream.set_nonblocking(true).unwrap();
            ask(&mut stream);
            stream
        })
        .collect();

    // As many as there are descriptors are served; the others wait in the system's queue.
    let mut waiting: Vec<_> = (0..CLIENTS).collect();
    let settled = wait_for(|| {
        waiting.retain(|n| !answered(&mut clients[*n]));
        (waiting.len() <= CLIENTS - 40).then_some(())
    });
    assert!(settled.is_some(), "{} clients wait", waiting.len());
    thread::sleep(Duration::from_millis(200));
    waiting.retain(|n| !answered(&mut clients[*n]));
    assert!(waiting.len() >= CLIENTS - 64, "it has only 64 descriptors");

    let (before, begun) = (server.cpu_time(), Instant::now());
    thread::sleep(Duration::from_secs(3));
    let (used, elapsed) = (server.cpu_time().saturating_sub(before), begun.elapsed());
    // A server that does not sleep uses a whole core. One attempt takes up to 4 ms in a debug build.
    assert!(used <= elapsed / 20, "{used:?} of processor time in {elapsed:?}");
    // Its pauses grow from 20 ms to 1 s.
    let attempts = server.log().matches("cannot accept").count();
    assert!(attempts <= 20, "{attempts} attempts:\n{}", server.log());

    // Each that was served leaves: all others are served, one after the other.
    let mut streams: Vec<_> = clients.drain(..).map(Some).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        if !waiting.contains(&n) {
            *stream = None;
        }
    }
    let begun = Instant::now();
    while !waiting.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} clients were never served", waiting.len());
        waiting.retain(|n| {
            let done = answered(streams[*n].as_mut().unwrap());
            if done {
                streams[*n] = None;
            }
            !done
        });
        thread::sleep(Duration::from_millis(5));
    }
    assert!(server.log().contains("cannot accept"), "{}", server.log());
}
