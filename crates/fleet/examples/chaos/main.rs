//! Injects faults into a fleet, and compares the results of the callers with the records of the
//! handlers. `tests/fleet-chaos/run` runs it.
//!
//! Nodes and clients are processes of this program. They reach a cluster of three brokers through
//! proxies of this program. To partition a broker, its proxies hold back all bytes. Each handler
//! appends its start and its end to a file of its node. Each caller appends its result to a file of
//! its client.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program to test with"
)]

mod cluster;
mod parts;
mod referee;

use std::{
    env,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use cluster::Cluster;

/// The size of the test.
struct Sizes {
    nodes: usize,
    /// Processes of five clients each.
    clients: usize,
    requests: usize,
    seed: u64,
}

/// A process of this program.
struct Part {
    role: &'static str,
    number: usize,
    child: Child,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("node") => parts::node(&arguments[1], &PathBuf::from(&arguments[2]), number(3)),
        Some("client") => {
            let folder = PathBuf::from(&arguments[2]);
            parts::client(&arguments[1], &folder, number(3), number(4), number(5));
        }
        _ => {
            let or = |at: usize, default| arguments.get(at).map_or(default, |_| number(at));
            let sizes = Sizes {
                nodes: or(0, 20),
                clients: or(1, 50).div_ceil(5),
                requests: or(2, 20_000),
                seed: or(3, 0) as u64,
            };
            if !run(&sizes) {
                std::process::exit(1);
            }
        }
    }
}

fn run(sizes: &Sizes) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(sizes.seed);
    let mut cluster = Cluster::start();
    let start = |role: &'static str, number: usize, url: &str| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([role, url]).arg(folder.path()).arg(number.to_string());
        if role == "client" {
            let each = sizes.requests.div_ceil(sizes.clients * parts::LANES);
            command.args([sizes.nodes.to_string(), each.to_string()]);
        }
        Part { role, number, child: command.spawn().unwrap() }
    };
    let mut nodes: Vec<_> =
        (0..sizes.nodes).map(|number| start("node", number, &cluster.url())).collect();
    std::thread::sleep(Duration::from_secs(2));
    let mut clients: Vec<_> =
        (0..sizes.clients).map(|number| start("client", number, &cluster.url())).collect();
    let begun = Instant::now();
    let mut faults = 0;
    while clients.iter_mut().any(|part| part.child.try_wait().unwrap().is_none()) {
        std::thread::sleep(Duration::from_millis(rng.u64(200..1_500)));
        faults += 1;
        match rng.u32(..100) {
            0..15 => cluster.restart(rng.usize(..3), Duration::from_millis(rng.u64(100..3_000))),
            15..25 => cluster.stop(rng.usize(..3), Duration::from_millis(rng.u64(100..4_000))),
            25..45 => cluster.cut(rng.usize(..3), Duration::from_millis(rng.u64(100..4_000))),
            45..65 => pause(&nodes[rng.usize(..nodes.len())], rng.u64(100..6_000)),
            65..80 => pause(&clients[rng.usize(..clients.len())], rng.u64(100..6_000)),
            80..92 => {
                restart(&mut nodes, &mut rng, |part| start(part.role, part.number, &cluster.url()));
            }
            _ => restart(&mut clients, &mut rng, |part| {
                start(part.role, part.number, &cluster.url())
            }),
        }
        assert!(begun.elapsed() < Duration::from_secs(3_600), "the clients never end");
    }
    println!("{faults} faults in {:.0?}", begun.elapsed());
    for part in &mut nodes {
        let _ = part.child.kill();
        let _ = part.child.wait();
    }
    referee::judge(folder.path())
}

/// Stops a process for this number of milliseconds, and continues it.
fn pause(part: &Part, time: u64) {
    let id = part.child.id();
    signal(id, "STOP");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(time));
        signal(id, "CONT");
    });
}

fn signal(process: u32, name: &str) {
    // It may have ended.
    let command = format!("kill -{name} {process} 2>/dev/null");
    let _ = Command::new("sh").args(["-c", &command]).status();
}

/// Kills a process that runs, and starts it again.
fn restart(parts: &mut [Part], rng: &mut fastrand::Rng, start: impl Fn(&Part) -> Part) {
    let number = rng.usize(..parts.len());
    let part = &mut parts[number];
    if part.child.try_wait().unwrap().is_none() {
        let _ = part.child.kill();
        let _ = part.child.wait();
        *part = start(part);
    }
}
