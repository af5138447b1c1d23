//! The runtime goes on while requests wait on a server that never answers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::{
    future::Future,
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kakehi_client::{Client, ClientSettings, Connection, ErrorKind};
use tokio::time::{MissedTickBehavior, interval};

const TICK: Duration = Duration::from_millis(10);
const SETTING: Duration = Duration::from_millis(400);
const TOLERANCE: Duration = Duration::from_millis(50);

/// Ticks until `work` is done, and gives the longest pause between two ticks.
async fn ticking_beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> (T, Duration) {
    let work = tokio::spawn(work);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !work.is_finished() {
        ticks.tick().await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    (work.await.unwrap(), longest)
}

/// Requests of every kind, on a socket that accepts by its backlog alone and never answers: how
/// much later than it should the last one timed out.
async fn requests_that_nobody_answers() -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(
        &path,
        ClientSettings { pool_size: 8, timeout: Some(SETTING), ..ClientSettings::default() },
    );

    // The later half waits for a connection, and the first one is too large to be written.
    let asking = (0..16).map(|number| {
        let client = client.clone();
        async move {
            let start = Instant::now();
            let size = if number == 0 { 300_000 } else { 1 };
            let error = client.request("x".repeat(size)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
            start.elapsed()
        }
    });
    let following = async {
        let mut connection = Connection::connect(&path).await.unwrap();
        let mut responses = connection.request("x").timeout(None).send().await.unwrap();
        let start = Instant::now();
        assert_eq!(responses.next_within(SETTING).await.unwrap_err().kind(), ErrorKind::Timeout);
        start.elapsed()
    };
    let (asked, followed) = tokio::join!(join_all(asking), following);
    let elapsed = asked.into_iter().chain([followed]);
    let late = elapsed.map(|elapsed| elapsed.checked_sub(SETTING).expect("none is too early"));
    late.max().unwrap()
}

/// On a busy machine any one run may be late; all of twenty are only if something blocks.
async fn no_tick_and_no_timeout_is_late() {
    let mut seen = vec![];
    for _ in 0..20 {
        let (timeout_late, longest_pause) = ticking_beside(requests_that_nobody_answers()).await;
        if timeout_late <= TOLERANCE && longest_pause <= TOLERANCE {
            return;
        }
        seen.push((timeout_late, longest_pause));
    }
    panic!("timeouts were late and ticks apart by {seen:?}");
}

#[tokio::test]
async fn a_ticker_keeps_ticking_on_one_thread() {
    no_tick_and_no_timeout_is_late().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticker_keeps_ticking_on_several_threads() {
    no_tick_and_no_timeout_is_late().await;
}
