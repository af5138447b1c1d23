//! Fuzzes a node: the broker delivers any messages.

use std::time::Duration;

use arbitrary::Arbitrary;
use kakehi_channel::Request;
use kakehi_fleet::{
    Broker, Keys, Node,
    scripted::{HeaderMap, Link, StatusCode},
};
use kakehi_server::{Context, Handler, Limits};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    KNOWN, Key, Kind, RawHeaders, STRANGER,
    node_model::{Model, PLACES, Seen, Starts},
    settle, sign,
};

/// More would be too slow.
const MAX_STEPS: usize = 24;

#[derive(Arbitrary, Debug)]
struct Attack<'a> {
    is_unsigned: bool,
    steps: Vec<Step<'a>>,
}

/// One message of the broker, or something else that happens.
#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// A well-formed request; its handler sends so much progress with such pauses.
    Request {
        any: bool,
        id: u8,
        progress: u8,
        pause: u8,
        end: u8,
    },
    /// A request with any payload.
    Payload {
        any: bool,
        payload: &'a [u8],
    },
    /// Well-formed control of an accepted request.
    Control {
        of: u8,
        control: Control<'a>,
    },
    /// Control that confirms and acknowledges all.
    Good {
        of: u8,
        kind: Kind,
        credit: u8,
    },
    /// A query for the outcome.
    Settle {
        of: u8,
        id: u8,
        proof: Proof<'a>,
        to_control: bool,
    },
    /// Status 503 to a message of an accepted request.
    Unreachable {
        of: u8,
    },
    /// Any message to any subscription.
    Raw {
        to: u8,
        token: Token<'a>,
        headers: RawHeaders<'a>,
        payload: &'a [u8],
        reply: bool,
    },
    Wait {
        ms: u16,
    },
    Connect(bool),
}

#[derive(Arbitrary, Debug)]
struct Control<'a> {
    kind: Kind,
    credit: Option<u64>,
    next: Option<u64>,
    gap: bool,
    proof: Proof<'a>,
}

/// How a message is signed.
#[derive(Arbitrary, Debug)]
enum Proof<'a> {
    Good,
    None,
    /// By a key that the node does not know.
    Stranger,
    /// By a known key, in the name of another one.
    Borrowed,
    OtherAccept,
    OtherAsked,
    OtherPayload,
    OtherPurpose,
    Half,
    Text(&'a str),
}

/// The last token of a control subject.
#[derive(Arbitrary, Debug)]
enum Token<'a> {
    Of(u8),
    Text(&'a str),
}

/// Checks that no request starts without a valid GO, that each request ends once and within its
/// credit, that no id runs twice, and that the node removes ended requests.
///
/// # Panics
/// If the property does not hold.
pub fn fleet_node(data: &[u8]) {
    let Some(attack) = super::super::input::<Attack<'_>>(data) else { return };
    if attack.steps.len() <= MAX_STEPS {
        super::run(attack_node(attack));
    }
}

async fn attack_node(attack: Attack<'_>) {
    let link = Link::new("node");
    let starts = Starts::default();
    let keys = Keys::default().with_key(&KNOWN.public, "anna", ["sre"]);
    let node = Node::connect(Broker::scripted(link.clone()), "web-1")
        .labels("role=web".parse().expect("it is a label"))
        .keys(keys.expect("it is a key").unsigned(attack.is_unsigned))
        .limits(Limits { connections: PLACES, ..Limits::default() });
    let serving = tokio::spawn(node.serve(Scripted(starts.clone())));
    settle().await;
    let mut model = Model::new(link, starts, attack.is_unsigned);
    for step in attack.steps {
        act(&mut model, step).await;
        model.look();
    }
    model.finish().await;
    assert!(!serving.is_finished(), "the node has ended");
}

async fn act(model: &mut Model, step: Step<'_>) {
    match step {
        Step::Request { any, id, progress, pause, end } => {
            let command = json!([progress % 40, pause % 50, end % 4]);
            let payload = json!({"id": format!("id-{}", id % 8), "version": 0, "command": command});
            let payload = format!("{payload}\0").into_bytes();
            model.request(any, payload, HeaderMap::new());
        }
        Step::Payload { any, payload } => model.request(any, payload.to_vec(), HeaderMap::new()),
        Step::Control { of, control } => send_control(model, of, &control),
        Step::Good { of, kind, credit } => model.good(of, kind, u64::from(credit)),
        Step::Settle { of, id, proof, to_control } => {
            send_settle(model, of, id, &proof, to_control);
        }
        Step::Unreachable { of } => {
            model.control(of, HeaderMap::new(), Some(StatusCode::NO_RESPONDERS));
        }
        Step::Raw { to, token, headers, payload, reply } => {
            let token = match token {
                Token::Of(of) => model.token(of),
                // A broker delivers one token here.
                Token::Text(text) => text.replace(['.', ' ', '\r', '\n'], "_"),
            };
            model.raw(to, &token, super::headers(&headers), payload.to_vec(), reply);
        }
        Step::Wait { ms } => sleep(Duration::from_millis(ms.into())).await,
        Step::Connect(is_connected) => model.link.connect(is_connected),
    }
    settle().await;
}

fn send_control(model: &mut Model, of: u8, control: &Control<'_>) {
    let Some(seen) = model.seen(of) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("Kakehi-Kind", control.kind.name());
    for (name, value) in [("Kakehi-Credit", control.credit), ("Kakehi-Next", control.next)] {
        if let Some(value) = value {
            headers.insert(name, value.to_string());
        }
    }
    if control.gap {
        headers.insert("Kakehi-Gap", "true");
    }
    prove(&mut headers, &control.proof, "go", seen, &seen.asked, &seen.payload);
    model.control(of, headers, None);
}

fn send_settle(model: &mut Model, of: u8, id: u8, proof: &Proof<'_>, to_control: bool) {
    let Some(seen) = model.seen(of) else { return };
    let payload = json!({"id": format!("id-{}", id % 8), "version": 0, "command": "settle"});
    let payload = format!("{payload}\0").into_bytes();
    let mut headers = HeaderMap::new();
    headers.insert("Kakehi-Kind", "settle");
    headers.insert("Kakehi-Accept", seen.accept.as_str());
    prove(&mut headers, proof, "settle", seen, "node.web-1", &payload);
    model.settle(of, headers, payload, to_control);
}

fn prove(
    headers: &mut HeaderMap,
    proof: &Proof<'_>,
    purpose: &str,
    seen: &Seen,
    asked: &str,
    payload: &[u8],
) {
    let (known, stranger) = (&*KNOWN, &*STRANGER);
    let good = |key: &Key| sign(key, purpose, asked, &seen.accept, payload);
    let (signer, signature) = match proof {
        Proof::None => return,
        Proof::Good => (known.public.clone(), good(known)),
        Proof::Stranger => (stranger.public.clone(), good(stranger)),
        Proof::Borrowed => (known.public.clone(), good(stranger)),
        Proof::OtherAccept => {
            let other = format!("{}1", seen.accept);
            (known.public.clone(), sign(known, purpose, asked, other, payload))
        }
        Proof::OtherAsked => {
            (known.public.clone(), sign(known, purpose, "node.web-2", &seen.accept, payload))
        }
        Proof::OtherPayload => {
            (known.public.clone(), sign(known, purpose, asked, &seen.accept, b"{}\0"))
        }
        Proof::OtherPurpose => {
            let other = if purpose == "go" { "settle" } else { "go" };
            (known.public.clone(), sign(known, other, asked, &seen.accept, payload))
        }
        Proof::Half => {
            headers.insert("Kakehi-Signer", known.public.clone());
            return;
        }
        Proof::Text(text) => {
            let text: String = text.chars().filter(|char| !char.is_control()).collect();
            (known.public.clone(), text)
        }
    };
    headers.insert("Kakehi-Signer", signer);
    headers.insert("Kakehi-Signature", signature);
}

/// Follows its command: `[progress, pause in ms, end]`.
struct Scripted(Starts);

impl Handler<Value> for Scripted {
    type Answer = String;
    type Error = String;

    async fn handle(&self, request: Request<Value>, context: Context) -> Result<String, String> {
        let who = context.peer().identity.map(|who| who.name.clone());
        let _running = self.0.start(who.expect("a caller of the fleet has a name"), request.id);
        let step = |at| request.command.as_ref().and_then(|command| command.get(at)?.as_u64());
        let pause = Duration::from_millis(step(1).unwrap_or(0).min(50));
        for number in 0..step(0).unwrap_or(0).min(40) {
            context.progress(number.to_string()).await.map_err(|error| error.to_string())?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        match step(2) {
            Some(1) => Err("failed".to_owned()),
            // It does not call the panic hook, which libFuzzer takes for a crash.
            Some(2) => std::panic::resume_unwind(Box::new("as the command says")),
            Some(3) => {
                sleep(Duration::from_secs(1)).await;
                Ok("late".to_owned())
            }
            _ => Ok("done".to_owned()),
        }
    }
}
