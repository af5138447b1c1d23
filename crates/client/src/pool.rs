//! The connections of a client: at most so many, each lent to one request at a time.
//!
//! No task works in the background: what has been idle for too long is closed when a connection
//! is taken or given back.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tracing::debug;

use crate::{
    connect::Connector,
    open::{Opening, Order},
    stats::{Counters, Stats},
    sync::{Mutex, MutexGuard},
};

/// How long a connection is trusted after it was given back, without asking the system whether
/// something came meanwhile: that would be one system call more for each request. A peer that
/// closed it within that time is found by the write, which fails before anything was sent.
const TRUSTED: Duration = Duration::from_millis(1);

/// What the requests of one client share; `L` is a connection.
pub(crate) struct Pool<L> {
    pub(crate) connector: Connector,
    pub(crate) counters: Counters,
    size: usize,
    keep: Option<Duration>,
    /// One for each connection that may be open.
    places: Semaphore,
    /// The one used last is at the back and taken first, so that the others can grow old.
    idle: Mutex<Idle<L>>,
    /// Makes a connection.
    open: fn(Place<L>, Order) -> Opening<L>,
    /// Whether a connection is open, with nothing to be read on it.
    is_silent: fn(&L) -> bool,
}

struct Idle<L> {
    links: VecDeque<(L, Instant)>,
    /// Nobody will take one any more.
    is_closed: bool,
}

impl<L> Pool<L> {
    /// Of at most `size` connections; one that is idle for longer than `keep` is closed.
    pub(crate) fn new(
        connector: Connector,
        (size, keep): (usize, Option<Duration>),
        open: fn(Place<L>, Order) -> Opening<L>,
        is_silent: fn(&L) -> bool,
    ) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connector,
            counters: Counters::default(),
            size,
            keep,
            places: Semaphore::new(size),
            idle: Mutex::new(Idle { links: VecDeque::new(), is_closed: false }),
            open,
            is_silent,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let idle = self.idle().links.len();
        Stats { idle, busy: self.size - self.places.available_permits(), ..self.counters.stats() }
    }

    /// An idle connection that is alive.
    pub(crate) fn take(&self, now: Instant) -> Option<L> {
        loop {
            let (link, since) = self.pop(now)?;
            // A request may have been made before, and be sent now.
            let idle = now.checked_duration_since(since);
            if idle.is_some_and(|idle| idle < TRUSTED) || (self.is_silent)(&link) {
                return Some(link);
            }
            debug!("an idle connection has ended, or has something to be read on it");
        }
    }

    /// Closes what is idle, and each other connection when it is given back.
    pub(crate) fn close(&self) {
        let mut idle = self.idle();
        idle.is_closed = true;
        let links = mem::take(&mut idle.links);
        // Connections are always closed after the lock is given back.
        drop(idle);
        drop(links);
    }

    fn put(&self, link: L, now: Instant) {
        let mut idle = self.idle();
        idle.links.push_back((link, now));
        let expired = self.expired(&mut idle, now);
        drop(idle);
        drop(expired);
    }

    fn pop(&self, now: Instant) -> Option<(L, Instant)> {
        let mut idle = self.idle();
        let expired = self.expired(&mut idle, now);
        let link = idle.links.pop_back();
        drop(idle);
        drop(expired);
        link
    }

    /// Takes out what has been idle for too long.
    fn expired(&self, idle: &mut Idle<L>, now: Instant) -> Vec<(L, Instant)> {
        if idle.is_closed {
            return mem::take(&mut idle.links).into();
        }
        let is_old = |(_, since): &(L, Instant)| {
            self.keep.is_some_and(|keep| now.duration_since(*since) > keep)
        };
        // Mostly there are none: to take them out one by one would cost each request something.
        if !idle.links.front().is_some_and(is_old) {
            return Vec::new();
        }
        let count = idle.links.iter().take_while(|link| is_old(link)).count();
        idle.links.drain(..count).collect()
    }

    /// Never held while waiting, and nothing under it can panic.
    fn idle(&self) -> MutexGuard<'_, Idle<L>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a pool, held or not. Dropped, it is free for another.
pub(crate) struct Place<L> {
    pub(crate) pool: Arc<Pool<L>>,
    held: bool,
}

impl<L> Place<L> {
    pub(crate) fn new(pool: &Arc<Pool<L>>) -> Self {
        Self { pool: Arc::clone(pool), held: false }
    }

    /// A living connection, if one can be had without waiting.
    pub(crate) fn try_take(&mut self, now: Instant) -> Option<L> {
        if !self.held {
            self.pool.places.try_acquire().ok()?.forget();
            self.held = true;
        }
        self.pool.take(now)
    }

    /// Waits until a place is free, in the order of asking.
    pub(crate) async fn hold(&mut self) {
        if !self.held {
            // The semaphore is never closed.
            if let Ok(permit) = self.pool.places.acquire().await {
                permit.forget();
                self.held = true;
            }
        }
    }

    /// A connection that is waited for, with the place in which it stands.
    pub(crate) fn open(&mut self, order: Order) -> Opening<L> {
        let held = mem::take(&mut self.held);
        (self.pool.open)(Self { pool: Arc::clone(&self.pool), held }, order)
    }

    /// For the next one to use it.
    pub(crate) fn give_back(&mut self, link: L, now: Instant) {
        self.pool.put(link, now);
        self.release();
    }

    /// Frees the place: its connection is closed, or given back.
    pub(crate) fn release(&mut self) {
        if mem::take(&mut self.held) {
            self.pool.places.add_permits(1);
        }
    }
}

impl<L> Drop for Place<L> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<L> fmt::Debug for Pool<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("path", &self.connector.path)
            .field("size", &self.size)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
