//! Checks the exchanges of node and client with any messages of the broker. Public for fuzzing only;
//! not covered by semver.
//!
//! An input is a sequence of steps: messages of the broker, calls of the owner, and time. No task and
//! no runtime is involved, so a million inputs take seconds. The targets that run a whole node and a
//! whole client are slower, and check more.

#![allow(
    clippy::missing_panics_doc,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "it panics where a property does not hold"
)]

mod client;
mod node;

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Message, StatusCode};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    message::{Control, FromNode, NAMES, ToNode},
    scripted::message,
};

/// The maximum number of steps of one input.
const MAX_STEPS: usize = 64;

/// Values that the protocol knows, and some beside them.
const VALUES: [&str; 18] = [
    "go",
    "credit",
    "alive",
    "cancel",
    "accept",
    "probe",
    "settled",
    "settle",
    "true",
    "false",
    "web-1.E.1",
    "web-1.F.1",
    "web-2.E.1",
    "web-1.E.+1",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "",
];

/// Plays the steps of `data` with a node's exchange or with a client's.
pub fn check(data: &[u8]) {
    let mut input = Input { rest: data };
    let is_node = input.byte().is_multiple_of(2);
    let mut clock = Clock(Instant::now());
    if is_node {
        node::play(&mut input, &mut clock);
    } else {
        client::play(&mut input, &mut clock);
    }
}

/// The rest of the input. After its end, every byte is 0.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A number near `near`, or a large one.
    fn number(&mut self, near: u64) -> u64 {
        match self.byte() {
            0xff => u64::MAX,
            0xfe => u64::MAX / 2,
            byte => near.saturating_add_signed(i64::from(byte.cast_signed())),
        }
    }

    /// A value of a header: a known one, a number near `near`, or any text.
    fn value(&mut self, near: u64) -> String {
        match self.byte() % 32 {
            31 => {
                let count = usize::from(self.byte()) * 2;
                String::from_utf8_lossy(self.take(count)).into_owned()
            }
            at => match VALUES.get(usize::from(at)) {
                Some(value) => (*value).to_owned(),
                None => self.number(near).to_string(),
            },
        }
    }

    /// Any headers, as a client of NATS receives them: no value has a line break.
    fn headers(&mut self, near: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.byte() % 6 {
            let at = usize::from(self.byte()) % NAMES.len();
            let name = NAMES.get(at).copied().cloned();
            let value = self.value(near).parse::<HeaderValue>().ok();
            if let (Some(name), Some(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// Any message to an inbox.
    fn message(&mut self, near: u64) -> Message {
        let headers = self.headers(near);
        let count = usize::from(self.byte()) % 8;
        let payload = Bytes::copy_from_slice(self.take(count));
        let mut message = message("_INBOX.1".to_owned(), None, headers, payload);
        message.status = (self.byte() % 16 == 15).then_some(StatusCode::NO_RESPONDERS);
        message
    }
}

/// The time of a run.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Instant {
        self.0
    }

    /// Mostly milliseconds; up to 25 s, longer than every time of the protocol.
    fn advance(&mut self, input: &mut Input<'_>) {
        let byte = u64::from(input.byte());
        let ms = if byte < 128 { byte } else { (byte - 127) * 200 };
        self.0 += Duration::from_millis(ms);
    }
}

/// Reads `headers` as control, and checks that it is the same after writing and reading it.
fn control(headers: &HeaderMap) -> Option<Control> {
    let control = Control::read(headers)?;
    assert_eq!(Control::read(&control.write()).as_ref(), Some(&control));
    Some(control)
}

/// Reads a message to the client, and checks that it is the same after writing and reading it.
fn from_node(received: &Message) -> Option<FromNode> {
    let read = FromNode::read(received)?;
    if read != FromNode::Unreachable {
        let (headers, payload) = read.write();
        let again = FromNode::read(&message("_INBOX.1".to_owned(), None, headers, payload));
        assert_eq!(again.as_ref(), Some(&read));
    }
    Some(read)
}

/// Reads a message to a node, and checks that it is the same after writing and reading it.
fn to_node(headers: &HeaderMap) {
    if let Some(read) = ToNode::read(Some(headers)) {
        assert_eq!(ToNode::read(Some(&read.write())), Some(read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_holds_for_any_input() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let data: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(200).collect();
            check(&data);
        }
    }
}
