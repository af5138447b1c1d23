//! Receives the messages of the broker and hands them to the requests' tasks.

use std::{
    collections::HashMap,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_nats::{Message, Subject};
use bytes::Bytes;
use futures::StreamExt;
use kakehi_channel::Refusal;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, mpsc},
    task::yield_now,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    frames::{frame, refusal},
    ids::{Key, Origin, Settled},
    ledger::Ledger,
    listener::Door,
    merged::Merged,
    numbers::Numbers,
    presence::Presence,
    request::{Accepted, run},
};
use crate::{
    FleetError, Keys,
    broker::Connection,
    early::Early,
    message::{FromNode, Signature, ToNode},
    names::{Accept, Asked, Name, decimal},
    sign::{Purpose, signed_text},
};

/// The queue group of all nodes' subscriptions to requests.
const QUEUE: &str = "kakehi";

/// The maximum number of queued control messages of one request. A lost message does no harm,
/// because each message has the complete state.
const CONTROL: usize = 64;

/// The maximum size of all requests that wait for GO, in bytes. Their senders are not verified yet.
const UNSTARTED: usize = 32 * 1024 * 1024;

/// The maximum number of `settle` messages that are answered at once. Each may wait for the disk. A
/// client sends it again.
const SETTLING: usize = 64;

/// Less than each wait of a request.
const EARLY: Duration = Duration::from_secs(1);

/// The state that all requests of a node share.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) node: Name,
    pub(super) epoch: Name,
    pub(super) keys: Keys,
    /// Set before the first message is handled.
    pub(super) door: OnceLock<Door>,
    pub(super) places: Arc<Semaphore>,
    pub(super) ledger: Ledger,
    draining: CancellationToken,
    pub(super) presence: Presence,
    routes: Mutex<HashMap<u64, mpsc::Sender<Box<Message>>>>,
    numbers: Numbers,
    settling: Arc<Semaphore>,
    unstarted: Arc<Semaphore>,
}

/// The subscription that a message came by.
#[derive(Clone)]
enum Source {
    Request(Asked),
    Control,
    Presence,
}

/// The subscriptions of a node, in the order in which they end: to requests to any node of a label, to
/// requests to this node, and to all else.
#[derive(Default)]
pub(super) struct Subscriptions {
    any: Merged<Source>,
    own: Merged<Source>,
    others: Merged<Source>,
    /// Nothing waited: a request that comes is handled before control that comes with it.
    were_empty: bool,
    /// The last message came after nothing waited.
    is_first: bool,
}

impl Subscriptions {
    /// The next message; control comes before requests, but for the first after nothing waited.
    /// `None`: all subscriptions have ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Source, Message)>> {
        let Self { any, own, others, were_empty, is_first } = self;
        *is_first = mem::take(were_empty);
        let order = if *is_first { [any, own, others] } else { [others, any, own] };
        let mut is_open = false;
        for messages in order {
            match messages.poll_next_unpin(cx) {
                Poll::Ready(Some(next)) => return Poll::Ready(Some(next)),
                Poll::Ready(None) => {}
                Poll::Pending => is_open = true,
            }
        }
        *were_empty = true;
        if is_open { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        (node, epoch): (Name, Name),
        numbers: Numbers,
        (keys, ledger): (Keys, Ledger),
        places: usize,
        presence: Presence,
        draining: CancellationToken,
    ) -> Self {
        Self {
            connection,
            node,
            epoch,
            keys,
            door: OnceLock::new(),
            places: Arc::new(Semaphore::new(places)),
            ledger,
            settling: Arc::new(Semaphore::new(SETTLING)),
            unstarted: Arc::new(Semaphore::new(UNSTARTED)),
            draining,
            presence,
            routes: Mutex::default(),
            numbers,
        }
    }

    pub(super) fn routes(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Box<Message>>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server accepts no further requests.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Subscribes to all that a node listens to. Requests come last, so that their control is heard.
    pub(super) async fn subscribe(&self) -> Result<Subscriptions, FleetError> {
        let Connection { link, subjects, .. } = &self.connection;
        let mut subscriptions = Subscriptions::default();
        let Subscriptions { any, own, others, .. } = &mut subscriptions;
        let failed = |error: async_nats::SubscribeError| FleetError::subscribe(&error);
        let control = subjects.all_control(&self.node, &self.epoch);
        others.push(Source::Control, link.subscribe(control, None).await.map_err(failed)?);
        for subject in self.presence.subjects() {
            let messages = link.subscribe(subject, None).await.map_err(failed)?;
            others.push(Source::Presence, messages);
        }
        let labels = self.presence.labels().iter();
        let labels = labels.map(|(key, value)| Asked::Any(key.clone(), value.clone()));
        for asked in labels.chain([Asked::Node(self.node.clone())]) {
            let subject = subjects.of(&asked);
            let messages = link.subscribe(subject, Some(QUEUE)).await.map_err(failed)?;
            let requests = if matches!(asked, Asked::Any(..)) { &mut *any } else { &mut *own };
            requests.push(Source::Request(asked), messages);
        }
        Ok(subscriptions)
    }

    /// Handles messages until the connection is closed. Once `leave` completes, the node leaves the
    /// groups of its labels. Once `draining` completes, it leaves all groups and refuses further
    /// requests.
    pub(super) async fn dispatch(
        self: &Arc<Self>,
        mut subscriptions: Subscriptions,
        leave: impl Future<Output = ()>,
        draining: impl Future<Output = ()>,
    ) {
        let mut early = Early::new(EARLY);
        tokio::pin!(leave, draining);
        let mut is_member = true;
        let mut has_begun = false;
        let mut is_open = true;
        loop {
            let next = tokio::select! {
                biased;
                () = &mut draining, if is_open => {
                    is_open = false;
                    is_member = false;
                    subscriptions.any.clear();
                    subscriptions.own.clear();
                    None
                }
                () = &mut leave, if is_member => {
                    is_member = false;
                    subscriptions.any.clear();
                    None
                }
                next = poll_fn(|cx| subscriptions.poll_next(cx)) => match next {
                    Some(next) => Some(next),
                    None => return,
                },
                () = early.due(), if early.is_set() && is_open => None,
            };
            let Some((source, message)) = next else { continue };
            early.came();
            // The request's task accepts it first. A second task that were woken now, such as one
            // whose final response is acknowledged, would wake a second thread.
            let is_next = mem::take(&mut has_begun) && !subscriptions.is_first;
            if is_next && matches!(source, Source::Control) {
                yield_now().await;
            }
            has_begun = subscriptions.is_first && matches!(source, Source::Request(_));
            self.message(source, message).await;
        }
    }

    /// Handles a message. Only control is handled in place: the other futures are boxed, because the
    /// node keeps room for this one while it waits.
    async fn message(self: &Arc<Self>, source: Source, message: Message) {
        match source {
            Source::Control => match (ToNode::read(message.headers.as_ref()), &message.reply) {
                (Some(ToNode::Settle { accept, signature }), Some(inbox)) => {
                    self.begin_settle(accept, signature, inbox.clone(), message.payload);
                }
                _ => self.control(message),
            },
            Source::Presence => {
                Box::pin(self.presence.answer(&self.connection, &message)).await;
            }
            Source::Request(asked) => {
                let Some(inbox) = message.reply.clone() else { return };
                match ToNode::read(message.headers.as_ref()) {
                    Some(ToNode::Request) => {
                        Box::pin(self.request(asked, inbox, message)).await;
                    }
                    Some(ToNode::Settle { accept, signature }) => {
                        self.begin_settle(accept, signature, inbox, message.payload);
                    }
                    None => debug!("a message that is no request"),
                }
            }
        }
    }

    fn control(&self, message: Message) {
        let number = message.subject.rsplit('.').next().and_then(decimal);
        let route = number.and_then(|number| self.routes().get(&number).cloned());
        if let Some(route) = route
            && route.try_send(Box::new(message)).is_err()
        {
            debug!(number, "too much control of one request");
        }
    }

    async fn request(self: &Arc<Self>, asked: Asked, inbox: Subject, message: Message) {
        self.presence.count();
        let payload = message.payload;
        let id = match id_of(&payload) {
            Ok(id) => id,
            Err(why) => return self.refuse(&inbox, "", Refusal::Malformed, why).await,
        };
        if self.is_draining() {
            let why = "the node is shutting down";
            return self.refuse(&inbox, &id, Refusal::ShuttingDown, why).await;
        }
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.unstarted).try_acquire_many_owned(size);
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (Ok(place), Ok(unstarted)) = (place, memory) else {
            let why = "the node has its requests already";
            return self.refuse(&inbox, &id, Refusal::Busy, why).await;
        };
        let number = self.numbers.next();
        let (sender, control) = mpsc::channel(CONTROL);
        // Before the accept: GO may come at once.
        self.routes().insert(number, sender);
        let accept = Accept { node: self.node.clone(), epoch: self.epoch.clone(), number };
        let shared = Arc::clone(self);
        let unstarted = Some(unstarted);
        let control_subject = self.connection.subjects.control(&accept);
        tokio::spawn(run(Accepted {
            shared,
            accept,
            asked,
            id,
            payload,
            inbox,
            control_subject,
            control,
            place,
            unstarted,
        }));
    }

    async fn refuse(&self, inbox: &Subject, id: &str, why: Refusal, message: &str) {
        debug!(?why, message, "refused a request of the fleet");
        let (headers, payload) = FromNode::Refusal(refusal(id, why, message)).write();
        let published = self.connection.publish(inbox.clone(), None, headers, payload).await;
        if let Err(error) = published {
            debug!(%error, "cannot say so");
        }
    }

    /// Answers in a task of its own, because the journal may have to be written.
    fn begin_settle(
        self: &Arc<Self>,
        accept: Accept,
        signature: Signature,
        inbox: Subject,
        payload: Bytes,
    ) {
        let Ok(permit) = Arc::clone(&self.settling).try_acquire_owned() else {
            return debug!("too many requests are settled");
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.settle(&accept, &signature, inbox, &payload).await;
            drop(permit);
        });
    }

    async fn settle(
        &self,
        accept: &Accept,
        signature: &Signature,
        inbox: Subject,
        payload: &Bytes,
    ) {
        let Ok(id) = id_of(payload) else { return };
        let prefix = self.connection.subjects.prefix();
        let asked = Asked::Node(self.node.clone());
        let text =
            |signer: &str| signed_text(Purpose::Settle, prefix, signer, &asked, accept, payload);
        let (signer, given) = (signature.signer.as_deref(), signature.signature.as_deref());
        if let Err(error) = self.keys.verify(signer, given, text) {
            return self.refuse(&inbox, &id, Refusal::Denied, &error.to_string()).await;
        }
        let key = Key { signer: signature.signer.clone().unwrap_or_default(), id: id.clone() };
        // The secret of an earlier process is not known; its numbers are taken as they come.
        let is_given = accept.epoch != self.epoch || self.numbers.is_given(accept.number);
        let settled = if is_given {
            let origin = Origin { epoch: accept.epoch.clone(), number: accept.number };
            let Some(settled) = self.ledger.settle(&key, &origin).await else { return };
            settled
        } else {
            Settled::Forgotten
        };
        let (headers, payload) =
            FromNode::Settled(settled_frame(&id, &self.epoch, settled)).write();
        if let Err(error) = self.connection.publish(inbox, None, headers, payload).await {
            debug!(%error, "cannot answer a settle");
        }
    }
}

/// The id of the one request that the payload must be.
fn id_of(payload: &[u8]) -> Result<String, &'static str> {
    #[derive(Deserialize)]
    struct Head {
        id: String,
    }
    let frame = payload.strip_suffix(b"\0").ok_or("the request does not end in NUL")?;
    if memchr::memchr(0, frame).is_some() {
        return Err("more than one request in a message");
    }
    if !frame.trim_ascii_start().starts_with(b"{") {
        return Err("a request is a JSON object");
    }
    let head: Head = serde_json::from_slice(frame).map_err(|_| "a request has an id")?;
    if head.id.is_empty() || head.id.len() > 256 {
        return Err("the id of a request has 1 to 256 bytes");
    }
    Ok(head.id)
}

/// The answer to a settle: OK, with the outcome and, for `final`, the response as content.
fn settled_frame(id: &str, epoch: &Name, settled: Settled) -> Bytes {
    #[derive(Serialize)]
    struct Content<'a> {
        settled: &'static str,
        epoch: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        response: Option<serde_json::Value>,
    }
    let (settled, response) = match settled {
        Settled::Final(response) => (
            "final",
            serde_json::from_slice(response.strip_suffix(b"\0").unwrap_or(&response)).ok(),
        ),
        Settled::Running => ("running", None),
        Settled::Never => ("never", None),
        Settled::Interrupted => ("interrupted", None),
        Settled::Forgotten => ("forgotten", None),
    };
    let content = Content { settled, epoch: epoch.as_str(), response };
    frame(&kakehi_channel::Response::ok(id, settled).with_content(content))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use async_nats::HeaderMap;

    use super::*;

    #[test]
    fn a_message_is_one_request_with_an_id() {
        assert_eq!(id_of(b"{\"id\":\"a\",\"version\":0}\0").unwrap(), "a");
        for bad in [
            &b""[..],
            b"{\"id\":\"a\"}",
            b"{\"id\":\"a\"}\0{\"id\":\"b\"}\0",
            b"[\"a\"]\0",
            b"{\"id\":\"\"}\0",
            b"{}\0",
            b"\0",
            b"\xff\xfe\0",
        ] {
            assert!(id_of(bad).is_err(), "{bad:?}");
        }
        let long = format!("{{\"id\":\"{}\"}}\0", "x".repeat(300));
        assert!(id_of(long.as_bytes()).is_err());
    }

    #[tokio::test]
    async fn control_comes_before_requests_but_for_the_first_after_nothing_waited() {
        let (requests, receiver) = mpsc::unbounded_channel();
        let (control, others) = mpsc::unbounded_channel();
        let stream = |mut receiver: mpsc::UnboundedReceiver<&'static str>| {
            futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|subject| {
                crate::scripted::message(subject.into(), None, HeaderMap::new(), Bytes::new())
            })
        };
        let mut subscriptions = Subscriptions::default();
        let asked = Asked::Node("web-1".parse().unwrap());
        subscriptions.own.push(Source::Request(asked), Box::pin(stream(receiver)));
        subscriptions.others.push(Source::Control, Box::pin(stream(others)));
        let mut next = || {
            let polled = subscriptions.poll_next(&mut Context::from_waker(Waker::noop()));
            polled.map(|next| next.map(|(_, message)| message.subject.to_string()))
        };
        assert_eq!(next(), Poll::Pending);
        for at in ["1", "2"] {
            requests.send(at).unwrap();
        }
        for at in ["a", "b"] {
            control.send(at).unwrap();
        }
        for expected in ["1", "a", "b", "2"] {
            assert_eq!(next(), Poll::Ready(Some(expected.to_owned())));
        }
        drop((requests, control));
        assert_eq!(next(), Poll::Ready(None));
    }

    #[test]
    fn the_answer_to_a_settle_carries_the_response() {
        let response = frame(&kakehi_channel::Response::<()>::ok("a", "done"));
        let frame = settled_frame("a", &"E".parse().unwrap(), Settled::Final(response));
        let text = std::str::from_utf8(&frame).unwrap().trim_end_matches('\0');
        let answer: kakehi_channel::Response = serde_json::from_str(text).unwrap();
        let content = answer.content.unwrap();
        assert_eq!((answer.message.as_str(), &content["settled"]), ("final", &"final".into()));
        assert_eq!(content["response"]["message"], "done");
    }
}
