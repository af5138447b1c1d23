//! A timer that is earlier than those of the requests.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

/// While messages come, a timer that is earlier than those of the requests. tokio wakes the thread
/// that waits for IO for each new timer that is the next one, so those of the requests must not be.
pub(crate) struct Early {
    timer: Pin<Box<Sleep>>,
    time: Duration,
    is_set: bool,
}

impl Early {
    /// `time` is less than each wait of a request.
    pub(crate) fn new(time: Duration) -> Self {
        Self { timer: Box::pin(sleep(Duration::ZERO)), time, is_set: false }
    }

    /// A message came.
    pub(crate) fn came(&mut self) {
        if !self.is_set {
            self.is_set = true;
            self.timer.as_mut().reset(Instant::now() + self.time);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    /// Waits for the timer.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn due(&mut self) {
        self.timer.as_mut().await;
        self.is_set = false;
    }
}
