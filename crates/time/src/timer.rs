//! A timer that poll functions keep across waits.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that fires later than this means that the process did not run.
const LATE: Duration = Duration::from_millis(10);

/// How long the runtime needs to report what has arrived while the process did not run.
const LAST_LOOK: Duration = Duration::from_millis(2);

/// A timer that is made when it is first needed, and then kept for the next wait.
///
/// Setting a timer takes the runtime's lock. Moving it to a later time is put off until it fires,
/// so a wait that ends in time costs one reading of the clock.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `end` has come. The task is also woken at an earlier `end` of a poll before.
    #[inline]
    pub fn poll(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
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

    /// As [`poll`](Self::poll), for a wait that ends in an error: after SIGSTOP, a timer can fire
    /// before readiness is reported. If the timer fires late, it fires once more a moment later, and
    /// the caller polls the stream in between. `last_look` is `None` at the start of a wait.
    pub fn poll_twice(
        &mut self,
        end: Instant,
        last_look: &mut Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        ready!(self.poll(last_look.unwrap_or(end), cx));
        if last_look.is_none() && end.elapsed() > LATE {
            let until = *last_look.insert(Instant::now() + LAST_LOOK);
            return self.poll(until, cx);
        }
        Poll::Ready(())
    }
}
