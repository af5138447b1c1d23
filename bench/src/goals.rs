//! Compares the measurements with the goals. A goal bounds a figure or a ratio within a round.

use anyhow::{Context, Result};

use crate::{Opts, run::Row};

/// Other libraries, as opposed to hand-written code.
const PEERS: &[&str] = &[
    "sozu-2.1.0",
    "tarpc-json",
    "tarpc-bincode",
    "zlink",
    "varlink",
    "ttrpc",
    "tonic",
    "tonic-mpsc",
    "remoc",
    "zbus-p2p",
];

struct Goal {
    workload: &'static str,
    what: &'static str,
    bound: Bound,
    pin: &'static str,
    figure: fn(&Round) -> Option<f64>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

/// The measurements of one workload in one round.
struct Round<'a>(Vec<&'a Row>);

impl Round<'_> {
    fn of(&self, contender: &str, key: &str) -> Option<f64> {
        self.0.iter().find(|r| r.contender == contender)?.numbers.get(key).copied()
    }

    fn ratio(&self, ours: &str, theirs: &str, key: &str) -> Option<f64> {
        Some(self.of(ours, key)? / self.of(theirs, key)?)
    }

    fn peers(&self, figure: impl Fn(&Self, &str) -> Option<f64>) -> Vec<f64> {
        PEERS.iter().filter_map(|peer| figure(self, peer)).collect()
    }

    fn least(&self, figure: impl Fn(&Self, &str) -> Option<f64>) -> Option<f64> {
        self.peers(figure).into_iter().min_by(f64::total_cmp)
    }

    fn most(&self, key: &str) -> Option<f64> {
        self.peers(|r, peer| r.of(peer, key)).into_iter().max_by(f64::total_cmp)
    }

    /// CPU time of a call, on both sides.
    fn cpu(&self, contender: &str) -> Option<f64> {
        Some(self.of(contender, "cpu_server_us")? + self.of(contender, "cpu_client_us")?)
    }
}

const fn goal(
    workload: &'static str,
    what: &'static str,
    bound: Bound,
    figure: fn(&Round) -> Option<f64>,
) -> Goal {
    Goal { workload, what, bound, pin: "none", figure }
}

const fn on_one_core(what: &'static str, bound: Bound, figure: fn(&Round) -> Option<f64>) -> Goal {
    Goal { workload: "w1", what, bound, pin: "same", figure }
}

const GOALS: &[Goal] = &[
    goal("w1", "p50 / expert-spin", AtMost(1.4), |r| r.ratio("kakehi", "expert-spin", "p50_us")),
    goal("w1", "p50 / best peer", AtMost(0.25), |r| {
        Some(r.of("kakehi", "p50_us")? / r.least(|r, peer| r.of(peer, "p50_us"))?)
    }),
    goal("w1", "CPU a call / least of a peer", AtMost(1.0), |r| {
        Some(r.cpu("kakehi")? / r.least(Round::cpu)?)
    }),
    goal("w1", "polling off: p50 / raw-tokio", AtMost(1.1), |r| {
        r.ratio("kakehi-asleep", "raw-tokio", "p50_us")
    }),
    on_one_core("p50 / raw-tokio", AtMost(1.1), |r| r.ratio("kakehi", "raw-tokio", "p50_us")),
    on_one_core("polling off: p50 / raw-tokio", AtMost(1.1), |r| {
        r.ratio("kakehi-asleep", "raw-tokio", "p50_us")
    }),
    goal("w2", "JSON: responses a second / expert", AtLeast(0.95), |r| {
        r.ratio("kakehi", "expert", "per_s")
    }),
    goal("w2", "protobuf: responses a second / tonic", AtLeast(1.0), |r| {
        r.ratio("kakehi-sozu", "tonic", "per_s")
    }),
    goal("w3", "calls a second / expert", AtLeast(0.9), |r| r.ratio("kakehi", "expert", "per_s")),
    goal("w3", "calls a second / best peer", AtLeast(2.0), |r| {
        Some(r.of("kakehi", "per_s")? / r.most("per_s")?)
    }),
    goal("w3b", "calls a second / expert", AtLeast(0.95), |r| r.ratio("kakehi", "expert", "per_s")),
    goal("w3b", "calls a second / best peer", AtLeast(1.3), |r| {
        Some(r.of("kakehi", "per_s")? / r.most("per_s")?)
    }),
    goal("w4", "JSON: MiB a second / expert", AtLeast(1.0), |r| {
        r.ratio("kakehi", "expert", "per_s")
    }),
    goal("w4", "protobuf: MiB a second / best peer", AtLeast(1.0), |r| {
        Some(r.of("kakehi-sozu", "per_s")? / r.most("per_s")?)
    }),
    goal("w5", "server KiB a connection", AtMost(1.7), |r| r.of("kakehi", "server_kib_per_conn")),
    goal("w5", "client KiB a connection", AtMost(1.0), |r| r.of("kakehi", "client_kib_per_conn")),
    goal("w5", "connect time / raw-tokio", AtMost(1.1), |r| {
        r.ratio("kakehi", "raw-tokio", "connect_ms")
    }),
    goal("w6", "server growth, MiB", AtMost(0.5), |r| r.of("kakehi", "server_growth_mib")),
    goal("w6", "client growth, MiB", AtMost(1.5), |r| r.of("kakehi", "client_growth_mib")),
    goal("w6", "another client's call / raw-tokio's", AtMost(1.5), |r| {
        r.ratio("kakehi", "raw-tokio", "other_call_us")
    }),
];

/// Prints each goal with its median over the rounds, and in how many of them it held.
pub fn goals(opts: &Opts) -> Result<()> {
    let text = std::fs::read_to_string(opts.get("in").context("--in FILE")?)?;
    let rows: Vec<Row> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    println!("\n## Goals\n\n| workload | what | goal | median | held |\n|---|---|---:|---:|---:|");
    for goal in GOALS {
        let rounds = rows.iter().map(|r| r.round).max().map_or(0, |last| last + 1);
        let mut figures: Vec<f64> = (0..rounds)
            .filter_map(|round| {
                let of_round = rows.iter().filter(|r| {
                    (r.round, r.workload.as_str()) == (round, goal.workload)
                        && (r.rt.as_str(), r.pin.as_str()) == ("current", goal.pin)
                });
                (goal.figure)(&Round(of_round.collect()))
            })
            .collect();
        let holds = |figure: f64| match goal.bound {
            AtMost(bound) => figure <= bound,
            AtLeast(bound) => figure >= bound,
        };
        let bound = match goal.bound {
            AtMost(bound) => format!("≤ {bound}"),
            AtLeast(bound) => format!("≥ {bound}"),
        };
        let place = if goal.pin == "same" { ", one core" } else { "" };
        let held = figures.iter().filter(|figure| holds(**figure)).count();
        let of = figures.len();
        let mid = match of {
            0 => "-".into(),
            _ => format!("{:.2}", crate::report::median(&mut figures)),
        };
        println!("| {}{place} | {} | {bound} | {mid} | {held} of {of} |", goal.workload, goal.what);
    }
    Ok(())
}
