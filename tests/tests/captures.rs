//! Captured messages of a real Sōzu and its clients are decoded, and encoded byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

use std::{fmt::Debug, task::Poll};

use kakehi_channel::{BufferLimits, Channel, Encode, Format, low_level::Buffer};
use kakehi_sozu_format::Sozu;
use kakehi_tests::wire::{Raw, Script, poll_once};
use prost::{Enumeration, Message};
use serde::Deserialize;

#[derive(Deserialize)]
struct Capture {
    name: String,
    frames: Vec<Captured>,
}

#[derive(Deserialize)]
struct Captured {
    from: String,
    hex: String,
    /// The message in protobuf's text format.
    text: String,
}

/// One frame, as it stood on the wire.
struct Frame {
    of: String,
    from_server: bool,
    bytes: Vec<u8>,
    text: String,
}

/// All frames of the fixture, which are 107: 73 of them from the server.
fn frames() -> Vec<Frame> {
    let fixture = include_str!("../fixtures/sozu-captures.json");
    let captures: Vec<Capture> = serde_json::from_str(fixture).unwrap();
    assert_eq!(captures.len(), 31);
    let frames: Vec<_> = captures
        .into_iter()
        .flat_map(|capture| {
            capture.frames.into_iter().enumerate().map(move |(index, frame)| Frame {
                of: format!("{}, frame {index}", capture.name),
                from_server: frame.from == "server",
                bytes: unhex(&frame.hex),
                text: frame.text,
            })
        })
        .collect();
    assert_eq!(frames.len(), 107);
    assert_eq!(frames.iter().filter(|frame| frame.from_server).count(), 73);
    assert_eq!(fixture.matches("\"hex\"").count(), frames.len());
    frames
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Sōzu's answer, as its protobuf file has it.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(enumeration = "Status", required, tag = "1")]
    status: i32,
    #[prost(string, required, tag = "2")]
    message: String,
    /// Not decoded.
    #[prost(bytes = "vec", optional, tag = "3")]
    content: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
enum Status {
    Ok = 0,
    Processing = 1,
    Failure = 2,
}

/// All messages of type `M` in `wire`, which comes in pieces of `chunk` bytes.
fn received<M: Message + Default>(wire: &[u8], chunk: usize) -> Vec<M> {
    let stream = Script::cut(wire, &vec![(chunk, true)]);
    let mut channel = Channel::<M, M, Sozu, _>::with_limits(
        stream,
        BufferLimits::CLIENT,
        BufferLimits::default(),
    );
    let mut messages = vec![];
    loop {
        match poll_once(channel.next()) {
            Poll::Pending => {}
            Poll::Ready(Some(message)) => messages.push(message.unwrap()),
            Poll::Ready(None) => return messages,
        }
    }
}

/// The bytes of `messages` with their framing.
fn sent<M: Message>(messages: Vec<M>) -> Vec<u8> {
    let mut channel = Channel::<M, (), Sozu, _>::new(Script::default());
    for message in messages {
        assert!(matches!(poll_once(channel.send(message)), Poll::Ready(Ok(()))));
    }
    channel.get_ref().written().to_vec()
}

#[test]
fn each_frame_passes_byte_for_byte_whole_and_one_byte_at_a_time() {
    let mut checked = 0;
    for Frame { of, bytes, .. } in frames() {
        let found = Sozu.find(&bytes, bytes.len()).unwrap().unwrap();
        assert_eq!((found.len, found.payload), (bytes.len(), 8..bytes.len()), "{of}");
        for chunk in [bytes.len(), 1] {
            let messages = received::<Raw>(&bytes, chunk);
            assert_eq!(messages, [Raw(bytes[8..].to_vec())], "{of}");
            assert_eq!(sent(messages), bytes, "{of}");
        }
        checked += 1;
    }
    assert_eq!(checked, 107);
}

#[test]
fn all_frames_in_one_stream_pass_byte_for_byte() {
    let frames = frames();
    let wire: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.clone()).collect();
    for chunk in [wire.len(), 4096, 7, 1] {
        let messages = received::<Raw>(&wire, chunk);
        assert_eq!(messages.len(), 107, "in pieces of {chunk}");
        assert!(sent(messages) == wire, "in pieces of {chunk}");
    }
    let mut buffer = Buffer::new(64, wire.len());
    for frame in &frames {
        let message = Raw(frame.bytes[8..].to_vec());
        Sozu.encode_frame(&message, &mut buffer, frame.bytes.len()).unwrap();
    }
    assert!(buffer.data() == wire);
}

/// The value of a field at the top level of a message in protobuf's text format.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next().unwrap();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

/// The value of a string literal in protobuf's text format.
fn unquoted(literal: &str) -> String {
    let mut rest = literal.strip_prefix('"').unwrap().strip_suffix('"').unwrap().as_bytes();
    let mut bytes = vec![];
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let (value, len) = match after {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [quoted @ (b'"' | b'\'' | b'\\'), ..] => (*quoted, 1),
            [b'0'..=b'3', _, _, ..] => {
                let digits = std::str::from_utf8(&after[..3]).unwrap();
                (u8::from_str_radix(digits, 8).unwrap(), 3)
            }
            _ => panic!("an unknown escape in {literal}"),
        };
        bytes.push(value);
        rest = &after[len..];
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn escapes_of_the_text_format_are_decoded() {
    assert_eq!(unquoted(r#""a\n\"b\"\t\\ \342\200\246\'""#), "a\n\"b\"\t\\ …'");
}

#[test]
fn each_answer_of_the_server_is_read_as_its_text_says() {
    let mut checked = [0; 3];
    for Frame { of, bytes, text, .. } in frames().into_iter().filter(|frame| frame.from_server) {
        let expected = match field(&text, "status") {
            "OK" => Status::Ok,
            "PROCESSING" => Status::Processing,
            "FAILURE" => Status::Failure,
            other => panic!("{of}: {other}"),
        };
        let message = unquoted(field(&text, "message"));
        let has_content = text.lines().any(|line| line == "content {");

        let responses = received::<Response>(&bytes, bytes.len());
        let [response] = &responses[..] else { panic!("{of}: {responses:?}") };
        assert_eq!(Status::try_from(response.status), Ok(expected), "{of}");
        assert_eq!(response.message, message, "{of}");
        assert_eq!(response.content.is_some(), has_content, "{of}");
        assert_eq!(sent(responses), bytes, "{of}: written again");
        checked[expected as usize] += 1;
    }
    assert_eq!(checked, [30, 41, 2], "OK, PROCESSING and FAILURE");
}
