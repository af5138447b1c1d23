//! A client that meets content of another type than it expects, and a server that answers after
//! the deadline.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

use std::{future::IntoFuture, time::Duration};

use futures::StreamExt;
use kakehi_channel::Json;
use kakehi_client::{Channel, Connection, ErrorKind, Outcome, Request, Response, Status};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};

/// Expects numbers as content.
type Pipe = Connection<Request, Response<u32>, Json, DuplexStream>;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

fn connected() -> (Pipe, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(4096);
    (Connection::new(Channel::new(ours)), theirs)
}

/// The frame of a response to the request `a`, with more fields.
fn frame(status: &str, message: &str, rest: &str) -> Vec<u8> {
    let head = format!(r#"{{"id":"a","version":0,"status":"{status}","message":"{message}""#);
    format!("{head}{rest}}}\0").into_bytes()
}

const UNKNOWN: &str = r#","content":{"new":["field"]}"#;

/// Writes each of `frames` after its delay, and keeps the pipe open.
fn play(mut theirs: DuplexStream, frames: Vec<(Duration, Vec<u8>)>) {
    tokio::spawn(async move {
        for (delay, frame) in frames {
            sleep(delay).await;
            theirs.write_all(&frame).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
}

/// Writes all of `frames` at once.
fn answered(frames: &[Vec<u8>]) -> Pipe {
    let (connection, theirs) = connected();
    play(theirs, vec![(Duration::ZERO, frames.concat())]);
    connection
}

#[tokio::test(start_paused = true)]
async fn progress_with_unknown_content_does_not_end_the_request() {
    let frames = [frame("PROCESSING", "half", UNKNOWN), frame("OK", "done", r#","content":7"#)];
    let mut connection = answered(&frames);
    let answer = connection.request("x").id("a").await.unwrap();
    assert_eq!((answer.message.as_str(), answer.content), ("done", Some(7)));
    assert!(connection.is_open(), "the next request can use it");

    let mut connection = answered(&frames);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    let shown = responses.next().await.unwrap().unwrap();
    assert_eq!((shown.message.as_str(), shown.content), ("half", None));
    assert_eq!(responses.next().await.unwrap().unwrap().content, Some(7));
    assert!(responses.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn progress_with_unknown_content_and_no_message_is_shown() {
    let mut connection = answered(&[frame("PROCESSING", "", UNKNOWN), frame("OK", "done", "")]);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap().status, Status::Processing);
    assert_eq!(responses.next().await.unwrap().unwrap().status, Status::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_error_with_unknown_content_is_failed_with_its_message() {
    let frames = [frame("ERROR", "disk full", UNKNOWN)];
    let mut connection = answered(&frames);
    let error = connection.request("x").id("a").await.unwrap_err();
    assert!(
        error.outcome() == Outcome::Failed && error.kind() != ErrorKind::Malformed,
        "{error:?}"
    );
    assert_eq!(error.to_string(), "the server answered ERROR: disk full");
    assert_eq!(error.response().unwrap().content, None);
    assert!(connection.is_open());

    let mut connection = answered(&frames);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    let last = responses.next().await.unwrap().unwrap();
    assert_eq!((last.status, last.message.as_str()), (Status::Error, "disk full"));

    let mut connection = answered(&[frame("ERROR", "later", r#","content":"x","refused":"busy""#)]);
    assert!(connection.request("x").id("a").await.unwrap_err().outcome() == Outcome::Refused);
}

#[tokio::test(start_paused = true)]
async fn an_ok_with_unknown_content_is_done() {
    let frame = frame("OK", "warmed", UNKNOWN);
    let mut connection = answered(std::slice::from_ref(&frame));
    let error = connection.request("x").id("a").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Done);
    assert!(
        error.outcome() == Outcome::Done
            && error.kind() != ErrorKind::Malformed
            && error.outcome() != Outcome::Unknown,
        "{error:?}"
    );
    assert_eq!(error.response().unwrap().message, "warmed");
    assert_eq!(error.payload().unwrap(), frame.strip_suffix(b"\0").unwrap());
    assert!(error.to_string().starts_with("the server answered OK (\"warmed\")"), "{error}");
    assert!(connection.is_open());

    let mut connection = answered(std::slice::from_ref(&frame));
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    assert!(responses.next().await.unwrap().unwrap_err().outcome() == Outcome::Done);
    assert!(responses.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_goes_on_after_unknown_content() {
    let mut connection = answered(&[
        frame("PROCESSING", "half", UNKNOWN),
        frame("OK", "one", UNKNOWN),
        frame("ERROR", "two", UNKNOWN),
        frame("OK", "three", r#","content":3"#),
    ]);
    let requests = (0..3).map(|_| Request::new("a"));
    let outcomes: Vec<_> = connection.pipeline_messages(requests).collect().await;
    assert!(outcomes[0].as_ref().unwrap_err().outcome() == Outcome::Done);
    assert!(outcomes[1].as_ref().unwrap_err().outcome() == Outcome::Failed);
    assert_eq!(outcomes[2].as_ref().unwrap().content, Some(3));
    assert!(connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_envelope_is_no_response_stays_malformed() {
    for rest in [
        // Two of a field, of the content too.
        r#","status":"OK","content":"x""#,
        r#","content":"x","content":"y""#,
        // The content must still be JSON.
        r#","content":{"x":}"#,
        r#","content":["x""#,
        // Only an ERROR can be refused.
        r#","content":"x","refused":"busy""#,
    ] {
        let mut connection = answered(&[frame("OK", "done", rest)]);
        let error = connection.request("x").id("a").await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Malformed && error.outcome() == Outcome::Unknown,
            "{rest}: {error:?}"
        );
        assert!(!connection.is_open(), "{rest}");
    }
    let not_utf8 = frame("OK", "done", r#","content":"?""#);
    let not_utf8 = not_utf8.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
    let mut connection = answered(&[not_utf8]);
    assert_eq!(connection.request("x").id("a").await.unwrap_err().kind(), ErrorKind::Malformed);
    let other_id = frame("OK", "done", UNKNOWN);
    let mut connection = answered(&[other_id]);
    assert_eq!(connection.request("x").id("b").await.unwrap_err().kind(), ErrorKind::Unexpected);
}

#[tokio::test(start_paused = true)]
async fn the_server_s_answer_to_the_deadline_is_waited_for() {
    let cancelled = frame("ERROR", "cancelled: the deadline has passed", "");
    let progress = frame("PROCESSING", "late", "");

    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, progress.clone()), (MOMENT, cancelled.clone())]);
    let start = Instant::now();
    let error = connection.request("x").id("a").deadline(SECOND).await.unwrap_err();
    assert!(error.outcome() == Outcome::Failed && error.kind() == ErrorKind::Deadline, "{error:?}");
    assert_eq!(start.elapsed(), SECOND + MOMENT);
    assert!(connection.is_open());

    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND + MOMENT, progress), (MOMENT, cancelled)]);
    let start = Instant::now();
    let mut responses = connection.request("x").id("a").deadline(SECOND).send().await.unwrap();
    let error = responses.next().await.unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Deadline && error.outcome() == Outcome::Unknown,
        "it waits for at most 100 ms: {error:?}"
    );
    assert_eq!(start.elapsed(), SECOND + 2 * MOMENT);
    drop(responses);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn only_the_deadline_is_waited_beyond() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND + MOMENT, frame("OK", "done", ""))]);
    let request = connection.request("x").id("a").timeout(SECOND).deadline(2 * SECOND);
    let start = Instant::now();
    assert!(request.into_future().await.unwrap_err().outcome() == Outcome::Unknown);
    assert_eq!(start.elapsed(), SECOND);

    // The server that does not read the request cannot answer it.
    let (ours, _theirs) = tokio::io::duplex(8);
    let mut connection: Pipe = Connection::new(Channel::new(ours));
    let start = Instant::now();
    assert_eq!(
        connection.request("x").deadline(SECOND).await.unwrap_err().kind(),
        ErrorKind::Deadline
    );
    assert_eq!(start.elapsed(), SECOND);
}
