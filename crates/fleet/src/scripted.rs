//! A link whose messages a script moves: for the simulation and for fuzzing. Public for fuzzing
//! only; not covered by semver.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

pub use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, StatusCode};
use bytes::Bytes;
use futures::Stream;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

use crate::broker::Report;

/// How many messages of one subscription may wait, as in the client of NATS. More are lost.
const CAPACITY: usize = 65_536;

/// One connection to a broker that a script plays. Cheap to clone.
#[derive(Clone)]
pub struct Link(Arc<Mutex<State>>);

struct State {
    name: String,
    inboxes: u64,
    is_connected: bool,
    last: u64,
    subscriptions: BTreeMap<u64, mpsc::Sender<Message>>,
    outgoing: VecDeque<Outgoing>,
    reports: broadcast::Sender<Report>,
}

/// A message from a process to its broker.
#[derive(Debug)]
pub enum Outgoing {
    /// A message that was published at this time.
    Publish {
        /// The time of the publication.
        at: Instant,
        /// The message, with its subject.
        message: Message,
    },
    /// A subscription.
    Subscribe {
        /// The number of the subscription, which [`Link::deliver`] takes.
        number: u64,
        /// The subject, with wildcards.
        subject: String,
        /// The queue group.
        queue: Option<String>,
    },
    /// The end of a subscription.
    Unsubscribe {
        /// The number of the subscription.
        number: u64,
    },
}

impl Link {
    /// A connected link; `name` is part of its inboxes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(State {
            name: name.into(),
            inboxes: 0,
            is_connected: true,
            last: 0,
            subscriptions: BTreeMap::new(),
            outgoing: VecDeque::new(),
            reports: broadcast::channel(64).0,
        })))
    }

    /// Removes the oldest message to the broker, and returns it.
    #[must_use]
    pub fn next_outgoing(&self) -> Option<Outgoing> {
        self.lock().outgoing.pop_front()
    }

    /// Delivers a message to a subscription. `false`: the subscription has ended, or its queue is
    /// full.
    #[must_use]
    pub fn deliver(&self, number: u64, message: Message) -> bool {
        let sender = self.lock().subscriptions.get(&number).cloned();
        sender.is_some_and(|sender| sender.try_send(message).is_ok())
    }

    /// Ends the connection, or makes a new one.
    pub fn connect(&self, is_connected: bool) {
        let mut state = self.lock();
        state.is_connected = is_connected;
        if is_connected {
            // Fails without a receiver.
            let _ = state.reports.send(Report::Reconnected);
        }
    }

    /// Reports that the broker denies a subject, as its message `text` says.
    pub fn deny(&self, text: impl Into<String>) {
        // Fails without a receiver.
        let _ = self.lock().reports.send(Report::Denied(text.into()));
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().is_connected
    }

    pub(crate) fn reports(&self) -> broadcast::Sender<Report> {
        self.lock().reports.clone()
    }

    pub(crate) fn new_inbox(&self) -> String {
        let mut state = self.lock();
        state.inboxes += 1;
        format!("_INBOX.{}-{}", state.name, state.inboxes)
    }

    pub(crate) fn subscribe(&self, subject: String, queue: Option<&str>) -> Subscription {
        let (sender, messages) = mpsc::channel(CAPACITY);
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.subscriptions.insert(number, sender);
        let queue = queue.map(str::to_owned);
        state.outgoing.push_back(Outgoing::Subscribe { number, subject, queue });
        Subscription { number, messages, link: self.clone() }
    }

    pub(crate) fn publish(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: HeaderMap,
        payload: Bytes,
    ) {
        let reply = reply.map(str::to_owned);
        let message = message(subject.to_owned(), reply, headers, payload);
        self.lock().outgoing.push_back(Outgoing::Publish { at: Instant::now(), message });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as it arrives.
#[must_use]
pub fn message(
    subject: String,
    reply: Option<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Message {
    Message {
        subject: subject.into(),
        reply: reply.map(Into::into),
        length: payload.len(),
        payload,
        headers: (!headers.is_empty()).then_some(headers),
        status: None,
        description: None,
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.lock().name).finish()
    }
}

/// The messages of one subscription.
pub(crate) struct Subscription {
    number: u64,
    messages: mpsc::Receiver<Message>,
    link: Link,
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.subscriptions.remove(&self.number);
        let number = self.number;
        state.outgoing.push_back(Outgoing::Unsubscribe { number });
    }
}
