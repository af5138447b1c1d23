//! A `Deserialize` that panics costs its message, and nothing else.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use kakehi_channel::{Channel, ErrorKind, Json, Refusal, Request, Response, Status};
use kakehi_server::{Context, Limits, Peer, serve_stream};
use serde::{Deserialize, Deserializer};
use tokio::io::AsyncWriteExt;

/// Panics on the text `panic`.
#[derive(Debug)]
struct Picky(String);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert_ne!(text, "panic", "the secret text");
        Ok(Self(text))
    }
}

#[tokio::test]
async fn a_panic_while_decoding_is_a_malformed_message() {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut channel = Channel::<(), Picky, Json, _>::new(ours);
    theirs.write_all(b"\"panic\"\0\"next\"\0").await.unwrap();
    let error = channel.next().await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Malformed && !error.is_fatal(), "{error}");
    assert_eq!(error.to_string(), "malformed message: its decoding panicked");
    assert_eq!(error.payload().unwrap(), "\"panic\"");
    assert_eq!(channel.next().await.unwrap().unwrap().0, "next");
}

#[tokio::test]
async fn a_server_answers_a_request_whose_decoding_panics_and_goes_on() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let answer = async |request: Request<Picky>, _: Context| {
        Ok::<_, String>(request.command.map(|Picky(text)| text).unwrap_or_default())
    };
    tokio::spawn(serve_stream(ours, Peer::own(), answer, Limits::default()));
    let mut client = Channel::<Request<&str>, Response, Json, _>::new(theirs);

    client.send(Request::with_command("a", "panic")).await.unwrap();
    let response = client.next().await.unwrap().unwrap();
    assert_eq!((response.id.as_str(), response.status), ("a", Status::Error));
    assert_eq!(response.refused, Some(Refusal::Malformed));
    assert!(!response.message.contains("secret"), "{}", response.message);

    client.send(Request::with_command("b", "next")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap().message, "next");
}
