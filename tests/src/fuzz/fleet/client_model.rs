//! A model of the client: computes the results that a caller may see from the received messages.

use std::collections::{BTreeMap, VecDeque};

use futures::FutureExt;
use kakehi_channel::{Response, Status};
use kakehi_client::{Error, Outcome};
use kakehi_fleet::{
    Responses,
    scripted::{HeaderMap, Link, Message, Outgoing, StatusCode, message},
};
use serde_json::Value;

use super::{KNOWN, frames, header, number, response, shown, sign};

/// How many batches a node may be ahead of the reader.
const WINDOW: u64 = 16;

type Result = std::result::Result<Response, Error<Response>>;

/// One request as the broker and its caller see it.
struct Ask {
    id: String,
    any: bool,
    inbox: String,
    payload: Vec<u8>,
    responses: Option<Responses>,
    /// The accepts that came, in order, and the one that has GO.
    accepts: Vec<String>,
    go: Option<String>,
    signature: Option<String>,
    credit: u64,
    /// The number of the next batch, until the final one.
    next: Option<u64>,
    /// The frames that the caller must see next, each with the number of batches that are read then.
    expected: VecDeque<(Vec<u8>, u64)>,
    taken: u64,
    /// Final responses that came on another way: by a refusal, or by a settle.
    others: Vec<Vec<u8>>,
    is_never: bool,
    is_over: bool,
}

pub(super) struct Model {
    pub(super) link: Link,
    subscription: u64,
    asks: Vec<Ask>,
    /// The payload of each inbox's request.
    payloads: BTreeMap<String, Vec<u8>>,
}

impl Model {
    /// The client has subscribed to its inbox.
    pub(super) fn new(link: Link) -> Self {
        let Some(Outgoing::Subscribe { number, .. }) = link.next_outgoing() else {
            panic!("a client subscribes to its inbox first");
        };
        Self { link, subscription: number, asks: vec![], payloads: BTreeMap::new() }
    }

    /// A request was sent.
    pub(super) fn asked(&mut self, any: bool, responses: Responses) {
        let Some(Outgoing::Publish { message, .. }) = self.link.next_outgoing() else {
            panic!("the request is published");
        };
        let inbox = message.reply.expect("it has an inbox").to_string();
        let subject = if any { "kakehi.any.role.web" } else { "kakehi.node.web-1" };
        assert_eq!(*message.subject, *subject);
        self.payloads.insert(inbox.clone(), message.payload.to_vec());
        self.asks.push(Ask {
            id: responses.id().to_owned(),
            any,
            inbox,
            payload: message.payload.to_vec(),
            responses: Some(responses),
            accepts: vec![],
            go: None,
            signature: None,
            credit: 0,
            next: Some(1),
            expected: VecDeque::new(),
            taken: 0,
            others: vec![],
            is_never: false,
            is_over: false,
        });
    }

    fn at(&self, of: u8) -> usize {
        usize::from(of) % self.asks.len()
    }

    pub(super) fn id(&self, of: u8) -> &str {
        &self.asks[self.at(of)].id
    }

    pub(super) fn batch(&mut self, of: u8, ahead: i64, is_final: bool, payload: Vec<u8>) {
        let next = self.asks[self.at(of)].next.unwrap_or(1);
        let mut headers = HeaderMap::new();
        headers.insert("Kakehi-Seq", next.saturating_add_signed(ahead).to_string());
        if is_final {
            headers.insert("Kakehi-Final", "true");
        }
        self.deliver(of, headers, payload, Some("kakehi.ctl.web-1.E.1".to_owned()), None);
    }

    pub(super) fn deliver(
        &mut self,
        of: u8,
        headers: HeaderMap,
        payload: Vec<u8>,
        reply: Option<String>,
        status: Option<StatusCode>,
    ) {
        // Credit that the client published before counts for this message.
        self.look();
        let at = self.at(of);
        let ask = &mut self.asks[at];
        let mut message = message(ask.inbox.clone(), reply, headers, payload.into());
        message.status = status;
        ask.note(&message);
        assert!(self.link.deliver(self.subscription, message), "the inbox is open");
    }

    pub(super) fn deny(&mut self, of: u8) {
        let subject = if self.asks[self.at(of)].any { "any.role.web" } else { "node.web-1" };
        self.link.deny(format!("Permissions Violation for Publish to \"kakehi.{subject}\""));
    }

    pub(super) fn leave(&mut self, of: u8) {
        let at = self.at(of);
        self.asks[at].responses = None;
    }

    /// Checks all that the client has sent since the last look.
    pub(super) fn look(&mut self) {
        while let Some(outgoing) = self.link.next_outgoing() {
            let Outgoing::Publish { message, .. } = outgoing else {
                panic!("a client has one subscription");
            };
            let inbox = message.reply.as_ref().map(ToString::to_string);
            let ask = self.asks.iter_mut().find(|ask| Some(&ask.inbox) == inbox.as_ref());
            match ask {
                Some(ask) => ask.sent(&message),
                // To a node that sends to a request that is over.
                None => assert_eq!(header(&message, "Kakehi-Kind"), Some("cancel"), "{message:?}"),
            }
        }
    }

    pub(super) fn read(&mut self, of: u8, count: u8) {
        let at = self.at(of);
        for _ in 0..count {
            let ask = &mut self.asks[at];
            let Some(responses) = &mut ask.responses else { return };
            let Some(next) = responses.next().now_or_never() else { return ask.skip() };
            ask.seen(next);
        }
    }

    /// Reads each request to its end, which comes by its deadline at the latest.
    pub(super) async fn finish(&mut self) {
        self.link.connect(true);
        for at in 0..self.asks.len() {
            while let Some(responses) = &mut self.asks[at].responses {
                let next = responses.next().await;
                self.asks[at].seen(next);
                self.look();
            }
        }
    }
}

impl Ask {
    /// Notes what the client may make of this message.
    fn note(&mut self, message: &Message) {
        if message.status.is_some() {
            return;
        }
        let payload = message.payload.to_vec();
        match header(message, "Kakehi-Kind") {
            Some("accept") => {
                self.accepts.extend(header(message, "Kakehi-Accept").map(str::to_owned));
            }
            Some("settled") => self.note_settled(&payload),
            Some(_) => {}
            None => match number(message, "Kakehi-Seq") {
                Some(seq) => {
                    let is_final = header(message, "Kakehi-Final") == Some("true");
                    self.note_batch(seq, is_final, &payload);
                }
                None if !payload.is_empty() && self.go.is_none() => self.others.push(payload),
                None => {}
            },
        }
    }

    fn note_batch(&mut self, seq: u64, is_final: bool, payload: &[u8]) {
        if self.go.is_none() || self.next != Some(seq) || seq > self.credit {
            return;
        }
        self.next = (!is_final).then_some(seq + 1);
        if payload.is_empty() {
            // Read together with the next one.
            self.expected.push_back((vec![], seq));
            return;
        }
        let all = frames(payload);
        for (at, frame) in all.iter().enumerate() {
            let taken = if at + 1 == all.len() { seq } else { seq - 1 };
            self.expected.push_back((frame.to_vec(), taken));
        }
    }

    fn note_settled(&mut self, payload: &[u8]) {
        let answer: Option<Response> = payload.strip_suffix(b"\0").and_then(response);
        let Some(content) = answer.and_then(|answer| answer.content) else { return };
        match content["settled"].as_str() {
            Some("final") => {
                let response = content.get("response").unwrap_or(&Value::Null);
                self.others.push(serde_json::to_vec(response).expect("it is a value"));
            }
            Some("never") => self.is_never = true,
            _ => {}
        }
    }

    fn sent(&mut self, message: &Message) {
        let Some(kind) = header(message, "Kakehi-Kind") else {
            assert!(self.go.is_none(), "asked again after GO");
            return assert_eq!(message.payload, self.payload, "asked again otherwise");
        };
        if kind == "settle" {
            return assert!(self.go.is_some(), "settled before GO");
        }
        let accept = message.subject.strip_prefix("kakehi.ctl.").expect("it is control");
        let is_known = self.accepts.iter().any(|known| known == accept);
        assert!(is_known, "{kind} to {accept}, which did not accept");
        if kind == "cancel" {
            return;
        }
        let go = self.go.get_or_insert_with(|| accept.to_owned());
        assert_eq!(go, accept, "two accepts have GO");
        assert!(self.any || accept.starts_with("web-1."), "GO to {accept}, which was not asked");
        if kind == "go" {
            self.check_signature(header(message, "Kakehi-Signature"), accept);
        }
        let credit = number(message, "Kakehi-Credit").expect("each has credit");
        assert!(credit <= self.taken + WINDOW, "credit of {credit}, {} are read", self.taken);
        assert!(credit >= self.credit, "less credit than before");
        self.credit = credit;
    }

    fn check_signature(&mut self, signature: Option<&str>, accept: &str) {
        let Some(signature) = signature else { return };
        let asked = if self.any { "any.role.web" } else { "node.web-1" };
        // GO is repeated, and signing is slow.
        let valid =
            self.signature.get_or_insert_with(|| sign(&KNOWN, "go", asked, accept, &self.payload));
        assert_eq!(signature, *valid);
    }

    /// The caller saw this.
    fn seen(&mut self, next: Option<Result>) {
        let Some(next) = next else {
            assert!(self.is_over, "a stream ended without an outcome");
            self.responses = None;
            return;
        };
        assert!(!self.is_over, "{next:?} after the outcome");
        match next {
            Ok(seen) => {
                self.is_over = seen.status.is_final();
                if !self.is_next(&seen) {
                    let mut others = self.others.iter().flat_map(|other| frames(other));
                    let is_other = others.any(|frame| shown(frame).as_ref() == Some(&seen));
                    assert!(is_other, "{seen:?} is not the next response");
                }
            }
            Err(error) => {
                self.is_over = true;
                // A malformed frame is read too.
                self.skip();
                self.taken = self.expected.front().map_or(self.taken, |(_, taken)| *taken);
                self.failed(&error);
            }
        }
    }

    /// Takes the next of the expected frames, if it is this one.
    fn is_next(&mut self, seen: &Response) -> bool {
        self.skip();
        let Some((frame, taken)) = self.expected.front() else { return false };
        if shown(frame).as_ref() != Some(seen) {
            return false;
        }
        self.taken = *taken;
        self.expected.pop_front();
        self.skip();
        true
    }

    /// Keep-alives and empty batches are not shown.
    fn skip(&mut self) {
        while let Some((frame, taken)) = self.expected.front() {
            let is_shown = |response: Response| {
                response.id != self.id
                    || !(response.message.is_empty() && response.status == Status::Processing)
            };
            if !frame.is_empty() && response(frame).is_none_or(is_shown) {
                return;
            }
            self.taken = *taken;
            self.expected.pop_front();
        }
    }

    fn failed(&mut self, error: &Error<Response>) {
        let outcome = error.outcome();
        if outcome == Outcome::NotSent {
            assert!(self.go.is_none() || self.is_never, "{error}, but GO was sent");
        }
        if outcome == Outcome::Done {
            let frame = error.payload().unwrap_or_default();
            let is_ok = shown(frame).is_some_and(|response| response.status == Status::Ok);
            assert!(is_ok && response(frame).is_none(), "{error}");
        }
    }
}
