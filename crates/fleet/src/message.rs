//! The messages of the protocol: headers to values and back.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message, StatusCode};
use bytes::Bytes;

use crate::names::{Accept, decimal};

// Made once: a name made of text is checked and allocated each time.
static KIND: HeaderName = HeaderName::from_static("Kakehi-Kind");
static ACCEPT: HeaderName = HeaderName::from_static("Kakehi-Accept");
static CREDIT: HeaderName = HeaderName::from_static("Kakehi-Credit");
static NEXT: HeaderName = HeaderName::from_static("Kakehi-Next");
static GAP: HeaderName = HeaderName::from_static("Kakehi-Gap");
static SEQ: HeaderName = HeaderName::from_static("Kakehi-Seq");
static FINAL: HeaderName = HeaderName::from_static("Kakehi-Final");
static SIGNER: HeaderName = HeaderName::from_static("Kakehi-Signer");
static SIGNATURE: HeaderName = HeaderName::from_static("Kakehi-Signature");

/// The names of all headers.
#[cfg(any(test, feature = "testing"))]
pub(crate) const NAMES: [&HeaderName; 9] =
    [&KIND, &ACCEPT, &CREDIT, &NEXT, &GAP, &SEQ, &FINAL, &SIGNER, &SIGNATURE];

/// The longest header value that is looked at: a signature has 88 bytes, an accept up to 150.
const MAX_VALUE: usize = 256;

/// The part of a broker's maximum payload that is reserved for headers, in bytes.
pub(crate) const HEADERS: usize = 1024;

/// A message of the client to the control subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) kind: ControlKind,
    /// The highest sequence number that may be sent.
    pub(crate) credit: Option<u64>,
    /// Acknowledges all sequence numbers below.
    pub(crate) next: Option<u64>,
    /// A message with a higher sequence number came first.
    pub(crate) gap: bool,
    pub(crate) signature: Signature,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ControlKind {
    Go,
    Credit,
    #[default]
    Alive,
    Cancel,
}

/// Both headers of a signature, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) signer: Option<String>,
    pub(crate) signature: Option<String>,
}

/// A message of the node to the client's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromNode {
    /// A place is reserved; the reply subject is that of control.
    Accept(Accept),
    /// One or more frames of the socket's wire.
    Batch { seq: u64, is_final: bool, frames: Bytes },
    /// A final response to a request that was not accepted.
    Refusal(Bytes),
    /// The answer to a settle.
    Settled(Bytes),
    /// The node is alive and has nothing to say.
    Probe,
    /// 503: no subscription to the subject of the message that was published.
    Unreachable,
}

/// A message of a client to the node, on its own subject or one of its groups'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToNode {
    Request,
    /// Queries the outcome of a request.
    Settle {
        accept: Accept,
        signature: Signature,
    },
}

impl Control {
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let kind = match value(headers, &KIND)? {
            "go" => ControlKind::Go,
            "credit" => ControlKind::Credit,
            "alive" => ControlKind::Alive,
            "cancel" => ControlKind::Cancel,
            _ => return None,
        };
        Some(Self {
            kind,
            credit: number(headers, &CREDIT),
            next: number(headers, &NEXT),
            gap: is_true(headers, &GAP),
            signature: Signature::read(headers),
        })
    }

    pub(crate) fn write(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            KIND.clone(),
            match self.kind {
                ControlKind::Go => "go",
                ControlKind::Credit => "credit",
                ControlKind::Alive => "alive",
                ControlKind::Cancel => "cancel",
            },
        );
        if let Some(credit) = self.credit {
            headers.insert(CREDIT.clone(), credit.to_string());
        }
        if let Some(next) = self.next {
            headers.insert(NEXT.clone(), next.to_string());
        }
        if self.gap {
            headers.insert(GAP.clone(), "true");
        }
        self.signature.write(&mut headers);
        headers
    }
}

impl Signature {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| value(headers, name).map(str::to_owned);
        Self { signer: text(&SIGNER), signature: text(&SIGNATURE) }
    }

    fn write(&self, headers: &mut HeaderMap) {
        if let Some(signer) = &self.signer {
            headers.insert(SIGNER.clone(), signer.as_str());
        }
        if let Some(signature) = &self.signature {
            headers.insert(SIGNATURE.clone(), signature.as_str());
        }
    }
}

impl FromNode {
    /// `None`: no message of this protocol.
    pub(crate) fn read(message: &Message) -> Option<Self> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Self::Unreachable);
        }
        let empty = HeaderMap::new();
        let headers = message.headers.as_ref().unwrap_or(&empty);
        let frames = message.payload.clone();
        match value(headers, &KIND) {
            Some("accept") => Some(Self::Accept(value(headers, &ACCEPT)?.parse().ok()?)),
            Some("probe") => Some(Self::Probe),
            Some("settled") => Some(Self::Settled(frames)),
            Some(_) => None,
            None => match number(headers, &SEQ) {
                Some(seq) => Some(Self::Batch { seq, is_final: is_true(headers, &FINAL), frames }),
                None => Some(Self::Refusal(frames)).filter(|_| !message.payload.is_empty()),
            },
        }
    }

    pub(crate) fn write(&self) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        let payload = match self {
            Self::Accept(accept) => {
                headers.insert(KIND.clone(), "accept");
                headers.insert(ACCEPT.clone(), accept.to_string());
                Bytes::new()
            }
            Self::Batch { seq, is_final, frames } => {
                headers.insert(SEQ.clone(), seq.to_string());
                if *is_final {
                    headers.insert(FINAL.clone(), "true");
                }
                frames.clone()
            }
            Self::Refusal(frame) => {
                headers.insert(FINAL.clone(), "true");
                frame.clone()
            }
            Self::Settled(frame) => {
                headers.insert(KIND.clone(), "settled");
                frame.clone()
            }
            Self::Probe => {
                headers.insert(KIND.clone(), "probe");
                Bytes::new()
            }
            Self::Unreachable => Bytes::new(),
        };
        (headers, payload)
    }
}

impl ToNode {
    /// `None`: no message of this protocol.
    pub(crate) fn read(headers: Option<&HeaderMap>) -> Option<Self> {
        let Some(headers) = headers else { return Some(Self::Request) };
        match value(headers, &KIND) {
            None => Some(Self::Request),
            Some("settle") => {
                let accept = value(headers, &ACCEPT)?.parse().ok()?;
                Some(Self::Settle { accept, signature: Signature::read(headers) })
            }
            Some(_) => None,
        }
    }

    pub(crate) fn write(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Self::Settle { accept, signature } = self {
            headers.insert(KIND.clone(), "settle");
            headers.insert(ACCEPT.clone(), accept.to_string());
            signature.write(&mut headers);
        }
        headers
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A comparison with each of a few names takes less time than the hash of one.
    let (_, values) = headers.iter().find(|(found, _)| *found == name)?;
    values.first().map(HeaderValue::as_str).filter(|value| value.len() <= MAX_VALUE)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    value(headers, name).and_then(decimal)
}

fn is_true(headers: &HeaderMap, name: &HeaderName) -> bool {
    value(headers, name) == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: HeaderMap, payload: Bytes, status: Option<StatusCode>) -> Message {
        let length = payload.len();
        let headers = Some(headers);
        let (subject, reply, description) = ("x".into(), None, None);
        Message { subject, reply, payload, headers, status, description, length }
    }

    #[test]
    fn control_is_read_as_it_is_written() {
        let signature = Signature { signer: Some("UA".into()), signature: Some("c2ln".into()) };
        for control in [
            Control { kind: ControlKind::Go, credit: Some(16), signature, ..Control::default() },
            Control { kind: ControlKind::Credit, next: Some(3), gap: true, ..Control::default() },
            Control { credit: Some(u64::MAX), next: Some(1), ..Control::default() },
            Control { kind: ControlKind::Cancel, ..Control::default() },
        ] {
            assert_eq!(Control::read(&control.write()), Some(control));
        }
    }

    #[test]
    fn messages_of_the_node_are_read_as_they_are_written() {
        let frame = Bytes::from_static(b"{}\0");
        for sent in [
            FromNode::Accept("web-1.E.7".parse().unwrap()),
            FromNode::Batch { seq: 1, is_final: false, frames: frame.clone() },
            FromNode::Batch { seq: 2, is_final: true, frames: frame.clone() },
            FromNode::Refusal(frame.clone()),
            FromNode::Settled(frame),
            FromNode::Probe,
        ] {
            let (headers, payload) = sent.write();
            assert_eq!(FromNode::read(&message(headers, payload, None)), Some(sent));
        }
        let unreachable = message(HeaderMap::new(), Bytes::new(), Some(StatusCode::NO_RESPONDERS));
        assert_eq!(FromNode::read(&unreachable), Some(FromNode::Unreachable));
    }

    #[test]
    fn what_is_no_message_of_the_protocol_is_dropped() {
        let with = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            headers
        };
        assert_eq!(Control::read(&HeaderMap::new()), None);
        assert_eq!(Control::read(&with(KIND.as_ref(), "stop")), None);
        assert_eq!(
            FromNode::read(&message(with(KIND.as_ref(), "accept"), Bytes::new(), None)),
            None
        );
        assert_eq!(FromNode::read(&message(HeaderMap::new(), Bytes::new(), None)), None);
        assert_eq!(ToNode::read(Some(&with(KIND.as_ref(), "settle"))), None);
        assert_eq!(ToNode::read(None), Some(ToNode::Request));
        let settle =
            ToNode::Settle { accept: "a.b.1".parse().unwrap(), signature: Signature::default() };
        assert_eq!(ToNode::read(Some(&settle.write())), Some(settle));
    }

    #[test]
    fn a_number_has_no_sign_and_fits() {
        for (text, expected) in
            [("7", Some(7)), ("+7", None), ("-7", None), ("", None), ("18446744073709551616", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(KIND.clone(), "credit");
            headers.insert(CREDIT.clone(), text);
            assert_eq!(Control::read(&headers).unwrap().credit, expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(KIND.clone(), "go");
        headers.insert(SIGNER.clone(), "U".repeat(100_000));
        assert_eq!(Control::read(&headers).unwrap().signature.signer, None);
    }
}
