//! The timeout and the deadline of a request.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use kakehi_time::Timer;
use tokio::time::Instant;

/// How long a client waits for the server's answer once a request's time is over: the server
/// cancels the request at the same moment, and says so.
const GRACE: Duration = Duration::from_millis(100);

/// How many responses a client skips in that time, so that a server cannot keep it busy.
const MAX_SKIPPED: u16 = 1000;

/// How long a client waits; zero or `None` means no limit.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Timeouts;
///
/// assert_eq!(Timeouts::default().timeout, Some(Duration::from_secs(30)));
/// assert_eq!(Timeouts::default().deadline, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For each response. Every response restarts it, a keep-alive too. Default: 30 s.
    pub timeout: Option<Duration>,
    /// For the whole request, up to the final response. Default: no limit.
    pub deadline: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { timeout: Some(Duration::from_secs(30)), deadline: None }
    }
}

impl Timeouts {
    pub(crate) fn limits(self) -> Self {
        Self { timeout: limit(self.timeout), deadline: limit(self.deadline) }
    }
}

/// Zero means no limit, because no response can arrive in no time.
pub(crate) fn limit(duration: impl Into<Option<Duration>>) -> Option<Duration> {
    duration.into().filter(|duration| !duration.is_zero())
}

/// Which limit has passed, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Timeout(Duration),
    Deadline(Duration),
}

/// The timeout and the deadline of one request, as points in time.
#[derive(Debug)]
pub(crate) struct Timers {
    timeouts: Timeouts,
    /// The time for the server's answer after the end: zero if the server does not know the end.
    grace: Duration,
    started: Instant,
    deadline: Option<Instant>,
    /// The timeout of the next response: the request's, or that of `next_within`.
    timeout: Option<Duration>,
    /// When the next response is due.
    due: Option<Instant>,
    /// The rest of the first timeout, while the caller does not wait.
    left: Option<Duration>,
    /// Set when the timer fired late: when the last look for a response ends.
    last_look: Option<Instant>,
    /// The server has refused an attempt, so the timeout may pass while it refuses another.
    is_retry: bool,
    /// How many responses were skipped after the deadline.
    skipped: u16,
}

impl Timers {
    /// Starts both. `sends_deadline`: the server learns the deadline from the request.
    pub(crate) fn start(timeouts: Timeouts, sends_deadline: bool) -> Self {
        let started = Instant::now();
        let timeouts = timeouts.limits();
        let end = |limit: Option<Duration>| limit.and_then(|limit| started.checked_add(limit));
        Self {
            timeouts,
            grace: if sends_deadline { GRACE } else { Duration::ZERO },
            started,
            deadline: end(timeouts.deadline),
            timeout: timeouts.timeout,
            due: end(timeouts.timeout),
            left: None,
            last_look: None,
            is_retry: false,
            skipped: 0,
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The first of the two that passes, and when.
    pub(crate) fn first(&self) -> Option<(Instant, Expired)> {
        let due = self.due.zip(self.timeout.map(Expired::Timeout));
        let deadline = self.deadline.zip(self.timeouts.deadline.map(Expired::Deadline));
        match (due, deadline) {
            (Some(due), Some(deadline)) if due.0 < deadline.0 => Some(due),
            (due, deadline) => deadline.or(due),
        }
    }

    pub(crate) fn is_past_deadline(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Decides about a progress response. `Ok(true)`: show it. `Ok(false)`: skip it, because the
    /// deadline has passed and only the server's final response counts.
    ///
    /// # Errors
    /// The deadline, if it passed too long ago.
    pub(crate) fn admit(&mut self) -> Result<bool, Expired> {
        let (Some(end), Some(deadline)) = (self.deadline, self.timeouts.deadline) else {
            return Ok(true);
        };
        let Some(late) = Instant::now().checked_duration_since(end) else { return Ok(true) };
        self.skipped += 1;
        if late < self.grace && self.skipped < MAX_SKIPPED {
            return Ok(false);
        }
        Err(Expired::Deadline(deadline))
    }

    /// The timeouts to send to the server: of the deadline, what is left.
    pub(crate) fn remaining(&self) -> Timeouts {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        Timeouts { deadline: self.deadline.map(left), ..self.timeouts }
    }

    /// Stops the first timeout until the caller waits for the response.
    pub(crate) fn pause(&mut self) {
        if let Some(due) = self.due.take() {
            self.left = Some(due.saturating_duration_since(Instant::now()));
        }
    }

    /// A refused request is to be sent again, within the first timeout. `false` if that or the
    /// deadline has passed.
    pub(crate) fn resume(&mut self) -> bool {
        if self.has_own_timeout() {
            let limit = self.timeouts.timeout;
            self.due = limit.and_then(|limit| self.started.checked_add(limit));
        }
        let now = Instant::now();
        self.is_retry = self.due.into_iter().chain(self.deadline).all(|end| end > now);
        self.is_retry
    }

    /// A lost request is to be sent again: starts the first timeout anew.
    pub(crate) fn renew(&mut self) {
        if self.has_own_timeout() {
            self.restart();
        }
    }

    /// A response arrived: the next one has a timeout of its own.
    #[inline]
    pub(crate) fn restart(&mut self) {
        (self.due, self.left, self.last_look, self.is_retry) = (None, None, None, false);
    }

    /// The next response has this timeout instead of the request's.
    pub(crate) fn use_timeout(&mut self, timeout: Duration) {
        self.restart();
        self.timeout = limit(timeout);
    }

    /// The next response has the request's timeout.
    #[inline]
    pub(crate) fn use_own_timeout(&mut self) {
        if !self.has_own_timeout() {
            self.restart();
            self.timeout = self.timeouts.timeout;
        }
    }

    fn has_own_timeout(&self) -> bool {
        self.timeout == self.timeouts.timeout
    }

    /// Ready once the timeout or the deadline has passed. If `is_sent`, the server has the
    /// request, and its last answer is waited for.
    pub(crate) fn poll(
        &mut self,
        timer: &mut Timer,
        is_sent: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        if self.due.is_none() {
            let limit = self.left.take().or(self.timeout);
            self.due = limit.and_then(|limit| Instant::now().checked_add(limit));
        }
        let Some((mut end, expired)) = self.first() else { return Poll::Pending };
        if is_sent && (self.is_retry || matches!(expired, Expired::Deadline(_))) {
            end += self.grace;
        }
        ready!(timer.poll_twice(end, &mut self.last_look, cx));
        self.restart();
        Poll::Ready(expired)
    }
}
