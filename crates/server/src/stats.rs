//! A handle on a server: its counters, and the word to end it.

use std::sync::Arc;

use serde::Serialize;

use crate::hub::Hub;

/// Reads a running server's counters and can end it. Cheap to clone; make it first, give it to
/// the handler, then to [`Serve::handle`](crate::Serve::handle). Several servers may have one: they
/// count together, share the limits on connections, and end together.
///
/// ```
/// let handle = kakehi_server::Handle::default();
/// assert_eq!(handle.stats().connections, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Handle {
    pub(crate) hub: Arc<Hub>,
}

impl Handle {
    /// The counters as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.hub.stats()
    }

    /// Asks the server to end as its shutdown future would: it drains.
    ///
    /// ```
    /// kakehi_server::Handle::default().shutdown();
    /// ```
    pub fn shutdown(&self) {
        self.hub.ending.cancel();
    }
}

/// A server's counters, since it started.
///
/// ```
/// let stats = kakehi_server::Handle::default().stats();
/// assert_eq!((stats.running, stats.ok, stats.bytes_sent), (0, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Connections open now.
    pub connections: usize,
    /// Requests running now.
    pub running: usize,
    /// Connections that were admitted.
    pub accepted: u64,
    /// Connections that were refused.
    pub refused_connections: u64,
    /// Requests that ended in OK.
    pub ok: u64,
    /// Requests that their handler ended in ERROR.
    pub error: u64,
    /// Requests that were refused before they started, malformed ones too.
    pub refused_requests: u64,
    /// Requests that were cancelled: the client left, the deadline passed, the server ended. Also
    /// those whose handler then ended by itself: whatever it returned was not sent.
    pub cancelled: u64,
    /// Requests whose handler panicked.
    pub panicked: u64,
    /// Bytes of whole requests, and of what came in their place.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
}
