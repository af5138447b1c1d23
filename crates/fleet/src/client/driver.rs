//! The task of one request: it answers the node while the caller does something else.

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Message, Subject};
use bytes::Bytes;
use kakehi_client::{Outcome, Timeouts};
use serde::Deserialize;
use tokio::{
    sync::{Notify, broadcast::error::RecvError, mpsc},
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    Shared,
    exchange::{Action, End, Exchange, Fate},
    failure::Failure,
    inbox::Route,
    request::OnAccept,
};
use crate::{
    broker::Report,
    life::SILENCE,
    message::{Control, ControlKind, FromNode, Signature, ToNode},
    names::{Accept, Asked},
    node::frame,
    sign::{Purpose, signed_text},
};

/// How many batches a node may be ahead of the reader.
pub(super) const WINDOW: u64 = 16;

/// A timer that fires so much later says that this process was stopped.
const LATE: Duration = Duration::from_secs(1);

/// The items of the reader's channel.
#[derive(Debug)]
pub(super) enum Item {
    Frames(Bytes),
    /// The final response, from the node's memory: progress before it may be lost.
    Settled(Bytes),
    Failed(Failure),
}

/// The accept that gets GO. Not an item of the reader's channel, which would wake a reader that
/// waits for responses.
#[derive(Debug, Default)]
pub(super) struct Started {
    pub(super) accept: OnceLock<String>,
    pub(super) changed: Notify,
}

/// How many batches the reader has taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    count: AtomicU64,
    changed: Notify,
}

impl Taken {
    pub(super) fn add_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// A running request.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) asked: Asked,
    pub(super) id: String,
    pub(super) payload: Bytes,
    pub(super) timeouts: Timeouts,
    pub(super) route: Route,
    pub(super) items: mpsc::Sender<Item>,
    pub(super) taken: Arc<Taken>,
    pub(super) started: Arc<Started>,
    pub(super) on_accept: Option<OnAccept>,
    /// Where the node that accepted last listens.
    pub(super) control: Option<(Accept, Subject)>,
}

/// The timeout and the deadline of the caller.
struct Clocks {
    timeouts: Timeouts,
    deadline: Option<Instant>,
    /// Since when the reader has waited for a response.
    waiting_since: Instant,
    is_waiting: bool,
}

enum Event {
    Message(Option<Box<Message>>),
    Taken,
    Report(Result<Report, RecvError>),
    Left,
    Due,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut exchange = Exchange::new(self.asked.clone(), WINDOW, Instant::now());
        let mut reports = self.shared.connection.reports();
        let mut clocks = Clocks::new(self.timeouts);
        let mut seen = 0;
        // One for all waits: a new timer may wake the thread that waits for IO.
        let far = Instant::now() + SILENCE;
        let mut timer = pin!(sleep_until(far));
        loop {
            while let Some(action) = exchange.next_action() {
                if self.act(action, &mut clocks).await {
                    return;
                }
            }
            let due = [exchange.wake_at(), clocks.due()].into_iter().flatten().min();
            let due = due.unwrap_or_else(Instant::now);
            // It may fire too early: then there is nothing to do.
            if timer.is_elapsed() || due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            let event = tokio::select! {
                biased;
                message = self.route.messages.recv() => Event::Message(message),
                () = self.taken.changed.notified() => Event::Taken,
                report = reports.recv() => Event::Report(report),
                () = self.items.closed() => Event::Left,
                () = timer.as_mut() => Event::Due,
            };
            let now = Instant::now();
            match event {
                Event::Message(Some(message)) => self.message(&message, &mut exchange, now),
                Event::Message(None) | Event::Left => exchange.cancel(),
                Event::Taken => {
                    let count = self.taken.count.load(Ordering::Relaxed);
                    for _ in seen..count {
                        exchange.taken(now);
                    }
                    seen = count;
                    clocks.wait(self.items.capacity() == self.items.max_capacity(), now);
                }
                Event::Report(Ok(Report::Denied(text))) if self.concerns(&text) => {
                    exchange.denied(text);
                }
                Event::Report(Ok(Report::Reconnected) | Err(RecvError::Lagged(_))) => {
                    exchange.reconnected(now);
                }
                Event::Report(_) => {}
                Event::Due => {
                    if let Some(failure) = clocks.expired(now, exchange.accept().is_some()) {
                        let _ = self.items.try_send(Item::Failed(failure));
                        exchange.cancel();
                    }
                    exchange.tick(self.shared.connection.is_connected(), now);
                }
            }
        }
    }

    fn message(&self, message: &Message, exchange: &mut Exchange, now: Instant) {
        match FromNode::read(message) {
            Some(FromNode::Settled(frames)) => {
                let fate = exchange.accept().and_then(|accept| fate(&frames, accept));
                if let Some(fate) = fate {
                    exchange.fate(fate, now);
                }
            }
            Some(FromNode::Accept(accept)) => {
                exchange.message(FromNode::Accept(accept), now);
                if let Some(accept) = exchange.accept()
                    && self.started.accept.set(accept.to_string()).is_ok()
                {
                    // GO is published by the next action.
                    if let Some(call) = &self.on_accept {
                        call(&accept.to_string());
                    }
                    self.started.changed.notify_one();
                }
            }
            Some(message) => exchange.message(message, now),
            None => debug!("a message that is no response"),
        }
    }

    /// Whether the broker's denial names what this request publishes to.
    fn concerns(&self, text: &str) -> bool {
        text.contains(&format!("\"{}\"", self.shared.connection.subjects.of(&self.asked)))
    }

    /// `true`: the request is over.
    async fn act(&mut self, action: Action, clocks: &mut Clocks) -> bool {
        match action {
            Action::Ask => {
                let subject = self.shared.connection.subjects.of(&self.asked);
                self.publish(subject, ToNode::Request.write(), self.payload.clone()).await;
            }
            Action::Control(accept, control) => self.control(accept, control).await,
            Action::Settle(accept) => self.settle(accept).await,
            Action::Deliver { frames, is_final } => {
                clocks.wait(false, Instant::now());
                // Only a node that exceeds its credit fills the channel.
                if self.items.try_send(Item::Frames(frames)).is_err() {
                    debug!(
                        is_final,
                        "the reader was dropped, or the node sent more than its credit"
                    );
                }
            }
            Action::End(end) => {
                if let Some(item) = self.last_item(end) {
                    let _ = self.items.try_send(item);
                }
                return true;
            }
        }
        false
    }

    async fn control(&mut self, accept: Accept, mut control: Control) {
        let connection = &self.shared.connection;
        if control.kind == ControlKind::Go
            && let Some(signer) = &self.shared.signer
        {
            let prefix = connection.subjects.prefix();
            let public = signer.public_key();
            let text =
                signed_text(Purpose::Go, prefix, public, &self.asked, &accept, &self.payload);
            control.signature = Signature {
                signer: Some(public.to_owned()),
                signature: signer.sign(text.as_bytes()).ok(),
            };
        }
        let subject = match &self.control {
            Some((last, subject)) if *last == accept => subject.clone(),
            _ => {
                let subject = connection.subjects.control(&accept);
                self.control = Some((accept, subject.clone()));
                subject
            }
        };
        self.publish(subject, control.write(), Bytes::new()).await;
    }

    async fn settle(&self, accept: Accept) {
        let subjects = settle_subjects(&self.shared, &accept);
        let (headers, payload) = settle_message(&self.shared, accept, &self.id);
        for subject in subjects {
            self.publish(subject, headers.write(), payload.clone()).await;
        }
    }

    async fn publish(&self, subject: Subject, headers: async_nats::HeaderMap, payload: Bytes) {
        let reply = Some(self.route.subject.clone());
        if let Err(error) = self.shared.connection.publish(subject, reply, headers, payload).await {
            debug!(%error, "cannot publish");
        }
    }

    fn last_item(&self, end: End) -> Option<Item> {
        let asked = &self.asked;
        let failed =
            |outcome, message: String| Some(Item::Failed(Failure::Transport(outcome, message)));
        match end {
            End::Answered | End::Cancelled => None,
            End::Absent => {
                failed(Outcome::NotSent, format!("no node is connected that answers to {asked}"))
            }
            End::NotAccepted => {
                let message = format!("{asked} did not accept the request within 5 s: not started");
                failed(Outcome::NotSent, message)
            }
            End::Denied(why) => Some(Item::Failed(Failure::Denied(why))),
            End::Lost(Some(Fate::Final(frames))) => Some(Item::Settled(frames)),
            End::Lost(Some(Fate::Never)) => {
                let message = format!("{asked} did not start the request, and will not start it");
                failed(Outcome::NotSent, message)
            }
            End::Lost(fate) => {
                let why = match fate {
                    Some(Fate::Interrupted) => "the node restarted while the request ran",
                    Some(_) => "the node does not know any more what became of the request",
                    None => "the node does not answer",
                };
                failed(Outcome::Unknown, format!("lost {asked} after the start: {why}"))
            }
        }
    }
}

/// The subjects for a query of the outcome: of the process that accepted the request, and of the
/// node, because a new process of that name may know the outcome.
pub(super) fn settle_subjects(shared: &Shared, accept: &Accept) -> [Subject; 2] {
    let subjects = &shared.connection.subjects;
    [subjects.control(accept), subjects.of(&Asked::Node(accept.node.clone()))]
}

/// Returns the query for the outcome of the request `id`, which was accepted as `accept`.
pub(super) fn settle_message(shared: &Shared, accept: Accept, id: &str) -> (ToNode, Bytes) {
    let payload = frame(&kakehi_channel::Request::with_command(id, "settle"));
    let mut signature = Signature::default();
    if let Some(signer) = &shared.signer {
        let prefix = shared.connection.subjects.prefix();
        let asked = Asked::Node(accept.node.clone());
        let public = signer.public_key();
        let text = signed_text(Purpose::Settle, prefix, public, asked, &accept, &payload);
        signature.signer = Some(public.to_owned());
        signature.signature = signer.sign(text.as_bytes()).ok();
    }
    (ToNode::Settle { accept, signature }, payload)
}

/// Decodes the answer to a settle of `accept`.
pub(super) fn fate(frames: &[u8], accept: &Accept) -> Option<Fate> {
    #[derive(Deserialize)]
    struct Content {
        settled: String,
        epoch: Option<String>,
        response: Option<serde_json::Value>,
    }
    let text = frames.strip_suffix(b"\0")?;
    let answer: kakehi_channel::Response<Content> = serde_json::from_slice(text).ok()?;
    let Content { settled, epoch, response } = answer.content?;
    let is_elsewhere = epoch.is_some_and(|epoch| epoch != accept.epoch.as_str());
    match settled.as_str() {
        "final" => Some(Fate::Final(frame(&response?))),
        "running" => Some(Fate::Running),
        "never" => Some(Fate::Never),
        "interrupted" => Some(Fate::Interrupted),
        _ if is_elsewhere => Some(Fate::UnknownElsewhere),
        _ => Some(Fate::Forgotten),
    }
}

impl Clocks {
    fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        let deadline = timeouts.deadline.and_then(|deadline| now.checked_add(deadline));
        Self { timeouts, deadline, waiting_since: now, is_waiting: true }
    }

    /// The reader waits, or has something to read: then the timeout does not count.
    fn wait(&mut self, is_waiting: bool, now: Instant) {
        self.is_waiting = is_waiting;
        self.waiting_since = now;
    }

    fn timeout_at(&self) -> Option<Instant> {
        let timeout = self.timeouts.timeout.filter(|_| self.is_waiting)?;
        self.waiting_since.checked_add(timeout)
    }

    fn due(&self) -> Option<Instant> {
        [self.timeout_at(), self.deadline].into_iter().flatten().min()
    }

    fn expired(&mut self, now: Instant, is_started: bool) -> Option<Failure> {
        let outcome = if is_started { Outcome::Unknown } else { Outcome::NotSent };
        if let (Some(at), Some(after)) = (self.deadline, self.timeouts.deadline)
            && at <= now
        {
            return Some(Failure::Late { outcome, after, is_deadline: true });
        }
        let (at, after) = (self.timeout_at()?, self.timeouts.timeout?);
        if now.saturating_duration_since(at) > LATE {
            self.waiting_since = now;
            return None;
        }
        (at <= now).then_some(Failure::Late { outcome, after, is_deadline: false })
    }
}
