//! Every future is dropped at every point where it waits: nothing leaks, nothing is mixed up.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    future::{IntoFuture, poll_fn},
    path::PathBuf,
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::StreamExt;
use kakehi_client::{Client, ClientSettings, Connection, Outcome, Reconnect, Request, Response};
use kakehi_tests::raw::{Peer, RawServer, listen};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(5);
const POOL: usize = 2;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    (dir, path)
}

/// Polls `future` at most `times` times, each time after a wake, then drops it.
async fn poll_at_most<F: IntoFuture>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future.into_future());
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Two PROCESSING, then OK with the command as the content, with a pause before each.
async fn slow_echo(mut peer: Peer) {
    while let Some(Ok(Request { id, command, .. })) = peer.next().await {
        for message in ["one", "two"] {
            tokio::task::yield_now().await;
            if peer.send(Response::processing(&id, message)).await.is_err() {
                return;
            }
        }
        sleep(Duration::from_millis(1)).await;
        let response = Response { content: command, ..Response::ok(id, "") };
        if peer.send(response).await.is_err() {
            return;
        }
    }
}

/// Drops what `asking` makes after 0, 1, 2, … polls, until it comes to its end, and looks each
/// time whether the client is as it should be. Gives how many polls it took.
async fn drop_everywhere<F: IntoFuture>(
    server: &RawServer,
    client: &Client,
    mut asking: impl FnMut(usize) -> F,
) -> usize {
    for times in 0.. {
        let output = timeout(PATIENCE, poll_at_most(times, asking(times))).await.unwrap();
        server.until_open(POOL).await;
        assert_eq!(client.stats().busy, 0, "after {times} polls");
        // With as many at once as there are connections: each place is free.
        let mine = (0..POOL).map(|number| {
            let command = json!({ "after": times, "number": number });
            async move {
                let answer = timeout(PATIENCE, client.request(command.clone()).id("same")).await;
                assert_eq!(answer.unwrap().unwrap().content, Some(command));
            }
        });
        futures::future::join_all(mine).await;
        if output.is_some() {
            assert!(client.stats().idle <= POOL);
            return times;
        }
    }
    unreachable!("it never ended")
}

#[tokio::test]
async fn a_request_dropped_anywhere_harms_nothing() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let client =
        Client::new(&path, ClientSettings { pool_size: POOL, ..ClientSettings::default() });
    for size in [1, 500_000] {
        let command = |times| json!([times, "x".repeat(size)]);
        let asking = |times| client.request(command(times)).id("same").into_future();
        let polls = drop_everywhere(&server, &client, asking).await;
        assert!(polls >= 3, "{polls} polls have few places to wait at");
    }
}

#[tokio::test]
async fn a_request_on_a_new_connection_dropped_anywhere_harms_nothing() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let mut clients = vec![];
    for times in 0.. {
        let client =
            Client::new(&path, ClientSettings { pool_size: POOL, ..ClientSettings::default() });
        let output = poll_at_most(times, client.request(times)).await;
        assert_eq!(client.stats().busy, 0);
        let answer = client.request("mine").await.unwrap();
        assert_eq!(answer.content, Some(json!("mine")));
        clients.push(client);
        if output.is_some() {
            break;
        }
    }
    clients.clear();
    server.until_open(0).await;
}

#[tokio::test]
async fn sending_and_following_dropped_anywhere_harm_nothing() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let client =
        Client::new(&path, ClientSettings { pool_size: POOL, ..ClientSettings::default() });
    drop_everywhere(&server, &client, |times| {
        let request = client.request(json!([times, "x".repeat(500_000)])).id("same");
        async {
            let mut responses = request.send().await.unwrap();
            let mut seen = 0;
            while let Some(response) = responses.next().await {
                response.unwrap();
                seen += 1;
            }
            assert_eq!(seen, 3);
        }
    })
    .await;
    drop_everywhere(&server, &client, |times| {
        let request = client.request(times).id("same");
        async {
            let mut responses = request.send().await.unwrap();
            while responses.next_within(PATIENCE).await.unwrap().is_some() {}
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_connection_dropped_anywhere_gives_up_its_turn() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let client =
        Client::new(&path, ClientSettings { pool_size: POOL, ..ClientSettings::default() });
    let polls = drop_everywhere(&server, &client, |times| {
        let (client, other) = (client.clone(), client.clone());
        async move {
            // All connections are in use while the third one waits.
            let holding = (0..POOL).map(|_| other.request("holds").into_future());
            let holding = futures::future::join_all(holding);
            let (answers, mine) = tokio::join!(holding, client.request(times).into_future());
            assert!(answers.iter().all(Result::is_ok));
            assert_eq!(mine.unwrap().content, Some(json!(times)));
        }
    })
    .await;
    assert!(polls >= 4, "{polls} polls have few places to wait at");
}

#[tokio::test]
async fn reconnecting_dropped_anywhere_leaves_nothing_behind() {
    let (_dir, path) = place();
    let fast = Reconnect { first: Duration::from_millis(1), max: Duration::from_millis(1) };
    let client = Client::new(
        &path,
        ClientSettings { pool_size: POOL, reconnect: Some(fast), ..ClientSettings::default() },
    );
    for times in 0..20 {
        assert!(poll_at_most(times, client.request(times)).await.is_none());
        assert!(poll_at_most(times, client.ready()).await.is_none());
        assert_eq!((client.stats().busy, client.stats().idle), (0, 0));
    }
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let asking = |_| client.ready();
    drop_everywhere(&server, &client, asking).await;
}

#[tokio::test]
async fn a_connection_is_whole_or_closed_wherever_its_request_was_dropped() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    for times in 0.. {
        let mut connection = Connection::connect(&path).await.unwrap();
        let output = poll_at_most(times, connection.request(times).id("same")).await;
        match connection.request("mine").id("same").await {
            Ok(answer) => {
                assert!(times == 0 || output.is_some(), "abandoned after {times} polls, and used");
                assert_eq!(answer.content, Some(json!("mine")));
            }
            Err(error) => {
                assert!(error.outcome() == Outcome::NotSent && output.is_none(), "{error:?}");
            }
        }
        server.until_open(1).await;
        if output.is_some() {
            assert!(connection.is_open());
            break;
        }
    }
}

#[tokio::test]
async fn a_pipeline_dropped_anywhere_closes_its_connection_or_loses_nothing() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, _| slow_echo(peer));
    for times in 0.. {
        let mut connection = Connection::connect(&path).await.unwrap();
        let outcomes = connection.pipeline(0..5).collect::<Vec<_>>();
        let output = poll_at_most(times, outcomes).await;
        assert_eq!(connection.is_open(), times == 0 || output.is_some());
        if let Some(outcomes) = output {
            let contents = outcomes.into_iter().map(|outcome| outcome.unwrap().content.unwrap());
            assert_eq!(contents.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            break;
        }
        drop(connection);
        server.until_open(0).await;
    }
}

/// A `next` that is dropped and made again, over and over, sees what one that is not sees.
#[tokio::test]
async fn following_goes_on_where_a_dropped_wait_left_off() {
    let (_dir, path) = place();
    let _server = RawServer::start(&path, |peer, _| slow_echo(peer));
    let client = Client::new(&path, ClientSettings::default());
    for _ in 0..20 {
        let mut responses = client.request("x").send().await.unwrap();
        let mut seen = vec![];
        loop {
            match poll_at_most(1, responses.next()).await {
                None => tokio::task::yield_now().await,
                Some(None) => break,
                Some(Some(response)) => seen.push(response.unwrap().message),
            }
        }
        assert_eq!(seen, ["one", "two", ""]);
    }
    assert_eq!(client.stats().opened, 1, "each was read to its end");
}

#[tokio::test]
async fn a_dropped_client_closes_all_but_what_is_under_way() {
    let (_dir, path) = place();
    let server = RawServer::start(&path, |peer, number| async move {
        if number == 0 { slow_echo(peer).await } else { listen(peer).await }
    });
    let client = Client::new(&path, ClientSettings::default());
    let _: Value = client.request(1).await.unwrap().content.unwrap();
    let first = client.request(1).send().await.unwrap();
    let second = client.request(2).send().await.unwrap();
    drop(client);
    first.await.unwrap();
    server.until_open(1).await;
    drop(second);
    server.until_open(0).await;
}
