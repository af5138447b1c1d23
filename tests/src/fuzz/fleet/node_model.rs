//! A model of the node: computes what the node may do from the messages that it received.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use kakehi_channel::Status;
use kakehi_fleet::scripted::{HeaderMap, Link, Message, Outgoing, StatusCode, message};
use tokio::time::{Instant, sleep};

use super::{KNOWN, Kind, decimal, frames, header, number, response, settle, sign, tasks};

/// How many requests the node accepts at once.
pub(super) const PLACES: usize = 4;

/// The time in which GO must come.
const GO_TIME: Duration = Duration::from_secs(5);

const GO_TIME_AT_LEAST: Duration = Duration::from_millis(4_995);

/// Shorter than the silence after which a client counts as gone.
const LIFE: Duration = Duration::from_secs(12);

/// The starts of the handler.
#[derive(Clone, Default)]
pub(super) struct Starts(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    new: Vec<(String, String)>,
    running: usize,
}

/// A handler that runs.
pub(super) struct Running(Starts);

impl Starts {
    pub(super) fn start(&self, who: String, id: String) -> Running {
        let mut log = self.0.lock().expect("no test panics with it");
        log.new.push((who, id));
        log.running += 1;
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.lock().expect("no test panics with it").running -= 1;
    }
}

/// An accepted request, as the broker sees it.
pub(super) struct Seen {
    pub(super) accept: String,
    pub(super) asked: String,
    pub(super) payload: Vec<u8>,
    id: String,
    inbox: String,
    at: Instant,
    /// The first GO.
    go: Option<Go>,
    is_started: bool,
    credit: u64,
    batches: Vec<Vec<u8>>,
    is_final: bool,
    /// No event allows the node to end the request early.
    is_healthy: bool,
    heard: Instant,
}

/// A GO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    Invalid,
    From(&'static str),
}

/// The inbox of a request or of a `settle`.
struct Inbox {
    subject: String,
    /// A request: what was asked, and its payload.
    request: Option<(String, Vec<u8>)>,
    is_answered: bool,
}

pub(super) struct Model {
    pub(super) link: Link,
    starts: Starts,
    is_unsigned: bool,
    subscriptions: Vec<(u64, String)>,
    inboxes: Vec<Inbox>,
    seen: Vec<Seen>,
    ids: HashSet<(String, String)>,
    /// The tasks of a node without requests.
    tasks: usize,
}

impl Model {
    /// The node has subscribed.
    pub(super) fn new(link: Link, starts: Starts, is_unsigned: bool) -> Self {
        let mut subscriptions = vec![];
        while let Some(outgoing) = link.next_outgoing() {
            if let Outgoing::Subscribe { number, subject, .. } = outgoing {
                subscriptions.push((number, subject));
            }
        }
        let (inboxes, seen, ids) = (vec![], vec![], HashSet::new());
        let tasks = tasks();
        Self { link, starts, is_unsigned, subscriptions, inboxes, seen, ids, tasks }
    }

    pub(super) fn seen(&self, of: u8) -> Option<&Seen> {
        self.seen.get(usize::from(of) % self.seen.len().max(1))
    }

    /// The number of an accepted request.
    pub(super) fn token(&self, of: u8) -> String {
        let token = self.seen(of).and_then(|seen| seen.accept.rsplit('.').next());
        token.unwrap_or("1").to_owned()
    }

    pub(super) fn request(&mut self, any: bool, payload: Vec<u8>, headers: HeaderMap) {
        let asked = if any { "any.role.web" } else { "node.web-1" };
        let request = Some((asked.to_owned(), payload.clone()));
        let reply = self.inbox(request);
        self.deliver(&format!("kakehi.{asked}"), Some(reply), headers, payload, None);
    }

    /// Control of the request `of`, whatever its headers say.
    pub(super) fn control(&mut self, of: u8, headers: HeaderMap, status: Option<StatusCode>) {
        let Some(seen) = self.seen(of) else { return };
        let subject = format!("kakehi.ctl.{}", seen.accept);
        self.deliver(&subject, None, headers, vec![], status);
    }

    /// Control with everything right.
    pub(super) fn good(&mut self, of: u8, kind: Kind, credit: u64) {
        let Some(seen) = self.seen(of) else { return };
        let mut headers = HeaderMap::new();
        headers.insert("Kakehi-Kind", kind.name());
        headers.insert("Kakehi-Credit", credit.to_string());
        headers.insert("Kakehi-Next", (seen.batches.len() + 1).to_string());
        if kind == Kind::Go {
            let signature = sign(&KNOWN, "go", &seen.asked, &seen.accept, &seen.payload);
            headers.insert("Kakehi-Signer", &*KNOWN.public);
            headers.insert("Kakehi-Signature", signature);
        }
        self.control(of, headers, None);
    }

    pub(super) fn settle(
        &mut self,
        of: u8,
        headers: HeaderMap,
        payload: Vec<u8>,
        to_control: bool,
    ) {
        let Some(seen) = self.seen(of) else { return };
        let control = format!("kakehi.ctl.{}", seen.accept);
        let subject = if to_control { control } else { "kakehi.node.web-1".to_owned() };
        let reply = self.inbox(None);
        self.deliver(&subject, Some(reply), headers, payload, None);
    }

    /// Any message to one of the subscriptions.
    pub(super) fn raw(
        &mut self,
        to: u8,
        token: &str,
        headers: HeaderMap,
        payload: Vec<u8>,
        reply: bool,
    ) {
        let Some((_, pattern)) = self.subscriptions.get(usize::from(to) % self.subscriptions.len())
        else {
            return;
        };
        let subject = pattern.replace('*', token);
        let is_request = headers.get("Kakehi-Kind").is_none();
        let asked = subject.strip_prefix("kakehi.").filter(|_| is_request).map(str::to_owned);
        let request = asked.map(|asked| (asked, payload.clone()));
        let reply = reply.then(|| self.inbox(request));
        self.deliver(&subject, reply, headers, payload, None);
    }

    fn inbox(&mut self, request: Option<(String, Vec<u8>)>) -> String {
        let subject = format!("_INBOX.c.{}", self.inboxes.len());
        self.inboxes.push(Inbox { subject: subject.clone(), request, is_answered: false });
        subject
    }

    fn deliver(
        &mut self,
        subject: &str,
        reply: Option<String>,
        headers: HeaderMap,
        payload: Vec<u8>,
        status: Option<StatusCode>,
    ) {
        let is_settle = reply.is_some()
            && headers.get("Kakehi-Kind").is_some_and(|kind| kind.as_str() == "settle");
        let mut message = message(subject.to_owned(), reply, headers, payload.into());
        message.status = status;
        if subject.starts_with("kakehi.ctl.") && !is_settle {
            self.note_control(&message);
        }
        let is_subscribed = |pattern: &str| {
            let (pattern, subject) = (pattern.split('.'), subject.split('.'));
            pattern.clone().count() == subject.clone().count()
                && pattern.zip(subject).all(|(pattern, token)| pattern == "*" || pattern == token)
        };
        let found = self.subscriptions.iter().find(|(_, pattern)| is_subscribed(pattern));
        if let Some((number, _)) = found {
            assert!(self.link.deliver(*number, message), "the node has ended a subscription");
        }
    }

    /// Notes what this control allows.
    fn note_control(&mut self, message: &Message) {
        let token = message.subject.rsplit('.').next().and_then(decimal);
        let is_unsigned = self.is_unsigned;
        let own = |seen: &&mut Seen| seen.accept.rsplit('.').next().and_then(decimal) == token;
        let Some(seen) = self.seen.iter_mut().find(own) else { return };
        if message.status.is_some() {
            seen.is_healthy = false;
            return;
        }
        let Some(kind) = header(message, "Kakehi-Kind").and_then(Kind::of) else { return };
        let now = Instant::now();
        if kind == Kind::Cancel || now - seen.heard > LIFE {
            seen.is_healthy = false;
        }
        seen.heard = now;
        if kind == Kind::Go && seen.go.is_none() && now - seen.at <= GO_TIME {
            seen.go = Some(seen.judge(message, is_unsigned));
            // The node noted the time of the accept a little earlier.
            seen.is_healthy &= now - seen.at < GO_TIME_AT_LEAST;
        }
        // Before GO, no control counts.
        if seen.go.is_some() {
            seen.credit = seen.credit.max(number(message, "Kakehi-Credit").unwrap_or(0));
        }
        // A client that acknowledges what it did not get may lose it.
        let most = seen.batches.len() as u64 + 1;
        if number(message, "Kakehi-Next").is_some_and(|next| next > most) {
            seen.is_healthy = false;
        }
    }

    /// Checks all that the node has sent and started since the last look.
    pub(super) fn look(&mut self) {
        while let Some(outgoing) = self.link.next_outgoing() {
            match outgoing {
                Outgoing::Publish { message, .. } => self.sent(&message),
                Outgoing::Subscribe { .. } | Outgoing::Unsubscribe { .. } => {
                    panic!("a node's subscriptions stay");
                }
            }
        }
        let new = std::mem::take(&mut self.starts.0.lock().expect("as above").new);
        for (who, id) in new {
            self.started(&who, &id);
        }
        // Each accepted request has a task here, one of the server's, and one of its handler.
        let most = self.tasks + 3 * PLACES;
        assert!(tasks() <= most, "{} tasks, over {most}", tasks());
    }

    fn started(&mut self, who: &str, id: &str) {
        let allowed = self.seen.iter_mut().find(|seen| {
            !seen.is_started && seen.id == id && seen.go == Some(Go::From(who_of(who)))
        });
        let seen = allowed.unwrap_or_else(|| panic!("{id:?} of {who} started without a valid GO"));
        seen.is_started = true;
        assert!(self.ids.insert((who.to_owned(), id.to_owned())), "{id:?} started twice");
    }

    fn sent(&mut self, message: &Message) {
        let found = self.inboxes.iter_mut().find(|inbox| *inbox.subject == *message.subject);
        let inbox = found.unwrap_or_else(|| panic!("{message:?} to no inbox"));
        if header(message, "Kakehi-Kind") == Some("accept") {
            assert!(!inbox.is_answered, "{message:?} is a second answer");
            inbox.is_answered = true;
            let (asked, payload) = inbox.request.clone().expect("a request was sent");
            let seen = Seen::new(message, inbox.subject.clone(), asked, payload);
            return self.seen.push(seen);
        }
        if number(message, "Kakehi-Seq").is_none() && header(message, "Kakehi-Kind").is_none() {
            // A refusal, or the presence.
            assert!(!inbox.is_answered, "{message:?} is a second answer");
            inbox.is_answered = true;
            return;
        }
        if let Some(seen) = self.seen.iter_mut().find(|seen| *seen.inbox == *message.subject) {
            seen.sent(message);
        }
    }

    /// Gives credit and acknowledges batches until all requests end, then checks that no handler runs and no task remains.
    pub(super) async fn finish(&mut self) {
        self.link.connect(true);
        for _ in 0..60 {
            let all = (0..).zip(&self.seen);
            let owed: Vec<u8> = all.filter(|(_, seen)| seen.is_owed()).map(|(of, _)| of).collect();
            if owed.is_empty() {
                break;
            }
            for of in owed {
                self.good(of, Kind::Alive, 10_000);
            }
            sleep(Duration::from_millis(100)).await;
            self.look();
        }
        for seen in &self.seen {
            assert!(!seen.is_owed(), "{} has no final response", seen.accept);
        }
        sleep(Duration::from_secs(40)).await;
        self.look();
        settle().await;
        assert_eq!(self.starts.0.lock().expect("as above").running, 0, "a handler runs on");
        assert_eq!(tasks(), self.tasks, "a task is left");
    }
}

impl Seen {
    fn new(message: &Message, inbox: String, asked: String, payload: Vec<u8>) -> Self {
        let accept = header(message, "Kakehi-Accept").expect("an accept names itself").to_owned();
        let reply = message.reply.as_ref().map(ToString::to_string);
        assert_eq!(reply, Some(format!("kakehi.ctl.{accept}")), "where the client answers");
        let request =
            payload.strip_suffix(b"\0").and_then(|json| serde_json::from_slice(json).ok());
        let request: serde_json::Value = request.expect("only a request is accepted");
        let id = request["id"].as_str().expect("it has an id").to_owned();
        let now = Instant::now();
        Self {
            accept,
            asked,
            payload,
            id,
            inbox,
            at: now,
            go: None,
            is_started: false,
            credit: 0,
            batches: vec![],
            is_final: false,
            is_healthy: true,
            heard: now,
        }
    }

    /// Whether the final response must still come.
    fn is_owed(&self) -> bool {
        self.go.is_some() && self.is_healthy && !self.is_final
    }

    /// Judges a GO.
    fn judge(&self, message: &Message, is_unsigned: bool) -> Go {
        let (signer, signature) =
            (header(message, "Kakehi-Signer"), header(message, "Kakehi-Signature"));
        if (signer, signature) == (None, None) {
            return if is_unsigned { Go::From("anonymous") } else { Go::Invalid };
        }
        let valid = sign(&KNOWN, "go", &self.asked, &self.accept, &self.payload);
        let is_valid = signer == Some(&KNOWN.public) && signature == Some(&valid);
        if is_valid { Go::From("anna") } else { Go::Invalid }
    }

    fn sent(&mut self, message: &Message) {
        let Some(seq) = number(message, "Kakehi-Seq") else { return };
        let is_final = header(message, "Kakehi-Final") == Some("true");
        assert!(self.go.is_some(), "a response before GO");
        let is_refusal = is_final && seq == 1 && !self.is_started;
        let is_within = seq <= self.credit || is_refusal;
        assert!(is_within, "batch {seq}, over the credit of {}", self.credit);
        let at = usize::try_from(seq).expect("it is within the credit").checked_sub(1);
        let at = at.expect("numbers begin with 1");
        if let Some(before) = self.batches.get(at) {
            assert_eq!(before[..], message.payload[..], "batch {seq} has changed");
            return;
        }
        assert_eq!(at, self.batches.len(), "a number is missing");
        assert!(!self.is_final, "a batch after the final response");
        self.is_final = is_final;
        let all = frames(&message.payload);
        for (at, frame) in all.iter().enumerate() {
            let response = response(frame).expect("it is a response");
            assert_eq!(response.id, self.id, "whose response is this");
            let is_last = at + 1 == all.len();
            assert_eq!(response.status != Status::Processing, is_final && is_last, "{response:?}");
        }
        self.batches.push(message.payload.to_vec());
    }
}

fn who_of(name: &str) -> &'static str {
    if name == "anna" { "anna" } else { "anonymous" }
}
