//! One request, from the search for a connection to the final response: the only place where
//! responses are followed.
//!
//! ```text
//!   Start ──> Opening ──> Writing ──> Reading ──> Over
//!     └── an idle one ──────^ │          │
//!     ^── not sent, or lost while it may be sent again
//! ```

mod receiving;
mod sending;

use std::{fmt, mem};

use tokio::time::Instant;
use tracing::{Span, debug, debug_span, field};

use crate::{
    Call, Clocks, Error, Outcome,
    clocks::{Clock, Wait},
    connect::Unconnected,
    home::Home,
    kind::{During, Kind},
    link::Link,
    open::Opening,
};

/// How often an idempotent request is sent again after its connection was lost: a request that
/// brings its server down must not do so for ever.
const AGAIN: u32 = 2;

/// A request that is under way.
///
/// The fields are dropped in this order: the connection is closed before its place is free.
pub(crate) struct Exchange<'c, Tx, Rx, F, S> {
    phase: Phase<Tx, Rx, F, S>,
    home: Home<'c, Link<Tx, Rx, F, S>>,
    message: Message<Tx>,
    pub(crate) wait: Wait,
    /// How often it may still be sent again although it was sent before.
    again: u32,
    /// It was sent, and lost: whatever comes now, it may have been done then.
    was_lost: bool,
    /// How often it could not be sent on a new connection, or was refused, and why the last time.
    failures: u32,
    cause: Option<Box<Unconnected>>,
    /// Something came that is not a response: what follows may not be the next request's.
    is_tainted: bool,
    span: Span,
}

enum Phase<Tx, Rx, F, S> {
    Start,
    Opening(Opening<Link<Tx, Rx, F, S>>),
    /// `size` bytes are to be written. A connection that was idle may have ended since.
    Writing {
        link: Link<Tx, Rx, F, S>,
        size: usize,
        is_reused: bool,
    },
    /// `early` came while the request was still being written; it is boxed since it hardly ever
    /// does.
    Reading {
        link: Link<Tx, Rx, F, S>,
        early: Option<Box<Rx>>,
    },
    Over,
}

/// The request, as long as it may have to be sent again; then its id alone.
enum Message<Tx> {
    Whole(Tx),
    Id(Option<String>),
}

impl<'c, Tx: Call, Rx, F, S> Exchange<'c, Tx, Rx, F, S> {
    pub(crate) fn new(
        mut message: Tx,
        clocks: Clocks,
        is_idempotent: bool,
        home: Home<'c, Link<Tx, Rx, F, S>>,
    ) -> Self {
        message.prepare(clocks);
        let span = debug_span!("request", id = message.id(), outcome = field::Empty);
        Self {
            phase: Phase::Start,
            home,
            message: Message::Whole(message),
            wait: Wait::start(clocks),
            again: if is_idempotent { AGAIN } else { 0 },
            was_lost: false,
            failures: 0,
            cause: None,
            is_tainted: false,
            span,
        }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        match &self.message {
            Message::Whole(message) => message.id(),
            Message::Id(id) => id.as_deref(),
        }
    }

    /// The caller has seen a response: to send the request again would show it another.
    pub(crate) fn has_shown(&mut self) {
        self.again = 0;
        self.forget();
    }

    /// The request is not sent again: its id is enough.
    fn forget(&mut self) {
        if matches!(self.message, Message::Id(_)) {
            return;
        }
        let message = mem::replace(&mut self.message, Message::Id(None));
        self.message = Message::Id(match message {
            Message::Whole(message) => message.into_id(),
            Message::Id(id) => id,
        });
    }
}

impl<Tx, Rx, F, S> Exchange<'_, Tx, Rx, F, S> {
    /// Whether trying again was asked for.
    fn reconnects(&self) -> bool {
        self.home.pool().is_some_and(|pool| pool.connector.reconnect.is_some())
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Ends in an error.
    fn fail(&mut self, outcome: Outcome, kind: impl Into<Kind>) -> Error<Rx> {
        let error = Error::new(self.outcome(outcome), kind);
        debug!(parent: &self.span, %error, "the request failed");
        self.end(Some(error.outcome()), Instant::now());
        error
    }

    /// Of this attempt, `outcome` is true; of an attempt before it, more may be.
    fn outcome(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::NotSent | Outcome::Refused if self.was_lost => Outcome::Unknown,
            outcome => outcome,
        }
    }

    /// Closes the connection, if it was not given back, and counts.
    fn end(&mut self, outcome: Option<Outcome>, now: Instant) {
        self.phase = Phase::Over;
        self.home.release();
        let elapsed = now.duration_since(self.wait.started());
        if let Some(pool) = self.home.pool() {
            pool.counters.count(outcome, elapsed);
        }
        let outcome = outcome.map_or("ok", Outcome::name);
        self.span.record("outcome", outcome);
        debug!(parent: &self.span, outcome, ?elapsed, "the request has ended");
    }

    /// What is true of a request that is given up now.
    fn present_outcome(&self) -> Outcome {
        self.outcome(match &self.phase {
            Phase::Start | Phase::Opening(_) => Outcome::NotSent,
            Phase::Writing { link, size, .. } if link.channel.staged() == *size => Outcome::NotSent,
            Phase::Writing { .. } | Phase::Reading { .. } | Phase::Over => Outcome::Unknown,
        })
    }

    fn out_of_time(&mut self, clock: Clock, during: During) -> Error<Rx> {
        self.fail(self.present_outcome(), Kind::Clock { clock, during, cause: None })
    }
}

/// Given up before its end: the connection is closed, and that is how the server learns of it.
impl<Tx, Rx, F, S> Drop for Exchange<'_, Tx, Rx, F, S> {
    fn drop(&mut self) {
        if !self.is_over() {
            self.end(Some(self.present_outcome()), Instant::now());
        }
    }
}

impl<Tx, Rx, F, S> fmt::Debug for Exchange<'_, Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Start => "start",
            Phase::Opening(_) => "opening",
            Phase::Writing { .. } => "writing",
            Phase::Reading { .. } => "reading",
            Phase::Over => "over",
        };
        f.debug_struct("Exchange").field("phase", &phase).field("wait", &self.wait).finish()
    }
}
