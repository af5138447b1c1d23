//! What all connections of a server share: who is connected, in which phase the server is, and
//! the counters.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
};

use kakehi_channel::Status;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    outbox::Outbox,
    stats::Stats,
    sync::{AtomicU8, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering},
};

#[derive(Debug, Default)]
pub(crate) struct Hub {
    phase: AtomicU8,
    /// Cancelled once the end is asked for, or has begun.
    pub(crate) ending: CancellationToken,
    /// A request has ended, or a connection: the drain may be over.
    pub(crate) ended: Notify,
    /// A connection has ended: there is a descriptor for the next.
    pub(crate) freed: Notify,
    running: AtomicUsize,
    unfinished: AtomicUsize,
    connections: Mutex<Connections>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Connections {
    last_number: u64,
    /// By number, so that they are woken in the order of their coming.
    open: BTreeMap<u64, Arc<Outbox>>,
    per_uid: HashMap<u32, usize>,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused_connections: AtomicU64,
    refused_requests: AtomicU64,
    ok: AtomicU64,
    error: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

/// How far the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Running,
    /// New requests are refused, running ones may end.
    Draining,
    /// Running requests are cancelled, connections close.
    Closing,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered(Status),
    Refused,
    Panicked,
    Cancelled,
}

impl Hub {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Goes on to `phase`, and wakes all connections to see it.
    pub(crate) fn enter_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.ending.cancel();
        let open: Vec<_> = self.connections().open.values().cloned().collect();
        for outbox in open {
            outbox.wake();
        }
    }

    /// Admits a connection, or says which limit is reached.
    pub(crate) fn connect(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        limits: &Limits,
    ) -> Result<Seat, String> {
        let mut connections = self.connections();
        let (all, uid) = (limits.connections, outbox.peer.uid);
        if connections.open.len() >= all {
            return Err(format!("the server has its {all} connections already"));
        }
        let of_uid = connections.per_uid.entry(uid).or_default();
        if *of_uid >= limits.connections_per_uid {
            return Err(format!("uid {uid} has its {of_uid} connections already"));
        }
        *of_uid += 1;
        connections.last_number += 1;
        let number = connections.last_number;
        connections.open.insert(number, Arc::clone(outbox));
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { hub: Arc::clone(self), number, uid })
    }

    pub(crate) fn count_refused_connection(&self) {
        self.counters.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request as running for as long as the guard lives.
    pub(crate) fn start_request(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(self)
    }

    pub(crate) fn count_request(&self, end: End) {
        let counter = match end {
            End::Answered(Status::Ok) => &self.counters.ok,
            End::Answered(_) => &self.counters.error,
            End::Refused => &self.counters.refused_requests,
            End::Panicked => &self.counters.panicked,
            End::Cancelled => &self.counters.cancelled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: u64) {
        self.counters.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self, bytes: u64) {
        self.counters.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Changes one connection's share of unfinished requests, in bytes. `false`: all together
    /// are over `limit`.
    pub(crate) fn hold_unfinished(&self, held: &mut usize, now: usize, limit: usize) -> bool {
        if now == *held {
            return true;
        }
        // What becomes less wraps around, as the sum does: it is one step, that others see whole.
        let change = now.wrapping_sub(std::mem::replace(held, now));
        let all = self.unfinished.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        now == 0 || all <= limit
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections().open.is_empty()
    }

    pub(crate) fn stats(&self) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Stats {
            connections: self.connections().open.len(),
            running: self.running(),
            accepted: count(&counters.accepted),
            refused_connections: count(&counters.refused_connections),
            ok: count(&counters.ok),
            error: count(&counters.error),
            refused_requests: count(&counters.refused_requests),
            cancelled: count(&counters.cancelled),
            panicked: count(&counters.panicked),
            bytes_received: count(&counters.bytes_received),
            bytes_sent: count(&counters.bytes_sent),
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place under the limits, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    pub(crate) number: u64,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = self.hub.connections();
        connections.open.remove(&self.number);
        if let Some(count) = connections.per_uid.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                connections.per_uid.remove(&self.uid);
            }
        }
        drop(connections);
        self.hub.ended.notify_waiters();
        self.hub.freed.notify_one();
    }
}

/// A request that runs.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Hub);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if self.0.phase() != Phase::Running {
            self.0.ended.notify_waiters();
        }
    }
}
