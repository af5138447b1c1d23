//! Progress notifications, and keep-alives while there is no progress.

use std::time::Duration;

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::text;
use crate::{escape::escape_lines, reply::Answer};

/// The longest message of a notification, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Notifies the caller, if it wants to be.
#[derive(Debug)]
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: Option<ProgressToken>,
    every: Duration,
    due: Instant,
    done: f64,
    total: Option<f64>,
}

/// By convention, these fields hold the finished steps and the total.
#[derive(Deserialize)]
struct Fields {
    done: Option<f64>,
    total: Option<f64>,
}

impl Progress {
    pub(super) fn new(
        peer: Peer<RoleServer>,
        token: Option<ProgressToken>,
        every: Duration,
    ) -> Self {
        // Zero would flood the caller.
        let every = every.max(Duration::from_millis(100));
        Self { peer, token, every, due: Instant::now() + every, done: 0.0, total: None }
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
        let content = answer.content().filter(|content| content.starts_with('{'));
        match content.and_then(|content| serde_json::from_str::<Fields>(content).ok()) {
            Some(Fields { done: Some(done), total }) => {
                self.done = done;
                self.total = total.or(self.total);
            }
            _ if self.total.is_none() => self.done += 1.0,
            _ => {}
        }
        let message = &answer.response.message;
        let message = escape_lines(text::start(message, MAX_MESSAGE).trim_end());
        self.notify((!message.is_empty()).then_some(message)).await;
    }

    /// The same progress again.
    pub(super) async fn sign_of_life(&mut self) {
        self.notify(None).await;
    }

    async fn notify(&mut self, message: Option<String>) {
        self.due = Instant::now() + self.every;
        let Some(token) = self.token.clone() else { return };
        let mut progress = ProgressNotificationParam::new(token, self.done);
        (progress.total, progress.message) = (self.total, message);
        // If the caller has disconnected, the session ends by itself.
        let _ = self.peer.notify_progress(progress).await;
    }
}
