//! The daemon in a limited address space.

use std::{io::Write, os::unix::net::UnixStream};

use kakehi_tests::programs::{PATIENCE, wait_for};
use rustix::process::test_kill_process;

use super::support::{Jobs, memory};

/// Without settings of the machine: each arena and each thread reserves addresses.
const LIMITED: &str = "ulimit -v 393216; export MALLOC_ARENA_MAX=2 TOKIO_WORKER_THREADS=2";
/// More than the bound on unfinished requests, and than the limit.
const CLIENTS: usize = 400;
/// Less than the largest request.
const UNFINISHED: usize = 1_000_000;

#[test]
fn unfinished_requests_are_refused_before_an_allocation_fails() {
    let flags = ["--connections", "500", "--connections-per-uid", "500"];
    let jobs = Jobs::start_after(LIMITED, "[job.a]\nrun = ['echo', 'hello']\n", &flags);
    let request = vec![b' '; UNFINISHED];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = UnixStream::connect(jobs.server.socket()).unwrap();
            client.set_write_timeout(Some(PATIENCE)).unwrap();
            // Fails if the server refuses it meanwhile.
            let _ = client.write_all(&request);
            client
        })
        .collect();
    let status = jobs.ask("status").pop().unwrap();
    let refused = status["content"]["counters"]["refused_requests"].as_u64();
    assert!(refused.is_some_and(|refused| refused > 0), "{status}");
    println!("at most {} bytes of addresses", memory(jobs.server.pid(), "VmPeak"));
    drop(clients);
    assert_eq!(jobs.run("a", &[])["status"], "OK");
    assert!(test_kill_process(jobs.server.pid()).is_ok(), "{}", jobs.server.log());
    assert!(wait_for(|| jobs.running().is_empty().then_some(())).is_some());
}
