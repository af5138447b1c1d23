//! Compares the measurements with the goals. A goal bounds a figure or a ratio within a round.

use anyhow::{Context, Result};

use crate::{Opts, run::Row};

/// Other libraries, as opposed to hand-written code.
const PEERS: &[&str] = &[
    "sozu-2.3.3",
    "tarpc-json",
    "tarpc-bincode",
    "zlink",
    "varlink",
    "ttrpc",
    "tonic",
    "tonic-mpsc",
    "connectrpc",
    "remoc",
    "zbus-p2p",
];

struct Goal {
    workload: &'static str,
    what: &'static str,
    bound: Bound,
    /// `None`: on both runtimes.
    rt: Option<&'static str>,
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

type Figure = fn(&Round) -> Option<f64>;

const fn goal(workload: &'static str, what: &'static str, bound: Bound, figure: Figure) -> Goal {
    Goal { workload, what, bound, rt: None, pin: "none", figure }
}

impl Goal {
    const fn on(mut self, rt: &'static str) -> Self {
        self.rt = Some(rt);
        self
    }

    const fn on_one_core(mut self) -> Self {
        self.pin = "same";
        self
    }
}

/// The p50 of a raw call over which a machine counts as one whose cores wake slowly, in µs.
const SLOW: f64 = 40.0;

/// The p50 of a call by that of the best peer, on machines whose cores wake slowly or fast.
fn best_peer(round: &Round, is_slow: bool) -> Option<f64> {
    let best = round.least(|r, peer| r.of(peer, "p50_us"))?;
    let is_that = (round.of("raw-tokio", "p50_us")? > SLOW) == is_slow;
    is_that.then_some(round.of("kakehi", "p50_us")? / best)
}

const GOALS: &[Goal] = &[
    goal("w1", "p50 / expert-spin", AtMost(1.15), |r| r.ratio("kakehi", "expert-spin", "p50_us"))
        .on("current"),
    goal("w1", "p50 / expert-spin", AtMost(1.0), |r| r.ratio("kakehi", "expert-spin", "p50_us"))
        .on("multi"),
    goal("w1", "p99 / expert-spin", AtMost(1.5), |r| r.ratio("kakehi", "expert-spin", "p99_us")),
    goal("w1", "p50 / best peer, cores that wake slowly", AtMost(0.2), |r| best_peer(r, true)),
    goal("w1", "p50 / best peer, cores that wake fast", AtMost(0.5), |r| best_peer(r, false)),
    goal("w1", "typed commands: p50 / kakehi", AtMost(1.1), |r| {
        r.ratio("kakehi-router", "kakehi", "p50_us")
    }),
    goal("w1", "CPU a call / least of a peer", AtMost(1.0), |r| {
        Some(r.cpu("kakehi")? / r.least(Round::cpu)?)
    }),
    goal("w1", "polling off: p50 / raw-tokio", AtMost(1.05), |r| {
        r.ratio("kakehi-asleep", "raw-tokio", "p50_us")
    }),
    goal("w1", "p50 / raw-tokio", AtMost(1.1), |r| r.ratio("kakehi", "raw-tokio", "p50_us"))
        .on_one_core(),
    goal("w1", "polling off: p50 / raw-tokio", AtMost(1.1), |r| {
        r.ratio("kakehi-asleep", "raw-tokio", "p50_us")
    })
    .on_one_core(),
    goal("w2", "JSON: responses a second / expert", AtLeast(1.0), |r| {
        r.ratio("kakehi", "expert", "per_s")
    }),
    goal("w2", "JSON: responses a second / varlink", AtLeast(5.0), |r| {
        r.ratio("kakehi", "varlink", "per_s")
    }),
    goal("w2", "protobuf: responses a second / tonic", AtLeast(1.2), |r| {
        r.ratio("kakehi-sozu", "tonic", "per_s")
    }),
    goal("w2", "typed commands: responses a second / kakehi", AtLeast(0.9), |r| {
        r.ratio("kakehi-router", "kakehi", "per_s")
    }),
    goal("w3", "typed commands: calls a second / kakehi", AtLeast(0.9), |r| {
        r.ratio("kakehi-router", "kakehi", "per_s")
    }),
    goal("w3", "calls a second / expert", AtLeast(0.9), |r| r.ratio("kakehi", "expert", "per_s")),
    goal("w3", "calls a second / best peer", AtLeast(3.0), |r| {
        Some(r.of("kakehi", "per_s")? / r.most("per_s")?)
    }),
    goal("w3b", "calls a second / expert", AtLeast(0.95), |r| r.ratio("kakehi", "expert", "per_s")),
    goal("w3b", "calls a second / best peer", AtLeast(1.5), |r| {
        Some(r.of("kakehi", "per_s")? / r.most("per_s")?)
    }),
    goal("w4", "JSON: MiB a second / expert", AtLeast(2.0), |r| {
        r.ratio("kakehi", "expert", "per_s")
    }),
    goal("w4", "protobuf: MiB a second / best peer", AtLeast(2.0), |r| {
        Some(r.of("kakehi-sozu", "per_s")? / r.most("per_s")?)
    }),
    goal("w5", "server KiB a connection", AtMost(1.25), |r| r.of("kakehi", "server_kib_per_conn")),
    goal("w5", "client KiB a connection", AtMost(0.75), |r| r.of("kakehi", "client_kib_per_conn")),
    goal("w5", "connect time / raw-tokio", AtMost(1.1), |r| {
        r.ratio("kakehi", "raw-tokio", "connect_ms")
    }),
    goal("w5", "a call beside idle connections / raw-tokio", AtMost(1.2), |r| {
        r.ratio("kakehi", "raw-tokio", "call_with_idle_us")
    }),
    goal("w6", "server growth, MiB", AtMost(0.5), |r| r.of("kakehi", "server_growth_mib")),
    goal("w6", "client growth, MiB", AtMost(1.5), |r| r.of("kakehi", "client_growth_mib")),
    goal("w6", "another client's call / raw-tokio's", AtMost(1.5), |r| {
        r.ratio("kakehi", "raw-tokio", "other_call_us")
    }),
];

/// Prints the goals for each runtime that was measured.
pub fn goals(opts: &Opts) -> Result<()> {
    let text = std::fs::read_to_string(opts.get("in").context("--in FILE")?)?;
    let rows: Vec<Row> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for rt in ["current", "multi"] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.rt == rt).collect();
        if !rows.is_empty() {
            println!("\n## Goals, runtime: {rt}\n");
            println!("| workload | what | goal | median | held |\n|---|---|---:|---:|---:|");
            goals_of(rt, &rows);
        }
    }
    Ok(())
}

/// Prints each goal with its median over the rounds, and in how many of them it held.
fn goals_of(rt: &str, rows: &[&Row]) {
    for goal in GOALS.iter().filter(|goal| goal.rt.is_none_or(|only| only == rt)) {
        let rounds = rows.iter().map(|r| r.round).max().map_or(0, |last| last + 1);
        let mut figures: Vec<f64> = (0..rounds)
            .filter_map(|round| {
                let of_round = rows.iter().filter(|r| {
                    (r.round, r.workload.as_str(), r.pin.as_str())
                        == (round, goal.workload, goal.pin)
                });
                (goal.figure)(&Round(of_round.copied().collect()))
            })
            .collect();
        let of = figures.len();
        if of == 0 {
            continue;
        }
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
        let mid = crate::report::median(&mut figures);
        let Goal { workload, what, .. } = goal;
        println!("| {workload}{place} | {what} | {bound} | {mid:.2} | {held} of {of} |");
    }
}
