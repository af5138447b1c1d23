//! The clocks of one request.

use std::time::Duration;

use kakehi_channel::Request;
use tokio::time::Instant;

use crate::Limits;

/// A client cannot ask for more than a hundred keep-alives a second.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(10);

/// A day: far from what the clock cannot express.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// When to speak and when to stop, for one request.
pub(crate) struct Clocks {
    pub(crate) deadline: Option<Instant>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) quiet_since: Option<Instant>,
    pub(crate) seen_sent: u64,
    /// When to look whether the client has left, if that cannot be waited for.
    pub(crate) look_at: Option<Instant>,
    pub(crate) stopped: Option<Stop>,
    pub(crate) cleanup_until: Option<Instant>,
}

/// Why a handler is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    ClientLeft,
    Deadline,
    ShuttingDown,
}

impl Clocks {
    pub(crate) fn new<C>(request: &Request<C>, limits: &Limits) -> Self {
        let timeout = request.timeout().map(|time| time.min(limits.max_timeout.unwrap_or(time)));
        let deadline = [request.deadline(), limits.max_deadline].into_iter().flatten().min();
        Self {
            // Beyond what the clock can express, there is no limit.
            deadline: deadline.and_then(|time| Instant::now().checked_add(time)),
            keep_alive: timeout.map(|time| (time / 2).clamp(MIN_KEEP_ALIVE, LONGEST)),
            quiet_since: None,
            seen_sent: 0,
            look_at: None,
            stopped: None,
            cleanup_until: None,
        }
    }
}

impl Stop {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::ClientLeft => "cancelled: the client has left",
            Self::Deadline => "cancelled: the deadline has passed",
            Self::ShuttingDown => "cancelled: the server is shutting down",
        }
    }
}
