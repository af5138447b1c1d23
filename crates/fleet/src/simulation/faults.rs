//! The faults of a world.

use std::time::Duration;

use fastrand::Rng;

use super::plan::{Setup, chance, milliseconds};

/// A fault, and its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) fault: Fault,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A broker is killed, and started again after this time.
    RestartBroker(usize, Duration),
    /// A broker is stopped for this time.
    StopBroker(usize, Duration),
    /// Two brokers do not reach each other for this time.
    Split(usize, usize, Duration),
    /// The connection of a process ends.
    Disconnect(usize),
    /// All messages to and from a process are held back for this time.
    Cut(usize, Duration),
    /// A process is stopped, and continued after this time.
    Stop(usize, Duration),
    /// A process is killed, and perhaps started again after a time.
    Kill(usize, Option<Duration>),
    /// A node is asked to leave.
    Drain(usize),
}

/// Draws the faults of a world, in order.
pub(super) fn draw(rng: &mut Rng, setup: &Setup) -> Vec<Event> {
    let (nodes, processes) = (setup.nodes.len(), setup.nodes.len() + setup.clients.len());
    let mut events: Vec<_> = (0..setup.faults)
        .map(|_| {
            let at = milliseconds(rng, 0..=20_000);
            let broker = rng.usize(..setup.brokers);
            let process = rng.usize(..processes);
            let fault = match rng.u32(..100) {
                0..25 => Fault::RestartBroker(broker, outage(rng)),
                25..32 => Fault::StopBroker(broker, outage(rng)),
                32..40 => Fault::Split(broker, rng.usize(..setup.brokers), outage(rng)),
                40..50 => Fault::Disconnect(process),
                50..60 => Fault::Cut(process, outage(rng)),
                60..85 => Fault::Stop(process, outage(rng)),
                85..95 => {
                    let again = chance(rng, 60).then(|| milliseconds(rng, 100..=5_000));
                    Fault::Kill(process, again.filter(|_| process < nodes))
                }
                _ => Fault::Drain(rng.usize(..nodes)),
            };
            Event { at, fault }
        })
        .collect();
    events.sort_by_key(|event| event.at);
    events
}

/// Mostly short, else near the times of the protocol.
fn outage(rng: &mut Rng) -> Duration {
    match rng.u32(..100) {
        0..50 => milliseconds(rng, 50..=2_000),
        50..65 => milliseconds(rng, 2_000..=9_000),
        65..90 => milliseconds(rng, 14_000..=17_000),
        _ => milliseconds(rng, 17_000..=28_000),
    }
}
