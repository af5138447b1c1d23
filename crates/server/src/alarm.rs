//! One timer for all clocks of a connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that exists only while something waits for it.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once the earliest of `times` has come; pending for ever if there is none.
    pub(crate) fn poll<const N: usize>(
        &mut self,
        times: [Option<Instant>; N],
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(at) = times.into_iter().flatten().min() else {
            self.0 = None;
            return Poll::Pending;
        };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
