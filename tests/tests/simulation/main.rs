//! A deterministic simulation. A seed makes a world: the real server and several clients in paused
//! time, over in-memory streams that move random amounts of bytes at random times. After every
//! step, referees check what the project promises.
//!
//! `KAKEHI_SEEDS` sets the number of seeds (default: 10,000), `KAKEHI_FIRST_SEED` the first one
//! (default: 0). `KAKEHI_SEED` runs one seed and prints each step.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic in a helper fails the test"
)]

mod actors;
mod bounds;
mod finals;
mod handler;
mod link;
mod listener;
mod plan;
mod progress;
mod referee;
mod run;
mod session;
mod stream;
mod world;

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use session::simulate;

/// Events that a run of 10,000 seeds must reach: an event that never happens is not tested.
const MUST_BE_REACHED: &[&str] = &[
    "OK",
    "ERROR",
    "a panic",
    "a deadline",
    "a keep-alive",
    "a user was denied",
    "an answer that cannot be sent",
    "busy",
    "cancelled by the end",
    "denied",
    "given up",
    "half-closed",
    "left in the middle",
    "left in the middle of the talk",
    "malformed",
    "refused by its handler",
    "shutting down",
    "the server left a client that does not read",
    "the server was dropped",
    "too large",
    "too slow",
    "waited on after a timeout",
];

#[test]
fn whatever_happens_each_promise_holds() {
    if let Some(seed) = setting("KAKEHI_SEED") {
        let report = simulate(seed, true);
        assert_eq!(report.failure, None, "seed {seed}");
        return;
    }
    let first = setting("KAKEHI_FIRST_SEED").unwrap_or(0);
    let count = setting("KAKEHI_SEEDS").unwrap_or(10_000);
    let next = AtomicU64::new(first);
    let (failures, reached) = (Mutex::new(vec![]), Mutex::new(BTreeMap::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count || !failures.lock().unwrap().is_empty() {
                        return;
                    }
                    let report = simulate(seed, false);
                    let mut all = reached.lock().unwrap();
                    *all.entry("events").or_insert(0) += report.events;
                    for (what, times) in report.reached {
                        *all.entry(what).or_insert(0) += times;
                    }
                    failures.lock().unwrap().extend(report.failure.map(|why| (seed, why)));
                }
            });
        }
    });
    if let Some((seed, why)) = failures.into_inner().unwrap().iter().min() {
        panic!(
            "seed {seed}: {why}\nrepeat it with KAKEHI_SEED={seed} cargo test -p kakehi-tests --test simulation"
        );
    }
    let reached = reached.into_inner().unwrap();
    println!("{count} seeds from {first} on: {reached:#?}");
    for what in MUST_BE_REACHED {
        assert!(count < 10_000 || reached.get(what).is_some_and(|times| *times > 20), "{what}");
    }
}

#[test]
fn a_seed_gives_the_same_trace_each_time() {
    let mut traces = std::collections::HashSet::new();
    for seed in 0..200 {
        let (once, again) = (simulate(seed, false), simulate(seed, false));
        assert_eq!((once.trace, once.events), (again.trace, again.events), "seed {seed}");
        traces.insert(once.trace);
    }
    assert_eq!(traces.len(), 200, "two seeds have the same trace");
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number"))
}
