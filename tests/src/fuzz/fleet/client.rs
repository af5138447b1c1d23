//! Fuzzes a client: the broker delivers any messages.

use std::time::Duration;

use arbitrary::Arbitrary;
use kakehi_channel::Request;
use kakehi_fleet::{
    Broker, Fleet,
    scripted::{HeaderMap, Link, StatusCode},
};
use serde_json::json;
use tokio::time::sleep;

use super::{RawHeaders, client_model::Model, settle, signer, tasks};

/// More would be too slow.
const MAX_STEPS: usize = 32;

/// More than the silence after which a node counts as gone, and the time to settle.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many requests one input makes.
const REQUESTS: usize = 2;

#[derive(Arbitrary, Debug)]
struct Attack<'a> {
    is_signed: bool,
    asks: [Ask; REQUESTS],
    steps: Vec<Step<'a>>,
}

/// How a request is made.
#[derive(Arbitrary, Debug)]
struct Ask {
    any: bool,
    timeout: bool,
}

/// One message of the broker, or something else that happens.
#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Accept {
        of: u8,
        from: From,
        number: u8,
    },
    /// A batch with a number near the expected one.
    Batch {
        of: u8,
        ahead: i8,
        is_final: bool,
        frames: Frames<'a>,
    },
    /// As many batches, one after another.
    Stream {
        of: u8,
        count: u8,
    },
    Refusal {
        of: u8,
        frames: Frames<'a>,
    },
    Settled {
        of: u8,
        word: u8,
        other_epoch: bool,
        frames: Frames<'a>,
    },
    Probe {
        of: u8,
    },
    Unreachable {
        of: u8,
    },
    /// Any message, to a request or to none.
    Raw {
        of: u8,
        headers: RawHeaders<'a>,
        payload: &'a [u8],
        reply: Option<&'a str>,
    },
    /// The caller reads so many responses that have come.
    Read {
        of: u8,
        count: u8,
    },
    /// The caller drops the responses.
    Leave {
        of: u8,
    },
    Deny {
        of: u8,
    },
    Connect(bool),
    Wait {
        ms: u16,
    },
}

/// The node that an accept names.
#[derive(Arbitrary, Debug)]
enum From {
    Asked,
    Second,
    Another,
}

/// The frames of a payload.
#[derive(Arbitrary, Debug)]
enum Frames<'a> {
    Progress(u8),
    Ok,
    Error,
    Refused,
    /// Of the other request.
    Other,
    Bytes(&'a [u8]),
}

/// Checks that each request has one GO and one outcome, that its responses are those of the
/// expected batches in order, and that the node may never be further ahead than the window.
///
/// # Panics
/// If the property does not hold.
pub fn fleet_client(data: &[u8]) {
    let Some(attack) = super::super::input::<Attack<'_>>(data) else { return };
    if attack.steps.len() <= MAX_STEPS {
        super::run(attack_client(attack));
    }
}

async fn attack_client(attack: Attack<'_>) {
    let link = Link::new("client");
    let fleet = Fleet::connect(Broker::scripted(link.clone())).await.expect("it is scripted");
    let fleet = if attack.is_signed { fleet.signed_by(signer()) } else { fleet };
    let idle = tasks();
    let mut model = Model::new(link);
    for (at, ask) in attack.asks.iter().enumerate() {
        let target = if ask.any { fleet.any("role", "web") } else { fleet.node("web-1") };
        let request = Request::with_command(format!("id-{at}"), json!("ls"));
        let timeout = ask.timeout.then_some(Duration::from_secs(10));
        let request = target.expect("it is a name").message(request);
        let request = request.timeout(timeout).deadline(DEADLINE);
        let responses = request.send().await.expect("it is connected");
        settle().await;
        model.asked(ask.any, responses);
    }
    for step in attack.steps {
        act(&mut model, step).await;
        settle().await;
        model.look();
    }
    model.finish().await;
    // Whatever a task waits for, it ends at the deadline of its request.
    for _ in 0..DEADLINE.as_secs() {
        if tasks() > idle {
            sleep(Duration::from_secs(1)).await;
        }
    }
    model.look();
    assert_eq!(tasks(), idle, "a task is left");
    drop(fleet);
}

async fn act(model: &mut Model, step: Step<'_>) {
    match step {
        Step::Accept { of, from, number } => {
            let node = match from {
                From::Asked => "web-1.E",
                From::Second => "web-1.F",
                From::Another => "web-2.E",
            };
            let accept = format!("{node}.{number}");
            let mut headers = kind("accept");
            headers.insert("Kakehi-Accept", accept.as_str());
            model.deliver(of, headers, vec![], Some(format!("kakehi.ctl.{accept}")), None);
        }
        Step::Batch { of, ahead, is_final, frames } => {
            let payload = frames.payload(model.id(of));
            model.batch(of, ahead.into(), is_final, payload);
        }
        Step::Stream { of, count } => {
            for number in 0..count % 40 {
                let payload = Frames::Progress(number).payload(model.id(of));
                model.batch(of, 0, false, payload);
                settle().await;
            }
        }
        Step::Refusal { of, frames } => {
            let payload = frames.payload(model.id(of));
            model.deliver(of, HeaderMap::new(), payload, None, None);
        }
        Step::Settled { of, word, other_epoch, frames } => {
            let payload = settled(model.id(of), word, other_epoch, &frames);
            model.deliver(of, kind("settled"), payload, None, None);
        }
        Step::Probe { of } => model.deliver(of, kind("probe"), vec![], None, None),
        Step::Unreachable { of } => {
            let status = Some(StatusCode::NO_RESPONDERS);
            model.deliver(of, HeaderMap::new(), vec![], None, status);
        }
        Step::Raw { of, headers, payload, reply } => {
            let reply = reply.map(|reply| format!("kakehi.ctl.{}", reply.replace(' ', "_")));
            model.deliver(of, super::headers(&headers), payload.to_vec(), reply, None);
        }
        Step::Read { of, count } => model.read(of, count),
        Step::Leave { of } => model.leave(of),
        Step::Deny { of } => model.deny(of),
        Step::Connect(is_connected) => model.link.connect(is_connected),
        Step::Wait { ms } => sleep(Duration::from_millis(ms.into())).await,
    }
}

fn kind(kind: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Kakehi-Kind", kind);
    headers
}

fn settled(id: &str, word: u8, other_epoch: bool, frames: &Frames<'_>) -> Vec<u8> {
    let words = ["final", "running", "never", "interrupted", "forgotten", "other"];
    let payload = frames.payload(id);
    let response = super::frames(&payload)[0];
    let response: serde_json::Value = serde_json::from_slice(response).unwrap_or_default();
    let content = json!({
        "settled": words[usize::from(word) % words.len()],
        "epoch": if other_epoch { "X" } else { "E" },
        "response": response,
    });
    format!("{}\0", json!({"id": id, "status": "OK", "message": "", "content": content})).into()
}

impl Frames<'_> {
    fn payload(&self, id: &str) -> Vec<u8> {
        let (id, status, message) = match self {
            Self::Progress(number) => (id, "PROCESSING", number.to_string()),
            Self::Ok => (id, "OK", "done".to_owned()),
            Self::Error => (id, "ERROR", "failed".to_owned()),
            Self::Refused => {
                let refused =
                    json!({"id": id, "status": "ERROR", "message": "no", "refused": "busy"});
                return format!("{refused}\0").into();
            }
            Self::Other => ("id-9", "OK", "done".to_owned()),
            Self::Bytes(bytes) => return bytes.to_vec(),
        };
        format!("{}\0", json!({"id": id, "version": 0, "status": status, "message": message}))
            .into()
    }
}
