//! Random limits, and random plans for handlers.

use std::time::Duration;

use fastrand::Rng;
use kakehi_server::Limits;
use serde::{Deserialize, Serialize};

/// The command of a request: the number of the plan that its handler follows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) token: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) filler: String,
}

/// The steps of a handler, and its result.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// The server's authorization hook refuses the request.
    pub(crate) is_denied: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Sends progress with this many bytes of content.
    Say(usize),
    /// Sends this many small messages without a pause.
    Flood(usize),
    /// Sends progress, and drops the future after this time.
    SayWithin(Duration),
    Wait(Duration),
    /// Takes the cancellation token. After a cancellation the handler needs this time to clean up.
    Listen(Duration),
    /// Detaches from the client.
    Outlive,
    /// Another task sends this many messages, one every few milliseconds.
    Hand(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Err,
    Refuse,
    Panic,
    Unencodable,
    TooLarge,
    Never,
}

pub(crate) fn milliseconds(rng: &mut Rng, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// `value` with a probability of `percent`.
pub(crate) fn maybe<T>(
    rng: &mut Rng,
    percent: u32,
    value: impl FnOnce(&mut Rng) -> T,
) -> Option<T> {
    (rng.u32(..100) < percent).then(|| value(rng))
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let count = [0, 0, 1, 1, 2, 4][rng.usize(..6)];
        let mut steps: Vec<_> = (0..count).map(|_| Step::draw(rng)).collect();
        // The referee cannot distinguish the messages of two other tasks.
        let mut is_handed = false;
        steps.retain(|step| {
            !matches!(step, Step::Hand(_)) || !std::mem::replace(&mut is_handed, true)
        });
        let end = match rng.u32(..100) {
            0..60 => End::Ok,
            60..70 => End::Err,
            70..75 => End::Refuse,
            75..83 => End::Panic,
            83..87 => End::Unencodable,
            87..91 => End::TooLarge,
            _ => End::Never,
        };
        Self { steps, end, is_denied: rng.u32(..100) < 3 }
    }

    pub(crate) fn listens(&self) -> Option<Duration> {
        self.steps.iter().find_map(|step| match step {
            Step::Listen(cleanup) => Some(*cleanup),
            _ => None,
        })
    }

    pub(crate) fn outlives(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Outlive))
    }
}

impl Step {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u32(..100) {
            0..30 => Self::Say(rng.usize(..300)),
            30..45 => Self::Flood(rng.usize(1..80)),
            45..52 => Self::SayWithin(milliseconds(rng, 1..=20)),
            52..82 => Self::Wait(milliseconds(rng, 0..=400)),
            82..88 => Self::Listen(milliseconds(rng, 0..=200)),
            88..93 => Self::Outlive,
            _ => Self::Hand(rng.u64(1..20)),
        }
    }
}

/// Limits that are low enough to be reached often.
pub(crate) fn limits(rng: &mut Rng) -> Limits {
    let limits = Limits::default();
    Limits {
        connections: maybe(rng, 30, |rng| rng.usize(1..5)).unwrap_or(limits.connections),
        connections_per_uid: maybe(rng, 30, |rng| rng.usize(1..4))
            .unwrap_or(limits.connections_per_uid),
        request_bytes: rng.usize(160..1500),
        response_bytes: rng.usize(512..3000),
        outgoing_bytes: rng.usize(1..8000),
        unfinished_bytes: maybe(rng, 40, |rng| rng.usize(100..1500))
            .unwrap_or(limits.unfinished_bytes),
        request_time: milliseconds(rng, 20..=500),
        write_time: milliseconds(rng, 50..=1000),
        max_timeout: maybe(rng, 30, |rng| milliseconds(rng, 20..=500)),
        max_deadline: maybe(rng, 50, |rng| milliseconds(rng, 50..=2000)),
        cleanup_time: milliseconds(rng, 0..=300),
        ..limits
    }
}
