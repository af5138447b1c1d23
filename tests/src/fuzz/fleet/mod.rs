//! Code of both fleet targets: headers, signatures, and a runtime for each input.

mod client;
mod client_model;
mod node;
mod node_model;

use std::{fmt::Display, sync::LazyLock, time::Duration};

use arbitrary::Arbitrary;
use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_channel::{Response, ResponseMessage};
use kakehi_fleet::{
    Signer,
    scripted::{HeaderMap, HeaderName, HeaderValue, Message},
};
use nkeys::{KeyPair, KeyPairType};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{runtime::Builder, time::sleep};

pub use kakehi_fleet::exchanges::check as fleet_exchanges;

pub use self::{client::fleet_client, node::fleet_node};

/// The names of all headers of the protocol, and one of another.
const NAMES: [&str; 10] = [
    "Kakehi-Kind",
    "Kakehi-Accept",
    "Kakehi-Credit",
    "Kakehi-Next",
    "Kakehi-Gap",
    "Kakehi-Seq",
    "Kakehi-Final",
    "Kakehi-Signer",
    "Kakehi-Signature",
    "Other",
];

/// Headers as the input has them: the number of a name, and a value.
type RawHeaders<'a> = Vec<(u8, &'a str)>;

/// The kind of a control message.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Go,
    Credit,
    Alive,
    Cancel,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Credit => "credit",
            Self::Alive => "alive",
            Self::Cancel => "cancel",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Go, Self::Credit, Self::Alive, Self::Cancel].into_iter().find(|k| k.name() == name)
    }
}

/// A key that is the same in each run.
struct Key {
    pair: KeyPair,
    public: String,
}

impl Key {
    fn new(number: u8) -> Self {
        let pair = KeyPair::new_from_raw(KeyPairType::User, [number; 32]);
        let pair = pair.expect("32 bytes are a key");
        Self { public: pair.public_key(), pair }
    }
}

/// The key that the node knows.
static KNOWN: LazyLock<Key> = LazyLock::new(|| Key::new(1));

static STRANGER: LazyLock<Key> = LazyLock::new(|| Key::new(2));

fn signer() -> Signer {
    Signer::from_seed(&KNOWN.pair.seed().expect("it has one")).expect("it is a user's")
}

/// Signs as docs/protocol.md says.
fn sign(
    key: &Key,
    purpose: &str,
    asked: impl Display,
    accept: impl Display,
    payload: &[u8],
) -> String {
    let digest = format!("{:x}", Sha256::digest(payload));
    let signer = &key.public;
    let text = format!("kakehi-{purpose}-0\nkakehi\n{signer}\n{asked}\n{accept}\n{digest}");
    STANDARD.encode(key.pair.sign(text.as_bytes()).expect("a key with a seed signs"))
}

/// The headers as a client of NATS receives them: no value contains a line break.
fn headers(raw: &RawHeaders<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in raw {
        let name = NAMES[usize::from(*name) % NAMES.len()];
        if let Ok(value) = value.parse::<HeaderValue>() {
            headers.append(name.parse::<HeaderName>().expect("it is a name"), value);
        }
    }
    headers
}

/// The first value of a header; the protocol reads values of at most 256 bytes.
fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let (_, values) =
        message.headers.as_ref()?.iter().find(|(key, _)| AsRef::<str>::as_ref(*key) == name)?;
    values.first().map(HeaderValue::as_str).filter(|value| value.len() <= 256)
}

fn number(message: &Message, name: &str) -> Option<u64> {
    header(message, name).and_then(decimal)
}

fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The frames of a payload, each ended by NUL or by the end.
fn frames(payload: &[u8]) -> Vec<&[u8]> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    payload.split(|byte| *byte == 0).collect()
}

fn response(frame: &[u8]) -> Option<Response<Value>> {
    serde_json::from_slice(frame).ok()
}

/// The response that a client shows for a frame: without its content, if this is unknown.
fn shown(frame: &[u8]) -> Option<Response<Value>> {
    response(frame).or_else(|| ResponseMessage::envelope(frame))
}

/// Runs `future` in paused time, in a runtime of its own, and drops all of its tasks.
fn run<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without IO needs nothing").block_on(future)
}

/// Lets every task run until all wait, and advances the time by 1 ms.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// The number of tasks of this runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
