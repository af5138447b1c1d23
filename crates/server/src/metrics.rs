//! The feature `metrics`: the metrics of each command.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use kakehi_channel::{Refusal, Status};
use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use tokio::time::Instant;

use crate::shared::End;

/// The most names of commands in a process. Each is a series of its own in the metrics.
const MAX_NAMES: usize = 128;
/// The longest name, in bytes.
const MAX_NAME: usize = 64;
/// The label of all other commands, of requests without a command, and of malformed messages.
const OTHER: &str = "other";

const REQUESTS: &str = "kakehi_server_requests_total";
const RUNNING: &str = "kakehi_server_requests_running";
const DURATION: &str = "kakehi_server_request_duration_seconds";
const REFUSED: &str = "kakehi_server_refused_requests_total";
const CANCELLED: &str = "kakehi_server_cancelled_requests_total";
const RECEIVED: &str = "kakehi_server_received_bytes_total";
const SENT: &str = "kakehi_server_sent_bytes_total";
const REFUSED_CONNECTIONS: &str = "kakehi_server_refused_connections_total";

/// The names that are labels. One set for all servers of the process, as there is one recorder.
static NAMES: Mutex<BTreeSet<Arc<str>>> = Mutex::new(BTreeSet::new());

/// Tells the recorder the units and the meanings.
pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests by their outcome");
    describe_gauge!(RUNNING, "Requests that are being answered");
    describe_histogram!(DURATION, Unit::Seconds, "Time from a request to its final response");
    describe_counter!(REFUSED, "Refused requests by the reason");
    describe_counter!(CANCELLED, "Cancelled requests by the reason");
    describe_counter!(RECEIVED, Unit::Bytes, "Bytes of complete requests");
    describe_counter!(SENT, Unit::Bytes, "Bytes of written responses");
    describe_counter!(REFUSED_CONNECTIONS, "Refused connections by the reason");
}

pub(crate) fn refused_connection(why: Refusal) {
    counter!(REFUSED_CONNECTIONS, "reason" => reason(why)).increment(1);
}

/// The label `command` of one request; `None`: [`OTHER`].
#[derive(Clone, Debug)]
pub(crate) struct Command(Option<Arc<str>>);

impl Command {
    /// That of messages without a known command.
    pub(crate) fn other() -> Self {
        Self(None)
    }

    /// The label of a command with this name, if the server knows it.
    pub(crate) fn named(name: Option<&str>) -> Self {
        let is_valid = |name: &&str| {
            name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        Self(name.filter(is_valid).and_then(|name| {
            let names = &mut *NAMES.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = names.get(name) {
                return Some(Arc::clone(known));
            }
            let new = (names.len() < MAX_NAMES).then(|| Arc::<str>::from(name))?;
            names.insert(Arc::clone(&new));
            Some(new)
        }))
    }

    pub(crate) fn received(&self, bytes: u64) {
        counter!(RECEIVED, [self.label()].iter()).increment(bytes);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        counter!(SENT, [self.label()].iter()).increment(bytes);
    }

    /// Counts a request as running until the guard is dropped.
    pub(crate) fn start(&self) -> Running {
        gauge!(RUNNING, [self.label()].iter()).increment(1.0);
        Running { command: self.clone(), since: Instant::now() }
    }

    /// Counts a request that has ended.
    pub(crate) fn count(&self, end: End) {
        let outcome = match end {
            End::Answered(Status::Ok) => "ok",
            End::Answered(_) => "error",
            End::Refused(_) => "refused",
            End::Panicked => "panicked",
            End::Cancelled => "cancelled",
        };
        let labels = [self.label(), Label::from_static_parts("outcome", outcome)];
        counter!(REQUESTS, labels.iter()).increment(1);
        if let End::Refused(why) = end {
            self.count_reason(REFUSED, reason(why));
        }
    }

    fn count_reason(&self, name: &'static str, reason: &'static str) {
        let labels = [self.label(), Label::from_static_parts("reason", reason)];
        counter!(name, labels.iter()).increment(1);
    }

    fn label(&self) -> Label {
        let name = self.0.clone().map_or(SharedString::const_str(OTHER), SharedString::from_shared);
        Label::new("command", name)
    }
}

/// A running request.
#[derive(Debug)]
pub(crate) struct Running {
    command: Command,
    since: Instant,
}

impl Running {
    pub(crate) fn end(&self, end: End, cancelled: Option<&'static str>) {
        self.command.count(end);
        if let Some(reason) = cancelled.filter(|_| end == End::Cancelled) {
            self.command.count_reason(CANCELLED, reason);
        }
        let labels = [self.command.label()];
        histogram!(DURATION, labels.iter()).record(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        gauge!(RUNNING, [self.command.label()].iter()).decrement(1.0);
    }
}

/// The reason as the protocol has it.
fn reason(why: Refusal) -> &'static str {
    match why {
        Refusal::Denied => "denied",
        Refusal::Busy => "busy",
        Refusal::ShuttingDown => "shutting_down",
        Refusal::Malformed => "malformed",
        Refusal::TooLarge => "too_large",
        Refusal::TooSlow => "too_slow",
        Refusal::Unsupported => "unsupported",
        _ => "other",
    }
}
