//! The shared state of a server: settings, open connections, the phase and the counters.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use kakehi_channel::{Refusal, Request, Status};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Handle, Identity, Limits, Peer,
    outbox::Outbox,
    stats::ServerStats,
    sync::{AtomicU8, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering},
};

/// How long a connection may write its last response once the server closes.
pub(crate) const FINAL_WRITE_TIME: Duration = Duration::from_millis(500);

/// A server as its connections see it: the handler, the settings and the shared state.
pub(crate) struct Server<C, H> {
    pub(crate) handler: H,
    pub(crate) limits: Limits,
    pub(crate) handle: Handle,
    pub(crate) authorize: Option<Authorize<C>>,
    /// Whether a reserved name can be decoded as a command of the handler.
    pub(crate) decodes_reserved: OnceLock<bool>,
}

pub(crate) type Authorize<C> = Box<dyn Fn(&Peer, &Request<C>) -> Result<(), String> + Send + Sync>;

impl<C, H> Server<C, H> {
    pub(crate) fn new(handler: H) -> Self {
        Self {
            handler,
            limits: Limits::default(),
            handle: Handle::default(),
            authorize: None,
            decodes_reserved: OnceLock::new(),
        }
    }

    pub(crate) fn outbox(&self, peer: Peer) -> Outbox {
        Outbox::new(peer, &self.limits, Arc::clone(self.shared()))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn authorize(&self, peer: &Peer, request: &Request<C>) -> Result<(), String> {
        self.authorize.as_ref().map_or(Ok(()), |decide| decide(peer, request))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Cancelled when the shutdown is requested or has started.
    pub(crate) ending: CancellationToken,
    /// Notified when a request or a connection has ended, because the drain may be over.
    pub(crate) ended: Notify,
    /// Notified when a connection has ended, because its file descriptor is free.
    pub(crate) freed: Notify,
    running: AtomicUsize,
    unfinished: AtomicUsize,
    connections: Mutex<Connections>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Connections {
    last_number: u64,
    /// Sorted by number, so that they are woken in the order in which they connected.
    open: BTreeMap<u64, Arc<Outbox>>,
    per_caller: HashMap<Caller, usize>,
}

/// The key of the limit on connections per caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Uid(u32),
    Remote(Arc<Identity>),
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

/// The phase of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Running,
    /// New requests are refused; running ones continue.
    Draining,
    /// Running requests are cancelled; connections close.
    Closing,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered(Status),
    Refused(Refusal),
    Panicked,
    Cancelled,
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// Enters `phase` and wakes all connections.
    pub(crate) fn enter_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.ending.cancel();
        for outbox in self.open() {
            outbox.wake();
        }
    }

    /// Waits until `is_done`. Checks again whenever a request or a connection has ended.
    pub(crate) async fn until(&self, is_done: impl Fn(&Self) -> bool) {
        loop {
            // Before the check, so that no end is missed.
            let ended = self.ended.notified();
            if is_done(self) {
                return;
            }
            ended.await;
        }
    }

    /// Admits a connection, or returns a message about the limit that is reached.
    pub(crate) fn connect(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        limits: &Limits,
    ) -> Result<ConnectionGuard, String> {
        let mut connections = self.connections();
        let all = limits.connections;
        if connections.open.len() >= all {
            return Err(format!("the server already has {all} connections"));
        }
        let caller = Caller::of(&outbox.peer);
        let count = connections.per_caller.get(&caller).copied().unwrap_or_default();
        if count >= limits.connections_per_uid {
            return Err(format!("{caller} already has {count} connections"));
        }
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(connections.add(self, outbox))
    }

    /// Adds a connection that is under no limit.
    pub(crate) fn add(self: &Arc<Self>, outbox: &Arc<Outbox>) -> ConnectionGuard {
        self.connections().add(self, outbox)
    }

    /// All open connections, in the order in which they connected.
    pub(crate) fn open(&self) -> Vec<Arc<Outbox>> {
        self.connections().open.values().cloned().collect()
    }

    /// The connection of this number.
    pub(crate) fn connection(&self, number: u64) -> Option<Arc<Outbox>> {
        self.connections().open.get(&number).cloned()
    }

    pub(crate) fn count_refused_connection(&self) {
        self.counters.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request as running until the guard is dropped.
    pub(crate) fn start_request(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(self)
    }

    pub(crate) fn count_request(&self, end: End) {
        let counter = match end {
            End::Answered(Status::Ok) => &self.counters.ok,
            End::Answered(_) => &self.counters.error,
            End::Refused(_) => &self.counters.refused_requests,
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

    /// Sets one connection's share of the partial requests, in bytes. Returns `false` if their sum is
    /// over `limit`.
    pub(crate) fn hold_unfinished(&self, held: &mut usize, now: usize, limit: usize) -> bool {
        if now == *held {
            return true;
        }
        // One atomic step, so that other threads see no intermediate sum. A decrease wraps around.
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

    pub(crate) fn stats(&self) -> ServerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        ServerStats {
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

impl Connections {
    fn add(&mut self, shared: &Arc<Shared>, outbox: &Arc<Outbox>) -> ConnectionGuard {
        let caller = Caller::of(&outbox.peer);
        *self.per_caller.entry(caller.clone()).or_default() += 1;
        self.last_number += 1;
        outbox.set_connection(self.last_number);
        self.open.insert(self.last_number, Arc::clone(outbox));
        ConnectionGuard { shared: Arc::clone(shared), number: self.last_number, caller }
    }
}

impl Caller {
    fn of(peer: &Peer) -> Self {
        peer.identity.clone().map_or(Self::Uid(peer.uid), Self::Remote)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Remote(identity) => write!(f, "{:?}", identity.name),
        }
    }
}

/// A connection's slot under the limits, released when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    shared: Arc<Shared>,
    number: u64,
    caller: Caller,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        connections.open.remove(&self.number);
        if let Some(count) = connections.per_caller.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                connections.per_caller.remove(&self.caller);
            }
        }
        drop(connections);
        self.shared.ended.notify_waiters();
        self.shared.freed.notify_one();
    }
}

/// The guard of a running request.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if self.0.phase() != Phase::Running {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_remote_identity_has_its_own_limit() {
        let limits = Limits { connections_per_uid: 1, ..Limits::default() };
        let shared = Arc::new(Shared::default());
        let connect = |name: &str| {
            let peer = Peer::remote(Identity { name: name.into(), groups: vec![] });
            let outbox = Outbox::new(peer, &limits, Arc::default());
            shared.connect(&Arc::new(outbox), &limits)
        };
        let anna = connect("anna").unwrap();
        assert!(connect("ben").is_ok());
        assert_eq!(connect("anna").unwrap_err(), "\"anna\" already has 1 connections");
        drop(anna);
        assert!(connect("anna").is_ok());
    }
}
