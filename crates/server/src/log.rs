//! The log of a request: its span, its refusal and its end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kakehi_channel::Refusal;
use tokio::time::Instant;
use tracing::{Level, Span, field, info, info_span};

use crate::{received::cut, shared::End};

/// The log of one request.
pub(crate) struct Log {
    pub(crate) span: Span,
    /// `None`: the level info is disabled.
    request: Option<Logged>,
}

struct Logged {
    since: Instant,
    uid: u32,
    id: String,
    command: String,
}

impl Log {
    /// Opens the span of the request.
    pub(crate) fn new(uid: u32, id: &str, command: &str) -> Self {
        if !tracing::enabled!(Level::INFO) {
            return Self { span: Span::none(), request: None };
        }
        let (id, command) = (cut(id).to_owned(), cut(command).to_owned());
        let span = info_span!("request", ?id, ?command, otel.kind = field::Empty);
        let request = Some(Logged { since: Instant::now(), uid, id, command });
        Self { span, request }
    }

    /// The handler refused the request. To be called within the span.
    pub(crate) fn refused(&self, why: Refusal, message: &str) {
        if let Some(Logged { uid, id, command, .. }) = &self.request {
            refused(*uid, id, command, why, message);
        }
    }

    pub(crate) fn answered(&self, end: End) {
        if let Some(Logged { since, .. }) = &self.request {
            self.span.in_scope(|| info!(?end, duration = ?since.elapsed(), "answered"));
        }
    }
}

pub(crate) fn refused(uid: u32, id: &str, command: &str, why: Refusal, message: &str) {
    let (id, command, message) = (cut(id), cut(command), cut(message));
    info!(uid, ?id, ?command, ?why, ?message, "refused a request");
}

/// Limits the log of refused connections, which each local process can cause, to one line a second.
#[derive(Debug, Default)]
pub(crate) struct RefusedConnections(Mutex<Refused>);

#[derive(Debug, Default)]
struct Refused {
    logged: Option<Instant>,
    /// The refusals since then.
    left_out: u64,
}

impl RefusedConnections {
    /// Logs a refusal, and how many were left out before.
    pub(crate) fn add(&self, why: Refusal, message: &str) {
        const PAUSE: Duration = Duration::from_secs(1);
        let refused = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.logged.is_some_and(|at| at.elapsed() < PAUSE) {
            refused.left_out += 1;
            return;
        }
        refused.logged = Some(Instant::now());
        match std::mem::take(&mut refused.left_out) {
            0 => info!(?why, message, "refused a connection"),
            before => info!(?why, message, before, "refused a connection, and others before"),
        }
    }
}
