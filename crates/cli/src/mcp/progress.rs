//! Progress notifications, and keep-alives while there is no progress.

use std::time::Duration;

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::text;
use crate::{escape::escape_lines, output::steps, reply::Answer};

/// The longest message of a notification, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Notifies the caller, if it wants to be.
#[derive(Debug)]
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: Option<ProgressToken>,
    every: Duration,
    due: Instant,
    steps: Steps,
}

/// By convention, these fields hold the finished steps and the total.
#[derive(Default, Deserialize)]
struct Fields {
    done: Option<f64>,
    total: Option<f64>,
}

/// Steps that increase with each notification, as the protocol demands.
#[derive(Debug, Default)]
struct Steps {
    done: f64,
    total: Option<f64>,
    /// The steps of earlier phases. A server begins a new phase with fewer steps than before.
    before: f64,
    last: Option<f64>,
}

impl Steps {
    /// Counts a response: its own steps, or one step if there is no total.
    fn add(&mut self, Fields { done, total }: &Fields) {
        match done {
            Some(done) => {
                if *done < self.done {
                    self.before = self.last.unwrap_or_default();
                }
                self.done = *done;
                self.total = total.map(|total| self.before + total).or(self.total);
            }
            None if self.total.is_none() => self.done += 1.0,
            None => {}
        }
    }

    /// The next value: the steps, or a little more than the last value.
    fn next(&mut self) -> f64 {
        let steps = self.before + self.done;
        // Some clients have numbers of 32 bits.
        let more = self.last.map(|last| last + (last.abs() * 3e-7).max(1e-4));
        let next = more.map_or(steps, |more| more.max(steps)).clamp(f64::MIN, f64::MAX);
        self.last = Some(next);
        next
    }
}

impl Progress {
    pub(super) fn new(
        peer: Peer<RoleServer>,
        token: Option<ProgressToken>,
        every: Duration,
    ) -> Self {
        // Zero would flood the caller.
        let every = every.max(Duration::from_millis(100));
        Self { peer, token, every, due: Instant::now() + every, steps: Steps::default() }
    }

    /// Waits until a sign of life is due. Cancel safe.
    pub(super) async fn due(&self) {
        match self.token {
            Some(_) => sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the caller has taken it, so a slow caller holds back the server.
    pub(super) async fn response(&mut self, answer: &Answer) {
        let content = answer.content();
        let object = content.filter(|content| content.starts_with('{'));
        let fields = object.and_then(|content| serde_json::from_str(content).ok());
        self.steps.add(&fields.unwrap_or_default());
        let item = content.filter(|content| steps(content).is_none()).unwrap_or_default();
        let message = match answer.response.message.as_str() {
            "" => item,
            message => message,
        };
        let message = escape_lines(text::start(message, MAX_MESSAGE).trim_end());
        self.notify((!message.is_empty()).then_some(message)).await;
    }

    /// The same steps and a little more.
    pub(super) async fn sign_of_life(&mut self) {
        self.notify(None).await;
    }

    async fn notify(&mut self, message: Option<String>) {
        self.due = Instant::now() + self.every;
        let Some(token) = self.token.clone() else { return };
        let mut progress = ProgressNotificationParam::new(token, self.steps.next());
        (progress.total, progress.message) = (self.steps.total, message);
        // If the caller has disconnected, the session ends by itself.
        let _ = self.peer.notify_progress(progress).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notification_has_a_larger_value_than_the_one_before() {
        let mut steps = Steps::default();
        let mut values = vec![steps.next(), steps.next()];
        let of = |done, total| Fields { done: Some(done), total: Some(total) };
        let message = Fields::default();
        for fields in [&of(1.0, 4.0), &of(3.0, 4.0), &message, &of(4.0, 4.0), &of(4.0, 4.0)] {
            steps.add(fields);
            values.push(steps.next());
        }
        assert_eq!((values[2], values[3], values[5]), (1.0, 3.0, 4.0), "as the server says");
        // A second phase counts from the end of the first one.
        steps.add(&of(0.0, 2.0));
        values.push(steps.next());
        steps.add(&of(1.0, 2.0));
        values.push(steps.next());
        let (at, total) = (values[8], steps.total.unwrap());
        assert!((5.0..5.1).contains(&at) && (6.0..6.1).contains(&total), "{at} of {total}");
        for far in [1e9, 9e15, 1e300] {
            steps.add(&of(far, far));
            values.extend([steps.next(), steps.next()]);
        }
        assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
        #[expect(clippy::cast_possible_truncation, reason = "as clients do")]
        let short: Vec<_> = values[..9].iter().map(|value| *value as f32).collect();
        assert!(short.is_sorted_by(|a, b| a < b), "{short:?}");
    }

    #[test]
    fn without_a_total_each_response_is_a_step() {
        let mut steps = Steps::default();
        for expected in [1.0, 2.0] {
            steps.add(&Fields::default());
            assert_eq!((steps.next(), steps.total), (expected, None));
        }
    }
}
