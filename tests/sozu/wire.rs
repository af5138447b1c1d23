//! What went over the wire between a real Sōzu and its command line, and what must not.

use std::time::Duration;

use kakehi_channel::{Channel, ChannelError, Decode, Encode, ErrorKind, Format, low_level::Buffer};
use kakehi_client::{Connection, Outcome};
use kakehi_sozu::{Asked, Request, Response, Status, Wire};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::status;

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

fn captures() -> Vec<Capture> {
    let captures = include_str!("../fixtures/sozu-captures.json");
    let captures: Vec<Capture> = serde_json::from_str(captures).unwrap();
    assert_eq!(captures.len(), 31);
    captures
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The last frame of a recorded exchange.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let exchange = captures().into_iter().find(|exchange| exchange.name == name).unwrap();
    unhex(&exchange.frames.last().unwrap().hex)
}

#[test]
fn every_response_that_was_recorded_is_understood() {
    for Capture { name, frames } in captures() {
        for frame in frames.iter().filter(|frame| frame.from == "server") {
            let bytes = unhex(&frame.hex);
            let found = Wire.find(&bytes, 2_000_000).unwrap().unwrap();
            let response: Response = Wire.decode(&bytes[found.payload]).unwrap();
            let status = match response.status {
                Status::Ok => "status: OK\n",
                Status::Processing => "status: PROCESSING\n",
                Status::Error => "status: FAILURE\n",
            };
            assert!(frame.text.starts_with(status), "{name}: {response:?}");
            assert_eq!(frame.text.contains("\ncontent {"), response.content.is_some(), "{name}");
        }
    }
}

#[test]
fn every_request_that_was_recorded_is_written_and_read_byte_by_byte() {
    for Capture { name, frames } in captures() {
        for frame in frames.iter().filter(|frame| frame.from == "client") {
            let bytes = unhex(&frame.hex);
            let found = Wire.find(&bytes, 2_000_000).unwrap().unwrap();
            let asked: Asked = Wire.decode(&bytes[found.payload]).unwrap();
            let mut out = Buffer::new(64, 1 << 20);
            Wire.encode(&Request::from(asked.command.unwrap()), &mut out).unwrap();
            assert_eq!(out.data(), bytes, "{name}");
        }
    }
}

/// Sends a status request, answers it with `frames`, and returns the result.
async fn answered_by(frames: &[u8]) -> Result<Response, kakehi_sozu::Error> {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let mut connection = Connection::new(Channel::<Request, Response, Wire, _>::new(ours));
    let asking = connection.message(status().into()).deadline(Duration::from_secs(5)).into_future();
    theirs.write_all(frames).await.unwrap();
    let answer = asking.await;
    let mut request = [0; 10];
    theirs.read_exact(&mut request).await.unwrap();
    assert_eq!(request, [10, 0, 0, 0, 0, 0, 0, 0, 0x62, 0]);
    answer
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u64;
    [len.to_le_bytes().as_slice(), payload].concat()
}

#[tokio::test(start_paused = true)]
async fn an_unknown_status_or_content_is_an_error_that_keeps_the_bytes() {
    let unknown_status = [0x08, 3, 0x12, 2, b'h', b'm'];
    // Of the kind 99, and of a known status.
    let unknown_content = [0x08, 0, 0x12, 0, 0x1a, 3, 0x9a, 0x06, 0];
    for payload in [unknown_status.as_slice(), &unknown_content] {
        let error = answered_by(&frame(payload)).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Malformed && error.outcome() == Outcome::Unknown,
            "{error:?}"
        );
        let source = std::error::Error::source(&error).unwrap();
        let source: &ChannelError = source.downcast_ref().unwrap();
        assert_eq!(source.payload().unwrap(), payload);
    }
    let answer = answered_by(&frame(&[0x08, 0, 0x12, 2, b'h', b'm'])).await.unwrap();
    assert_eq!(answer.message, "hm");
}

#[tokio::test(start_paused = true)]
async fn fields_that_a_later_version_adds_are_ignored() {
    // Field 99 beside the known ones.
    let answer = answered_by(&frame(&[0x08, 0, 0x12, 0, 0x98, 0x06, 1])).await.unwrap();
    assert_eq!(answer.status, Status::Ok);
}
