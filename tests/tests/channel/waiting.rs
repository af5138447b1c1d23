//! Waiting by the clock, which is a paused one: nothing here takes real time.

use std::{future::Future, time::Duration};

use kakehi_channel::{Channel, ErrorKind, Json, Request, Response, Status, low_level::LowLevel};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};

use crate::numbers;

const PATIENCE: Duration = Duration::from_secs(2);
const ALMOST: Duration = Duration::from_millis(1_999);

type Client = Channel<Request, Response, Json, DuplexStream>;
type Server = Channel<Response, Request, Json, DuplexStream>;

fn connected() -> (Client, Server) {
    let (left, right) = tokio::io::duplex(1024);
    (Channel::new(left), Channel::new(right))
}

/// The result of `waiting`, and how long it took.
async fn timed<T>(waiting: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    (waiting.await, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn each_message_restarts_the_clock() {
    let (mut client, mut server) = connected();
    tokio::spawn(async move {
        for message in ["a third", "two thirds"] {
            sleep(ALMOST).await;
            server.send(Response::processing("ID-1", message)).await.unwrap();
        }
        sleep(ALMOST).await;
        server.send(Response::ok("ID-1", "done")).await.unwrap();
    });
    for status in [Status::Processing, Status::Processing, Status::Ok] {
        let (response, elapsed) = timed(client.next_within(PATIENCE)).await;
        assert_eq!((response.unwrap().unwrap().status, elapsed), (status, ALMOST));
    }
    assert_eq!(client.next_within(PATIENCE).await.unwrap(), None, "the end is no timeout");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_and_one_may_wait_again() {
    let (mut channel, mut theirs) = numbers(64);
    for _ in 0..3 {
        let (outcome, elapsed) = timed(channel.next_within(PATIENCE)).await;
        let error = outcome.unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && !error.is_fatal(), "{error}");
        assert_eq!((error.to_string().as_str(), elapsed), ("timed out after 2.0 s", PATIENCE));
        assert_eq!(channel.memory(), 0);
    }
    theirs.write_all(b"7\0").await.unwrap();
    assert_eq!(channel.next_within(PATIENCE).await.unwrap(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn half_a_message_neither_restarts_the_clock_nor_is_it_lost() {
    const SECOND: Duration = Duration::from_secs(1);
    let (mut channel, mut theirs) = numbers(64);
    let writing = tokio::spawn(async move {
        for byte in b"123\0" {
            sleep(SECOND * 7 / 10).await;
            theirs.write_all(&[*byte]).await.unwrap();
        }
    });
    let (outcome, elapsed) = timed(channel.next_within(PATIENCE)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(elapsed, PATIENCE);
    let (outcome, elapsed) = timed(channel.next_within(PATIENCE)).await;
    assert_eq!((outcome.unwrap(), elapsed), (Some(123), SECOND * 8 / 10));
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn zero_is_no_limit_and_never_at_once() {
    const DAY: Duration = Duration::from_secs(86_400);
    let (mut channel, mut theirs) = numbers(64);
    tokio::spawn(async move {
        sleep(DAY).await;
        theirs.write_all(b"1\0?\0").await.unwrap();
    });
    let (outcome, elapsed) = timed(channel.next_within(Duration::ZERO)).await;
    assert_eq!((outcome.unwrap(), elapsed), (Some(1), DAY));
    assert_eq!(channel.next_within(Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Malformed);
    assert_eq!(channel.next_within(Duration::ZERO).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_comes_with_the_least_patience() {
    let (mut channel, mut theirs) = numbers(64);
    theirs.write_all(b"1\x002\0?\x00").await.unwrap();
    drop(theirs);
    let least = Duration::from_nanos(1);
    for number in [1, 2] {
        assert_eq!(channel.next_within(least).await.unwrap(), Some(number));
    }
    assert_eq!(channel.next_within(least).await.unwrap_err().kind(), ErrorKind::Malformed);
    assert_eq!(channel.next_within(least).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn the_longest_patience_is_one_too() {
    let (mut channel, mut theirs) = numbers(64);
    tokio::spawn(async move {
        sleep(PATIENCE).await;
        theirs.write_all(b"1\0").await.unwrap();
    });
    assert_eq!(channel.next_within(Duration::MAX).await.unwrap(), Some(1));
}
