//! `Handle`: the counters and the shutdown of a server.

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Reads the counters of a running server and shuts it down. It is cheap to clone. Create it first,
/// give a clone to the handler, then pass it to [`Serve::handle`](crate::Serve::handle). Servers with
/// the same handle share their counters, their limits on connections and their shutdown.
///
/// ```
/// let handle = kakehi_server::Handle::default();
/// assert_eq!((handle.stats().connections, handle.stats().bytes_sent), (0, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Returns the current counters.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// Shuts the server down, as [`Serve::shutdown`](crate::Serve::shutdown) does.
    pub fn shutdown(&self) {
        self.shared.ending.cancel();
    }

    /// Returns a token that is cancelled when the server starts to drain. Running requests are
    /// cancelled after [`Limits::drain_time`](crate::Limits::drain_time). A handler that follows a log,
    /// for example, returns when the drain starts: see [`Context::server`](crate::Context::server).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let handle = kakehi_server::Handle::default();
    /// let draining = handle.draining();
    /// let task = tokio::spawn(async move { draining.cancelled().await });
    /// handle.shutdown();
    /// task.await.expect("the task ends");
    /// # }
    /// ```
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        // A child, so that cancelling it does not end the server.
        self.shared.ending.child_token()
    }
}

/// The counters of a server since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerStats {
    /// Open connections.
    pub connections: usize,
    /// Running requests.
    pub running: usize,
    /// Connections that were admitted.
    pub accepted: u64,
    /// Connections that were refused.
    pub refused_connections: u64,
    /// Requests that ended in OK.
    pub ok: u64,
    /// Requests that their handler ended in ERROR.
    pub error: u64,
    /// Requests that were refused before they started, including malformed ones.
    pub refused_requests: u64,
    /// Requests that were cancelled: the client disconnected, the deadline passed, or the server shut
    /// down. This includes handlers that returned after the cancellation.
    pub cancelled: u64,
    /// Requests whose handler panicked.
    pub panicked: u64,
    /// Bytes of complete requests, including malformed ones.
    pub bytes_received: u64,
    /// Bytes of written responses.
    pub bytes_sent: u64,
}
