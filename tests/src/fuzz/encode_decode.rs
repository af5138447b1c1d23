//! Fuzzes the way of messages into frames and back.

use arbitrary::Arbitrary;
use kakehi_channel::{
    BufferLimits, Channel, Decode, ErrorKind, Json, Refusal, Request, Response, Status,
    low_level::LowLevel,
};
use kakehi_sozu_format::Sozu;
use serde_json::{Map, Value};

use super::chunks;
use crate::wire::{Raw, Script, poll_once, sozu_frame};

#[derive(Arbitrary, Debug)]
struct Sending<'a> {
    initial: u8,
    max: u16,
    sizes: [u8; 4],
    messages: Vec<(Message<'a>, bool)>,
}

#[derive(Arbitrary, Debug)]
enum Message<'a> {
    Request {
        id: &'a str,
        worker_id: Option<u32>,
        timeout_ms: Option<u64>,
        deadline_ms: Option<u64>,
        command: Option<Any<'a>>,
    },
    Response {
        id: &'a str,
        status: u8,
        message: &'a str,
        content: Option<Any<'a>>,
        refused: Option<u8>,
    },
    Bytes(&'a [u8]),
}

/// Any JSON value, except for fractions that do not survive a round trip.
#[derive(Arbitrary, Debug)]
enum Any<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Half(i32),
    Text(&'a str),
    Array(Vec<Any<'a>>),
    Object(Vec<(&'a str, Any<'a>)>),
}

impl Any<'_> {
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(is) => (*is).into(),
            Self::Signed(number) => (*number).into(),
            Self::Unsigned(number) => (*number).into(),
            Self::Half(number) => (f64::from(*number) + 0.5).into(),
            Self::Text(text) => (*text).into(),
            Self::Array(values) => values.iter().map(Self::value).collect(),
            Self::Object(fields) => fields
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// A message to send: requests and responses in JSON, [`Raw`] bytes in the Sōzu format.
#[derive(Debug, PartialEq)]
enum Sent {
    Request(Request),
    Response(Response),
    Bytes(Raw),
}

/// Checks that messages within the limit are written as complete frames in their order, that other
/// messages write no byte, and that each frame decodes to its message.
///
/// # Panics
/// If the property does not hold.
pub fn encode_decode(data: &[u8]) {
    let Some(Sending { initial, max, sizes, messages }) = super::input(data) else { return };
    let limits = BufferLimits { initial: initial.into(), max: max.into() };
    let stream = || Script::writable(chunks(&sizes));
    let mut json = Channel::<(), (), Json, _>::with_limits(stream(), limits, limits);
    let mut sozu = Channel::<Raw, Raw, Sozu, _>::with_limits(stream(), limits, limits);
    let (mut json_wire, mut sozu_wire) = (vec![], vec![]);
    for (message, at_once) in messages {
        let sent = message.sent();
        let frame = sent.frame();
        let is_readable = sent.is_readable(&frame);
        assert!(!is_readable || sent.read(&frame) == sent);
        let before = json.staged() + sozu.staged();
        let staged = match &sent {
            Sent::Request(request) => json.stage(request),
            Sent::Response(response) => json.stage(response),
            Sent::Bytes(bytes) => sozu.stage(bytes),
        };
        let added = json.staged() + sozu.staged() - before;
        if frame.len() > limits.max || !is_readable {
            let error = staged.expect_err("it is over the limit, or too deep");
            let is_too_deep = !is_readable && error.kind() == ErrorKind::Unencodable;
            assert!(error.kind() == ErrorKind::TooLarge || is_too_deep, "{error}");
            assert_eq!(added, 0, "half a frame is staged");
            continue;
        }
        staged.expect("it fits");
        assert_eq!(added, frame.len());
        if matches!(sent, Sent::Bytes(_)) { &mut sozu_wire } else { &mut json_wire }.extend(frame);
        while at_once && poll_once(json.flush()).is_pending() {}
    }
    while poll_once(json.close()).is_pending() {}
    while poll_once(sozu.close()).is_pending() {}
    assert_eq!(json.get_ref().written(), json_wire, "these are not the frames in their order");
    assert_eq!(sozu.get_ref().written(), sozu_wire, "these are not the frames in their order");
    assert_eq!((json.memory(), sozu.memory()), (0, 0), "an idle channel holds no memory");
}

impl Sent {
    /// The expected frame.
    fn frame(&self) -> Vec<u8> {
        let written = match self {
            Self::Request(request) => serde_json::to_vec(request),
            Self::Response(response) => serde_json::to_vec(response),
            Self::Bytes(Raw(bytes)) => return sozu_frame(bytes),
        };
        [written.expect("its keys are strings"), vec![0]].concat()
    }

    /// Whether the frame can be decoded: JSON is read to a depth of 127 levels.
    fn is_readable(&self, frame: &[u8]) -> bool {
        let is_json = !matches!(self, Self::Bytes(_));
        !is_json || serde_json::from_slice::<Value>(&frame[..frame.len() - 1]).is_ok()
    }

    /// Decodes a frame as a message of the same kind.
    fn read(&self, frame: &[u8]) -> Self {
        let payload = &frame[..frame.len() - 1];
        match self {
            Self::Request(_) => Json::default().decode(payload).map(Self::Request),
            Self::Response(_) => Json::default().decode(payload).map(Self::Response),
            Self::Bytes(_) => Sozu.decode(&frame[8..]).map(Self::Bytes),
        }
        .expect("it was encoded")
    }
}

impl Message<'_> {
    fn sent(self) -> Sent {
        match self {
            Self::Request { id, worker_id, timeout_ms, deadline_ms, command } => {
                let command = command.as_ref().map(Any::value).filter(|value| !value.is_null());
                let request = Request::new(id);
                Sent::Request(Request { worker_id, timeout_ms, deadline_ms, command, ..request })
            }
            Self::Response { id, status, message, content, refused } => {
                let content = content.as_ref().map(Any::value).filter(|value| !value.is_null());
                let refused = refused.map(|number| pick(&REFUSALS, number));
                let response = Response::ok(id, message);
                let status = pick(&STATUSES, status);
                Sent::Response(Response { status, content, refused, ..response })
            }
            Self::Bytes(bytes) => Sent::Bytes(Raw(bytes.to_vec())),
        }
    }
}

const STATUSES: [Status; 3] = [Status::Ok, Status::Processing, Status::Error];

const REFUSALS: [Refusal; 8] = [
    Refusal::Denied,
    Refusal::Busy,
    Refusal::ShuttingDown,
    Refusal::Malformed,
    Refusal::TooLarge,
    Refusal::TooSlow,
    Refusal::Unsupported,
    Refusal::Other,
];

fn pick<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}
