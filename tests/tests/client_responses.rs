//! How the responses to one request are followed: literal bytes over a pipe, and a paused clock.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{error::Error as StdError, future::IntoFuture, time::Duration};

use futures::{FutureExt, StreamExt, stream::FusedStream};
use kakehi_channel::Json;
use kakehi_client::{
    Channel, Connection, ErrorKind, Outcome, Refusal, Request, RequestMessage, Response,
    ResponseMessage, Status, Timeouts,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep, timeout},
};

type Pipe = Connection<Request, Response, Json, DuplexStream>;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
const ALMOST: Duration = Duration::from_millis(1_999);
/// How long the client waits for the server's answer to the deadline.
const GRACE: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(86_400);

fn connected() -> (Pipe, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(4096);
    (Connection::new(Channel::new(ours)), theirs)
}

/// The literal frame of a response to the request `a`.
fn frame(status: &str, message: &str) -> Vec<u8> {
    frame_of("a", status, message)
}

fn frame_of(id: &str, status: &str, message: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","version":0,"status":"{status}","message":"{message}"}}{}"#, '\0')
        .into_bytes()
}

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

/// The result of `waiting`, and how long it took.
async fn timed<T>(waiting: impl IntoFuture<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (waiting.await, start.elapsed())
}

/// Reads one frame and leaves out the NUL.
async fn read_frame(theirs: &mut DuplexStream) -> String {
    let mut bytes = vec![];
    loop {
        match theirs.read_u8().await.unwrap() {
            0 => return String::from_utf8(bytes).unwrap(),
            byte => bytes.push(byte),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_processing_restarts_the_clock() {
    let (mut connection, theirs) = connected();
    let late = |status, message| (ALMOST, frame(status, message));
    play(theirs, vec![late("PROCESSING", "1"), late("PROCESSING", "2"), late("OK", "done")]);
    let mut responses = connection.request("x").id("a").timeout(TIMEOUT).send().await.unwrap();
    for message in ["1", "2", "done"] {
        let (response, elapsed) = timed(responses.next()).await;
        assert_eq!((response.unwrap().unwrap().message.as_str(), elapsed), (message, ALMOST));
    }
    assert!(responses.next().await.is_none(), "it ends after the final one");
    drop(responses);
    assert!(connection.is_open(), "it is free for the next request");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_of_unknown_outcome() {
    let (mut connection, _theirs) = connected();
    let (answer, elapsed) = timed(connection.request("x").timeout(TIMEOUT)).await;
    let error = answer.unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.outcome() == Outcome::Unknown, "{error:?}");
    assert!(error.kind() != ErrorKind::Disconnected && error.response().is_none());
    assert_eq!(error.to_string(), "timed out after 2.0 s waiting for a response");
    assert_eq!(elapsed, TIMEOUT);
    assert!(!connection.is_open(), "its late answer must not be another's");
    let error = connection.request("y").await.unwrap_err();
    assert!(
        error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Disconnected,
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_timeout_one_may_wait_again() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND * 5, frame("PROCESSING", "slow")), (SECOND, frame("OK", "done"))]);
    let mut responses = connection.request("x").id("a").timeout(TIMEOUT).send().await.unwrap();
    for _ in 0..2 {
        let (item, elapsed) = timed(responses.next()).await;
        assert_eq!(item.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(elapsed, TIMEOUT);
    }
    assert_eq!(responses.next().await.unwrap().unwrap().message, "slow");
    assert_eq!(responses.await.unwrap().message, "done");
    assert!(connection.is_open(), "all was read, nothing can be mixed up");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let (mut connection, mut theirs) = connected();
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    let mut seen = vec![];
    for byte in [frame("PROCESSING", "1"), frame("OK", "done")].concat() {
        assert!(responses.next().now_or_never().is_none());
        theirs.write_u8(byte).await.unwrap();
        if let Some(response) = responses.next_within(SECOND).now_or_never() {
            seen.push(response.unwrap().unwrap().message);
        }
    }
    assert_eq!(seen, ["1", "done"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_over_and_over_still_times_out() {
    let (mut connection, _theirs) = connected();
    let mut responses = connection.request("x").timeout(TIMEOUT).send().await.unwrap();
    let start = Instant::now();
    let error = loop {
        tokio::select! {
            item = responses.next() => break item.unwrap().unwrap_err(),
            () = sleep(SECOND * 3 / 10) => {}
        }
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_final_response_is_an_error_of_unknown_outcome() {
    let last = frame("OK", "done");
    for part in [&last[..0], &last[..1], &last[..last.len() - 1]] {
        let (mut connection, mut theirs) = connected();
        let mut responses = connection.request("x").id("a").send().await.unwrap();
        theirs.write_all(&[&frame("PROCESSING", "1"), part].concat()).await.unwrap();
        drop(theirs);
        assert_eq!(responses.next().await.unwrap().unwrap().message, "1");
        let error = responses.next().await.unwrap().unwrap_err();
        assert!(
            error.kind() == ErrorKind::Disconnected && error.outcome() == Outcome::Unknown,
            "{error:?}"
        );
        assert!(error.source().is_some_and(<dyn StdError>::is::<kakehi_channel::ChannelError>));
        assert!(responses.next().await.is_none(), "the stream is over");
        drop(responses);
        assert!(!connection.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_another_id_is_an_error_that_names_both_and_the_end() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, [frame_of("b", "OK", "not yours"), frame("OK", "done")].concat())]);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    let error = responses.next().await.unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unexpected && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
    assert_eq!(error.to_string(), "a response to the request \"b\" came instead of \"a\"");
    assert_eq!(error.response().unwrap().message, "not yours");
    assert!(responses.next().await.is_none());
    drop(responses);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_second_final_response_is_never_the_next_answer() {
    // Read together with the first.
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, [frame("OK", "done"), frame("OK", "again")].concat())]);
    assert_eq!(connection.request("x").id("a").await.unwrap().message, "done");
    assert!(connection.request("y").id("a").await.unwrap_err().outcome() == Outcome::NotSent);

    // Come later.
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame("OK", "done")), (SECOND, frame("OK", "again"))]);
    assert_eq!(connection.request("x").id("a").await.unwrap().message, "done");
    sleep(SECOND * 2).await;
    let error = connection.request("y").id("a").await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unexpected && error.outcome() == Outcome::NotSent,
        "{error:?}"
    );
    assert_eq!(error.to_string(), "a response arrived before a request was sent");

    // Half of one.
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, [frame("OK", "done"), b"{".to_vec()].concat())]);
    assert_eq!(connection.request("x").id("a").await.unwrap().message, "done");
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn keep_alives_restart_the_clock_and_are_not_yielded() {
    let script = || {
        let mut frames: Vec<_> = (0..5).map(|_| (ALMOST, frame("PROCESSING", ""))).collect();
        frames.push((ALMOST, frame("OK", "done")));
        frames
    };
    let (mut connection, theirs) = connected();
    play(theirs, script());
    let (answer, elapsed) = timed(connection.request("x").id("a").timeout(TIMEOUT)).await;
    assert_eq!((answer.unwrap().message.as_str(), elapsed), ("done", ALMOST * 6));

    let (mut connection, theirs) = connected();
    play(theirs, script());
    let request = connection.request("x").id("a").timeout(TIMEOUT);
    let responses: Vec<_> = request.send().await.unwrap().collect().await;
    assert_eq!(responses.len(), 1);

    let (mut connection, theirs) = connected();
    play(theirs, script());
    let mut responses = connection.request("x").id("a").timeout(SECOND).send().await.unwrap();
    let (response, elapsed) = timed(responses.next_within(TIMEOUT)).await;
    assert_eq!(response.unwrap().unwrap().message, "done");
    assert_eq!(elapsed, ALMOST * 6, "the caller's patience counts, not the request's timeout");
    assert!(responses.next_within(TIMEOUT).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn zero_and_none_are_no_limit_and_never_at_once() {
    for clock in [None, Some(Duration::ZERO)] {
        let (mut connection, theirs) = connected();
        play(theirs, vec![(DAY, frame("PROCESSING", "1")), (DAY, frame("OK", "done"))]);
        let request = connection.request("x").id("a").timeout(clock).deadline(clock);
        let mut responses = request.send().await.unwrap();
        let (response, elapsed) = timed(responses.next_within(Duration::ZERO)).await;
        assert_eq!((response.unwrap().unwrap().message.as_str(), elapsed), ("1", DAY));
        let (answer, elapsed) = timed(responses).await;
        assert_eq!((answer.unwrap().message.as_str(), elapsed), ("done", DAY));
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_clocks_are_clocks_too() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame("OK", "done"))]);
    let request = connection.request("x").id("a").timeout(Duration::MAX).deadline(Duration::MAX);
    assert_eq!(request.await.unwrap().message, "done");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_across_steady_processing() {
    let (mut connection, theirs) = connected();
    play(theirs, (0..100).map(|_| (SECOND, frame("PROCESSING", "on it"))).collect());
    let request = connection.request("x").id("a").timeout(TIMEOUT).deadline(SECOND * 7 / 2);
    let (mut responses, start) = (request.send().await.unwrap(), Instant::now());
    let mut seen = 0;
    let error = loop {
        match responses.next().await.unwrap() {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((seen, start.elapsed()), (3, SECOND * 7 / 2 + GRACE));
    assert!(
        error.kind() == ErrorKind::Deadline && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
    assert_eq!(error.to_string(), "the deadline of 3.5 s passed waiting for a response");
    assert!(responses.next().await.is_none(), "the deadline is the end");
    drop(responses);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_across_processing_that_never_pauses() {
    let (mut connection, mut theirs) = connected();
    tokio::spawn(async move {
        while theirs.write_all(&frame("PROCESSING", "flood").repeat(50)).await.is_ok() {}
    });
    let request = connection.request("x").id("a").deadline(SECOND);
    let mut responses = request.send().await.unwrap();
    for _ in 0..1000 {
        responses.next().await.unwrap().unwrap();
    }
    tokio::time::advance(SECOND).await;
    assert_eq!(responses.next().await.unwrap().unwrap_err().kind(), ErrorKind::Deadline);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_also_ends_next_within() {
    let (mut connection, _theirs) = connected();
    let mut responses = connection.request("x").deadline(SECOND).send().await.unwrap();
    let (item, elapsed) = timed(responses.next_within(DAY)).await;
    assert_eq!(item.unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(elapsed, SECOND + GRACE);
}

#[tokio::test(start_paused = true)]
async fn both_clocks_are_told_to_the_server() {
    let (connection, mut theirs) = connected();
    let mut connection =
        connection.with_timeouts(Timeouts { deadline: Some(SECOND * 60), ..Timeouts::default() });
    let mut ask = async |request: &str| {
        assert_eq!(read_frame(&mut theirs).await, request);
        theirs.write_all(&frame("OK", "done")).await.unwrap();
    };

    let sent = r#"{"id":"a","version":0,"timeout_ms":30000,"deadline_ms":60000,"command":"x"}"#;
    let request = connection.request("x").id("a").into_future();
    let (answer, ()) = tokio::join!(request, ask(sent));
    answer.unwrap();

    let sent = r#"{"id":"a","version":0,"worker_id":3,"timeout_ms":2,"command":"x"}"#;
    let mut message = Request::with_command("a", "x".into());
    message.worker_id = Some(3);
    let request = connection.message(message);
    let request = request.timeout(Duration::from_micros(1001)).deadline(None);
    let (_, ()) = tokio::join!(request.into_future(), ask(sent));
}

#[tokio::test(start_paused = true)]
async fn ids_differ_and_may_be_left_out_of_a_whole_request() {
    let (mut connection, mut theirs) = connected();
    let mut ids = vec![];
    for _ in 0..3 {
        let mut responses =
            connection.message(Request::new("")).timeout(None).send().await.unwrap();
        let id = responses.id().unwrap().to_owned();
        let sent = read_frame(&mut theirs).await;
        assert_eq!(sent, format!(r#"{{"id":"{id}","version":0}}"#));
        theirs.write_all(&frame_of(&id, "OK", "done")).await.unwrap();
        assert_eq!(responses.next().await.unwrap().unwrap().id, id);
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id.starts_with(&format!("{}-", std::process::id()))));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_item_of_the_stream_and_an_err_for_who_awaits() {
    let (mut connection, theirs) = connected();
    let twice = vec![(SECOND, frame("ERROR", "no such job")), (SECOND, frame("ERROR", "nor now"))];
    play(theirs, twice);
    let responses = connection.request("x").id("a").send().await.unwrap();
    let responses: Vec<_> = responses.map(Result::unwrap).collect().await;
    assert_eq!(responses, [Response::error("a", "no such job")]);

    let error = connection.request("y").id("a").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Failed);
    assert!(
        error.outcome() == Outcome::Failed
            && error.outcome() != Outcome::Refused
            && error.kind() == ErrorKind::Answered
    );
    assert_eq!(error.to_string(), "the server answered ERROR: nor now");
    assert_eq!(error.response(), Some(&Response::error("a", "nor now")));
    assert!(connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_from_a_failure() {
    let (mut connection, mut theirs) = connected();
    // A server that did not read the request cannot know its id.
    let refusal = br#"{"id":"","version":0,"status":"ERROR","message":"full","refused":"busy"}"#;
    tokio::spawn(async move {
        read_frame(&mut theirs).await;
        theirs.write_all(&[&refusal[..], b"\0"].concat()).await.unwrap();
        sleep(DAY).await;
    });
    let error = connection.request("x").await.unwrap_err();
    assert!(
        error.outcome() == Outcome::Refused
            && error.outcome() != Outcome::Failed
            && error.outcome() != Outcome::NotSent
    );
    assert_eq!(error.refusal(), Some(Refusal::Busy));
    assert_eq!(error.to_string(), "the server refused: full");
    assert!(!connection.is_open(), "a server that refuses closes");
}

#[tokio::test(start_paused = true)]
async fn only_an_error_may_come_without_the_id() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame_of("", "OK", "whose?"))]);
    assert_eq!(connection.request("x").id("a").await.unwrap_err().kind(), ErrorKind::Unexpected);

    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame_of("b", "ERROR", "another's"))]);
    let error = connection.request("x").id("a").await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unexpected && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_shows_where_it_stands_and_whose_it_is() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame("PROCESSING", "half")), (SECOND, frame("OK", "done"))]);
    let answer = connection.request("x").id("a").into_future();
    assert!(
        format!("{answer:?}").starts_with("FinalResponse(Call { phase: \"start\""),
        "{answer:?}"
    );
    drop(answer);

    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame("PROCESSING", "half")), (SECOND, frame("OK", "done"))]);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    assert_eq!(responses.id(), Some("a"));
    let shown = format!("{responses:?}");
    assert!(shown.starts_with("Responses(Call { phase: \"reading\""), "{shown}");
    responses.next().await.unwrap().unwrap();
    assert!(!responses.is_terminated());
    responses.next().await.unwrap().unwrap();
    assert!(responses.is_terminated());
    assert!(format!("{responses:?}").contains("\"over\""), "{responses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_response_is_an_item_and_its_connection_is_not_used_again() {
    let (mut connection, theirs) = connected();
    let newer = br#"{"id":"a","version":7,"status":"OK","message":""}"#;
    let frames = [b"nonsense\0", &newer[..], b"\0", &frame("OK", "done")[..]].concat();
    play(theirs, vec![(SECOND, frames)]);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    let error = responses.next().await.unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Malformed && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
    let error = responses.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("version 7"), "{error}");
    assert_eq!(responses.next().await.unwrap().unwrap().message, "done");
    assert!(responses.next().await.is_none());
    drop(responses);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_encoded_is_not_sent_and_harms_nothing() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let channel = Channel::<Request, Response, Json, _>::with_limits(
        ours,
        kakehi_client::BufferLimits::CLIENT,
        kakehi_client::BufferLimits { initial: 100, max: 100 },
    );
    let mut connection = Connection::new(channel);
    let error = connection.request("x".repeat(100)).await.unwrap_err();
    assert!(
        error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::TooLarge,
        "{error:?}"
    );
    let (answer, ()) = tokio::join!(connection.request("x").id("a").into_future(), async {
        read_frame(&mut theirs).await;
        theirs.write_all(&frame("OK", "done")).await.unwrap();
    });
    assert_eq!(answer.unwrap().message, "done");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_server_does_not_read_was_sent_if_any_of_it_was_written() {
    for (room, outcome) in [(64, Outcome::Unknown), (0, Outcome::NotSent)] {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        ours.write_all(&vec![b' '; 64 - room]).await.unwrap();
        let mut connection = Connection::new(Channel::<Request, Response, Json, _>::new(ours));
        let sending = connection.request("x".repeat(1000)).timeout(TIMEOUT).send();
        let (sent, elapsed) = timed(sending).await;
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert_eq!((error.outcome(), elapsed), (outcome, TIMEOUT));
        assert!(error.to_string().ends_with("waiting for the server to read the request"));
        assert!(!connection.is_open(), "half of a request may be in it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_server_leaves_before_it_read_was_sent_if_any_of_it_was_written() {
    for (room, outcome) in [(64, Outcome::Unknown), (0, Outcome::NotSent)] {
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(&vec![b' '; 64 - room]).await.unwrap();
        let mut connection = Connection::new(Channel::<Request, Response, Json, _>::new(ours));
        let sending = connection.request("x".repeat(1000)).send();
        let (sent, ()) = tokio::join!(sending, async {
            sleep(SECOND).await;
            drop(theirs);
        });
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
        assert_eq!(error.outcome(), outcome);
        assert!(!connection.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_pool_even_an_idempotent_request_that_was_lost_stays_unknown() {
    let (mut connection, mut theirs) = connected();
    let (answer, ()) = tokio::join!(connection.request("x").idempotent().into_future(), async {
        read_frame(&mut theirs).await;
        drop(theirs);
    });
    let error = answer.unwrap_err();
    assert!(
        error.outcome() == Outcome::Unknown && error.kind() == ErrorKind::Disconnected,
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_be_sent_again_takes_no_answer_to_another() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame_of("b", "OK", "not mine"))]);
    let request = connection.request("x").id("a").idempotent();
    let error = request.await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unexpected && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_first_response_covers_the_writing() {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut connection = Connection::new(Channel::<Request, Response, Json, _>::new(ours));
    let reading = tokio::spawn(async move {
        sleep(SECOND).await;
        read_frame(&mut theirs).await;
        sleep(DAY).await;
    });
    let request = connection.request("x".repeat(1000)).timeout(TIMEOUT);
    let (answer, elapsed) = timed(request).await;
    assert!(answer.unwrap_err().outcome() == Outcome::Unknown);
    assert_eq!(elapsed, TIMEOUT, "not another {TIMEOUT:?} after it was written");
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_does_before_it_waits_does_not_count() {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut connection = Connection::new(Channel::<Request, Response, Json, _>::new(ours));
    let reading = tokio::spawn(async move {
        sleep(SECOND / 2).await;
        read_frame(&mut theirs).await;
        sleep(DAY).await;
    });
    let sending = connection.request("x".repeat(1000)).timeout(TIMEOUT).send();
    let (responses, elapsed) = timed(sending).await;
    assert_eq!(elapsed, SECOND / 2);
    sleep(TIMEOUT * 5).await;
    let mut responses = responses.unwrap();
    let (item, elapsed) = timed(responses.next()).await;
    assert_eq!(item.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(elapsed, SECOND * 3 / 2, "the rest of the timeout, which started with the writing");
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn a_wire_without_ids_is_followed_by_the_same_loop() {
    #[derive(Serialize)]
    struct Question(u32);
    impl RequestMessage for Question {}

    #[derive(Debug, Deserialize)]
    struct Answer(i32);
    impl ResponseMessage for Answer {
        type Event = Self;
        type Reply = Self;

        fn status(&self) -> Option<Status> {
            match self.0 {
                0 => Some(Status::Ok),
                1 => Some(Status::Processing),
                2 => Some(Status::Error),
                _ => None,
            }
        }
        fn id(&self) -> Option<&str> {
            None
        }

        fn into_event(self) -> Result<Self, Self> {
            Ok(self)
        }

        fn into_reply(self) -> Result<Self, Self> {
            Ok(self)
        }
    }

    let (ours, mut theirs) = tokio::io::duplex(64);
    let mut connection = Connection::new(Channel::<Question, Answer, Json, _>::new(ours));
    let (answer, sent) = tokio::join!(connection.message(Question(7)).into_future(), async {
        let sent = read_frame(&mut theirs).await;
        theirs.write_all(b"1\x001\x000\0").await.unwrap();
        sent
    });
    assert_eq!((answer.unwrap().0, sent.as_str()), (0, "7"));

    let (answer, ()) = tokio::join!(connection.message(Question(7)).into_future(), async {
        read_frame(&mut theirs).await;
        theirs.write_all(b"2\0").await.unwrap();
    });
    assert!(answer.unwrap_err().outcome() == Outcome::Failed);

    let (answer, ()) = tokio::join!(connection.message(Question(7)).into_future(), async {
        read_frame(&mut theirs).await;
        theirs.write_all(b"9\0").await.unwrap();
    });
    let error = answer.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Malformed && error.outcome() == Outcome::Unknown,
        "{error:?}"
    );
    assert_eq!(error.response().unwrap().0, 9, "the response is kept");
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn awaiting_responses_that_were_read_to_their_end_is_an_error() {
    let (mut connection, theirs) = connected();
    play(theirs, vec![(SECOND, frame("OK", "done"))]);
    let mut responses = connection.request("x").id("a").send().await.unwrap();
    responses.next().await.unwrap().unwrap();
    let error = responses.await.unwrap_err();
    assert_eq!(error.to_string(), "the final response was returned before");
}

#[tokio::test(start_paused = true)]
async fn responses_that_are_dropped_close_the_connection() {
    let (mut connection, mut theirs) = connected();
    let responses = connection.request("x").send().await.unwrap();
    read_frame(&mut theirs).await;
    drop(responses);
    let end = timeout(SECOND, theirs.read_u8()).await.expect("the server sees the end");
    assert!(end.is_err());
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_any_request_is_the_answer_to_the_first_that_can_be_sent() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let small = kakehi_client::BufferLimits { initial: 64, max: 200 };
    let mut connection: Pipe = Connection::new(Channel::with_limits(ours, small, small));
    theirs
        .write_all(b"{\"id\":\"\",\"version\":0,\"status\":\"ERROR\",\"message\":\"full\",\"refused\":\"busy\"}\0")
        .await
        .unwrap();
    let error = connection.request("x".repeat(300)).await.unwrap_err();
    assert!(
        error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::TooLarge,
        "{error:?}"
    );
    let error = connection.request("x").await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Busy), "{error:?}");
}
