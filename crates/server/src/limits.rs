//! The limits of a server.

use std::time::Duration;

use kakehi_channel::BUSY_POLL;

/// The limits of a server. All limits without `None` as their default are on by default.
///
/// ```
/// use std::time::Duration;
/// use kakehi_server::Limits;
///
/// let limits = Limits { connections: 16, max_deadline: Some(Duration::from_secs(600)), ..Limits::default() };
/// assert_eq!(limits.request_bytes, 1_048_576);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections. A further connection is refused and closed. Default: 256.
    pub connections: usize,
    /// The number of connections of one user, or of one remote identity. Default: 64.
    pub connections_per_uid: usize,
    /// The size of a request, in bytes with its framing. Default: 1 MiB.
    pub request_bytes: usize,
    /// The size of a response, in bytes with its framing. Default: 16 MiB, as in the client.
    pub response_bytes: usize,
    /// The size of all responses that wait for one client, in bytes. Then the handler waits until the
    /// client reads, and the connection reads no further request. Up to four more responses may be in
    /// memory. Default: 256 KiB.
    pub outgoing_bytes: usize,
    /// The size of all partial requests of all connections, in bytes. Default: 64 MiB.
    pub unfinished_bytes: usize,
    /// The time between the first and the last byte of a request. A connection without a partial
    /// request has no time limit. Default: 10 s.
    pub request_time: Duration,
    /// How long a client may read nothing while responses wait. Then it counts as disconnected, and
    /// its request is cancelled. This includes a client that is stopped or waits for its pager.
    /// Default: 30 s.
    pub write_time: Duration,
    /// The longest timeout of a request: a longer one is treated as this. The server sends keep-alives
    /// at half of the timeout. Default: `None`.
    pub max_timeout: Option<Duration>,
    /// The longest deadline of a request, and the deadline of a request without one. Default: `None`.
    pub max_deadline: Option<Duration>,
    /// How long a cancelled handler may clean up after it took its
    /// [`cancellation`](crate::Context::cancellation). Then its future is dropped. Default: 10 s.
    pub cleanup_time: Duration,
    /// How long running requests may continue after the shutdown. Then they are cancelled. Requests
    /// that arrive during the drain are refused with `shutting_down`. Default: 5 s.
    pub drain_time: Duration,
    /// How long a connection polls for the next request after a response, before it sleeps. Zero
    /// turns polling off. Default: [`BUSY_POLL`], 50 µs.
    ///
    /// Waking a core takes longer than most clients take to send the next request. Polling makes such
    /// a call several times faster, and uses less CPU time than sleeping. A connection stops polling
    /// if its client does not send at once: see [`BusyPoll`](kakehi_channel::BusyPoll).
    pub busy_poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            connections: 256,
            connections_per_uid: 64,
            request_bytes: MIB,
            response_bytes: kakehi_channel::BufferLimits::CLIENT.max,
            outgoing_bytes: 256 * 1024,
            unfinished_bytes: 64 * MIB,
            request_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            max_timeout: None,
            max_deadline: None,
            cleanup_time: Duration::from_secs(10),
            drain_time: Duration::from_secs(5),
            busy_poll: BUSY_POLL,
        }
    }
}
