//! What one server, and each of its clients, may take.

use std::time::Duration;

/// The limits of a server. All are on by default.
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
    /// Connections at once; 256. One more is told so and closed.
    pub connections: usize,
    /// Connections at once of one user; 64.
    pub connections_per_uid: usize,
    /// The largest request, in bytes on the wire; 1 MiB.
    pub request_bytes: usize,
    /// The largest response, in bytes on the wire; 16 MiB, which is what a client takes.
    pub response_bytes: usize,
    /// What may wait to be written to one client, in bytes; 256 KiB, and at most four messages more.
    /// A handler that has sent that much waits until the client has read, and so do its next
    /// requests.
    pub outgoing_bytes: usize,
    /// The bytes of unfinished requests over all connections; 64 MiB.
    pub unfinished_bytes: usize,
    /// How long a request may take from its first byte to its last; 10 s. A connection without
    /// any request may stay.
    pub request_time: Duration,
    /// How long a client may take nothing of what is written to it; 30 s. Then it counts as gone,
    /// and its request is cancelled: also where it was stopped, or stands before a pager.
    pub write_time: Duration,
    /// Requests ask for keep-alives at half of their timeout; a longer timeout than this counts
    /// as this. None by default.
    pub max_timeout: Option<Duration>,
    /// The longest that a handler may take, also for requests without a deadline. None by
    /// default.
    pub max_deadline: Option<Duration>,
    /// How long a cancelled handler that took its [`cancellation`](crate::Context::cancellation)
    /// may clean up before it is dropped; 10 s.
    pub cleanup_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            connections: 256,
            connections_per_uid: 64,
            request_bytes: MIB,
            response_bytes: kakehi_channel::Limits::CLIENT.max,
            outgoing_bytes: 256 * 1024,
            unfinished_bytes: 64 * MIB,
            request_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            max_timeout: None,
            max_deadline: None,
            cleanup_time: Duration::from_secs(10),
        }
    }
}
