//! The plan of a world, drawn from a seed: the nodes, the requests, and the steps of the handlers.

use std::{ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The command of a request: the number of its plan.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Command {
    pub(super) token: usize,
}

/// The steps of a handler, and its result.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    /// The caller's side.
    pub(super) ask: Ask,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Sends `count` progress responses of `bytes` each, with a pause after each.
    Say {
        count: u32,
        bytes: usize,
        pause: Duration,
    },
    Wait(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    Err,
    Panic,
}

#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Before the request is sent.
    pub(super) pause: Duration,
    pub(super) target: To,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) give_up: Option<Duration>,
    /// The pause after each response.
    pub(super) read: Duration,
    /// How often the same id is sent again after anything but OK.
    pub(super) retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The node `n0`, `n1`, …
    Node(usize),
    /// Any node with the label that all nodes have.
    Any,
    /// A node that does not exist.
    Absent,
}

/// A world.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The names of the nodes by process: two processes may have one name.
    pub(super) nodes: Vec<usize>,
    pub(super) places: usize,
    pub(super) is_signed: bool,
    /// Requests of each client; those of one lane follow each other.
    pub(super) clients: Vec<Vec<Vec<Plan>>>,
    pub(super) brokers: usize,
    /// One of this number of messages is lost. 0: no loss.
    pub(super) loss: u32,
    /// One of this number of messages arrives twice. 0: no repetition.
    pub(super) twice: u32,
    /// The longest delay of a message.
    pub(super) delay: Duration,
    /// The time that a process runs before its messages are moved.
    pub(super) quantum: Duration,
    pub(super) faults: u32,
}

pub(super) fn milliseconds(rng: &mut Rng, range: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

pub(super) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

impl Setup {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let names = rng.usize(1..=2);
        let mut nodes: Vec<usize> = (0..names).collect();
        if chance(rng, 40) {
            nodes.push(0);
        }
        let clients = (0..rng.usize(1..=2)).map(|_| {
            let lanes = (0..rng.usize(1..=3))
                .map(|_| (0..rng.usize(1..=2)).map(|_| Plan::draw(rng, names)).collect());
            lanes.collect()
        });
        let clients = clients.collect();
        Self {
            nodes,
            clients,
            places: if chance(rng, 10) { rng.usize(1..=2) } else { 64 },
            is_signed: chance(rng, 5),
            brokers: rng.usize(1..=3),
            loss: if chance(rng, 25) { rng.u32(12..60) } else { 0 },
            twice: if chance(rng, 30) { rng.u32(3..30) } else { 0 },
            delay: milliseconds(rng, 1..=30),
            quantum: milliseconds(rng, 2..=20),
            faults: if chance(rng, 20) { 0 } else { rng.u32(1..=5) },
        }
    }
}

impl Plan {
    fn draw(rng: &mut Rng, names: usize) -> Self {
        let steps: Vec<_> = (0..rng.usize(0..=3)).map(|_| Step::draw(rng)).collect();
        let end = match rng.u32(..100) {
            0..75 => End::Ok,
            75..95 => End::Err,
            _ => End::Panic,
        };
        Self { steps, end, ask: Ask::draw(rng, names) }
    }
}

impl Step {
    fn draw(rng: &mut Rng) -> Self {
        let say = |rng: &mut Rng, count, bytes, pause| {
            let (bytes, pause) = (rng.usize(bytes), milliseconds(rng, pause));
            Self::Say { count: rng.u32(count), bytes, pause }
        };
        match rng.u32(..100) {
            0..30 => say(rng, 1..=10, 0..=200, 0..=500),
            30..55 => say(rng, 20..=60, 0..=20, 1..=50),
            55..60 => say(rng, 1..=40, 10_000..=60_000, 0..=2),
            60..85 => Self::Wait(milliseconds(rng, 0..=3_000)),
            85..95 => Self::Wait(milliseconds(rng, 3_000..=25_000)),
            _ => Self::Wait(milliseconds(rng, 25_000..=60_000)),
        }
    }
}

impl Ask {
    fn draw(rng: &mut Rng, names: usize) -> Self {
        let maybe =
            |rng: &mut Rng, percent, range| chance(rng, percent).then(|| milliseconds(rng, range));
        let target = match rng.u32(..100) {
            0..70 => To::Node(rng.usize(..names)),
            70..97 => To::Any,
            _ => To::Absent,
        };
        Self {
            pause: milliseconds(rng, 0..=6_000),
            target,
            timeout: maybe(rng, 10, 200..=20_000),
            deadline: maybe(rng, 10, 200..=20_000),
            give_up: maybe(rng, 15, 0..=20_000),
            read: if chance(rng, 50) { Duration::ZERO } else { milliseconds(rng, 1..=60) },
            retries: if chance(rng, 30) { rng.u32(1..=2) } else { 0 },
        }
    }
}
