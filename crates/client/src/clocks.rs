//! The two clocks of a request, and the one timer that both use.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// From when on a clock is heard late: this process did not run.
pub(crate) const LATE: Duration = Duration::from_millis(10);

/// How long the runtime needs to hear of what has come.
pub(crate) const A_LOOK: Duration = Duration::from_millis(2);

/// How long a client waits; `None` is without limit.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Clocks;
///
/// assert_eq!(Clocks::default().timeout, Some(Duration::from_secs(30)));
/// assert_eq!(Clocks::default().deadline, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// For each response. Every one restarts it, a keep-alive too.
    pub timeout: Option<Duration>,
    /// For all of a request, up to the final response.
    pub deadline: Option<Duration>,
}

impl Clocks {
    /// Each response within 30 s, all of them without limit.
    ///
    /// ```
    /// assert_eq!(kakehi_client::Clocks::DEFAULT, kakehi_client::Clocks::default());
    /// ```
    pub const DEFAULT: Self = Self { timeout: Some(Duration::from_secs(30)), deadline: None };
}

impl Default for Clocks {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Zero means no limit: "at once" cannot be met, so that nobody means it.
pub(crate) fn limit(duration: impl Into<Option<Duration>>) -> Option<Duration> {
    duration.into().filter(|duration| !duration.is_zero())
}

/// Which clock ran out, and what it had been set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Timeout(Duration),
    Deadline(Duration),
}

/// Where a request stands by its clocks.
#[derive(Debug)]
pub(crate) struct Wait {
    clocks: Clocks,
    started: Instant,
    deadline: Option<Instant>,
    /// When the response that is waited for must be there.
    due: Option<Instant>,
    /// What is left for the first response, while the caller does something else.
    left: Option<Duration>,
    /// A clock has run out, and until then it is looked for what has come meanwhile.
    last_look: Option<Instant>,
}

impl Wait {
    /// Starts both clocks.
    pub(crate) fn start(clocks: Clocks) -> Self {
        let started = Instant::now();
        let end = |limit: Option<Duration>| limit.and_then(|limit| started.checked_add(limit));
        let (due, deadline) = (end(clocks.timeout), end(clocks.deadline));
        Self { clocks, started, deadline, due, left: None, last_look: None }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// When the first of the two runs out.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.deadline).min()
    }

    /// Which of the two has run out at [`end`](Self::end).
    pub(crate) fn expired(&self) -> Clock {
        let by_deadline = match (self.due, self.deadline) {
            (Some(due), Some(deadline)) => deadline <= due,
            (due, _) => due.is_none(),
        };
        match self.clocks.deadline {
            Some(deadline) if by_deadline => Clock::Deadline(deadline),
            _ => Clock::Timeout(self.clocks.timeout.unwrap_or_default()),
        }
    }

    /// The deadline, if it has passed.
    pub(crate) fn past_deadline(&self) -> Option<Clock> {
        let is_past = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        self.clocks.deadline.filter(|_| is_past).map(Clock::Deadline)
    }

    /// The clocks as the server is to be told of them: of the deadline, what is left.
    pub(crate) fn remaining(&self) -> Clocks {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        Clocks { deadline: self.deadline.map(left), ..self.clocks }
    }

    /// Stops the clock of the first response until it is waited for.
    pub(crate) fn pause(&mut self) {
        if let Some(due) = self.due.take() {
            self.left = Some(due.saturating_duration_since(Instant::now()));
        }
    }

    /// The request is to be sent again after nothing of it was shown: takes up the clock of the
    /// first response, unless that has run out.
    pub(crate) fn resume(&mut self) -> bool {
        let due = self.clocks.timeout.and_then(|limit| self.started.checked_add(limit));
        if due.is_some_and(|due| due <= Instant::now()) {
            return false;
        }
        self.due = due;
        true
    }

    /// The request is to be sent again: starts the clock of the first response anew.
    pub(crate) fn renew(&mut self) {
        self.due = self.clocks.timeout.and_then(|limit| Instant::now().checked_add(limit));
    }

    /// A response came, or the caller takes over the clock of the next one.
    pub(crate) fn restart(&mut self) {
        self.due = None;
        self.left = None;
        self.last_look = None;
    }

    /// Ready once a clock has run out; only the deadline where the caller has a clock of its own.
    ///
    /// A process that was stopped meanwhile hears of its clock before it hears of what has come. So
    /// where a clock is heard late, there is a moment for that.
    pub(crate) fn poll(
        &mut self,
        timer: &mut Timer,
        own_clock: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Clock> {
        if !own_clock {
            self.due = None;
        } else if self.due.is_none() {
            let limit = self.left.take().or(self.clocks.timeout);
            self.due = limit.and_then(|limit| Instant::now().checked_add(limit));
        }
        let Some(end) = self.end() else { return Poll::Pending };
        ready!(timer.poll(self.last_look.unwrap_or(end), cx));
        if self.last_look.is_none() && end.elapsed() > LATE {
            let last_look = Instant::now() + A_LOOK;
            self.last_look = Some(last_look);
            ready!(timer.poll(last_look, cx));
        }
        let clock = self.expired();
        self.restart();
        Poll::Ready(clock)
    }
}

/// A timer that is made when it is first needed, and then kept with its connection.
///
/// Setting a timer takes the runtime's lock; moving one to a later time is put off until it goes
/// off. So a request that is answered in time costs no more than a look at the clock.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once it is `end`.
    fn poll(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= end {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
    }
}
