//! Many requests on one connection: the bytes, the number of writes, and each outcome.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use kakehi_channel::Json;
use kakehi_client::{
    BufferLimits, Channel, Connection, ErrorKind, Outcome, Request, Response, Timeouts,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::{Instant, sleep, timeout},
};

type Theirs = Channel<Response, Request, Json, DuplexStream>;

const SECOND: Duration = Duration::from_secs(1);
/// How long the client waits for the server's answer to the deadline.
const GRACE: Duration = Duration::from_millis(100);

fn connected(
    size: usize,
) -> (Connection<Request, Response, Json, Counted>, Theirs, Arc<AtomicUsize>) {
    let (ours, theirs) = tokio::io::duplex(size);
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Counted { stream: ours, writes: Arc::clone(&writes) };
    (Connection::new(Channel::new(counted)), Channel::new(theirs), writes)
}

/// Counts how often it is written to.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writes.fetch_add(1, SeqCst);
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Answers each by a PROCESSING and OK, the command `"fail"` by ERROR.
async fn answer_all(mut theirs: Theirs) {
    while let Some(Ok(Request { id, command, .. })) = theirs.next().await {
        let last = if command == Some(json!("fail")) {
            Response::error(&id, "no")
        } else {
            Response { content: command, ..Response::ok(&id, "") }
        };
        if theirs.send(Response::processing(&id, "on it")).await.is_err()
            || theirs.send(last).await.is_err()
        {
            return;
        }
    }
}

fn timeouts(
    timeout: impl Into<Option<Duration>>,
    deadline: impl Into<Option<Duration>>,
) -> Timeouts {
    Timeouts { timeout: timeout.into(), deadline: deadline.into() }
}

#[tokio::test]
async fn outcomes_come_in_order_and_each_is_one_s_own() {
    let (mut connection, theirs, _) = connected(1 << 20);
    tokio::spawn(answer_all(theirs));
    let commands =
        (0..5000).map(|number| if number % 7 == 0 { json!("fail") } else { json!(number) });
    let outcomes: Vec<_> = connection.pipeline(commands).collect().await;
    assert_eq!(outcomes.len(), 5000);
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(response) => assert_eq!(response.content, Some(json!(number))),
            Err(error) => {
                assert!(
                    number % 7 == 0 && error.outcome() == Outcome::Failed,
                    "{number}: {error:?}"
                );
                assert_eq!(error.response().unwrap().message, "no");
            }
        }
    }
    assert_eq!(connection.request("as before").await.unwrap().content, Some(json!("as before")));
}

#[tokio::test]
async fn what_fits_together_is_written_together() {
    let (mut connection, theirs, writes) = connected(1 << 20);
    tokio::spawn(answer_all(theirs));
    assert_eq!(
        connection
            .pipeline(0..500)
            .filter(|one| {
                let is_ok = one.is_ok();
                async move { is_ok }
            })
            .count()
            .await,
        500
    );
    assert_eq!(writes.load(SeqCst), 1);

    assert_eq!(connection.pipeline(0..20_000).count().await, 20_000);
    let writes = writes.load(SeqCst) - 1;
    assert!(writes <= 20_000 / 500 + 1, "{writes} writes for 20,000 requests");
}

#[tokio::test(start_paused = true)]
async fn neither_side_waits_for_the_other_to_read() {
    // Both pipes are full long before all is written.
    let (mut connection, theirs, _) = connected(100);
    tokio::spawn(answer_all(theirs));
    let commands = (0..200).map(|number| json!([number, "x".repeat(1000)]));
    let all = connection.pipeline(commands).map(Result::unwrap).count();
    assert_eq!(timeout(SECOND, all).await, Ok(200));
    assert!(connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_is_under_way() {
    let (mut connection, mut theirs, _) = connected(10 << 20);
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let endless = (0_u64..).inspect(move |_| {
        counter.fetch_add(1, SeqCst);
    });
    let mut outcomes = connection.pipeline(endless).with_timeouts(timeouts(SECOND, None));
    assert_eq!(outcomes.next().await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(taken.load(SeqCst), 1024);
    assert!(theirs.next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn after_a_disconnect_each_that_is_left_is_told_what_became_of_it() {
    let (mut connection, mut theirs, _) = connected(150);
    tokio::spawn(async move {
        let Request { id, .. } = theirs.next().await.unwrap().unwrap();
        theirs.send(Response::ok(id, "the only one")).await.unwrap();
        sleep(SECOND).await;
    });
    let outcomes: Vec<_> =
        connection.pipeline(0..10).with_timeouts(timeouts(None, None)).collect().await;
    assert_eq!(outcomes.len(), 10);
    assert_eq!(outcomes[0].as_ref().unwrap().message, "the only one");
    let rest: Vec<_> = outcomes[1..].iter().map(|one| one.as_ref().unwrap_err()).collect();
    assert!(rest.iter().all(|error| error.kind() == ErrorKind::Disconnected));
    let unknown = rest.iter().take_while(|error| error.outcome() == Outcome::Unknown).count();
    assert!((1..9).contains(&unknown), "{unknown} had left when the pipe was full");
    assert!(rest[unknown..].iter().all(|error| error.outcome() == Outcome::NotSent), "{rest:?}");
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn progress_restarts_the_timeout_and_the_deadline_is_for_all() {
    let slow = |mut theirs: Theirs| async move {
        while let Some(Ok(Request { id, .. })) = theirs.next().await {
            sleep(SECOND).await;
            theirs.send(Response::processing(&id, "")).await.unwrap();
            sleep(SECOND).await;
            if theirs.send(Response::ok(&id, "")).await.is_err() {
                return;
            }
        }
    };
    let patience = SECOND * 3 / 2;

    let (mut connection, theirs, _) = connected(4096);
    tokio::spawn(slow(theirs));
    assert_eq!(
        connection
            .pipeline(0..5)
            .with_timeouts(timeouts(patience, None))
            .map(Result::unwrap)
            .count()
            .await,
        5
    );

    let (mut connection, theirs, _) = connected(4096);
    tokio::spawn(slow(theirs));
    let start = Instant::now();
    let outcomes = connection.pipeline(0..5).with_timeouts(timeouts(patience, SECOND * 5));
    let outcomes: Vec<_> = outcomes.collect().await;
    assert_eq!(start.elapsed(), SECOND * 5 + GRACE);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert_eq!(outcomes[2].as_ref().unwrap_err().kind(), ErrorKind::Deadline);
    assert!(outcomes[4].as_ref().unwrap_err().outcome() == Outcome::Unknown);
}

#[tokio::test]
async fn one_that_cannot_be_encoded_spares_the_others() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(answer_all(Channel::new(theirs)));
    let tight = BufferLimits { initial: 128, max: 128 };
    let channel =
        Channel::<Request, Response, Json, _>::with_limits(ours, BufferLimits::CLIENT, tight);
    let mut connection = Connection::new(channel);
    let commands = ["one".to_owned(), "x".repeat(200), "three".to_owned()];
    let outcomes: Vec<_> = connection.pipeline(commands).collect().await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(
        error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::TooLarge,
        "{error:?}"
    );
    assert!(connection.is_open());
}

#[tokio::test]
async fn an_answer_out_of_order_breaks_the_pipeline() {
    let (mut connection, mut theirs, _) = connected(4096);
    tokio::spawn(async move {
        let mut ids = vec![];
        for _ in 0..2 {
            ids.push(theirs.next().await.unwrap().unwrap().id);
        }
        for id in ids.into_iter().rev() {
            theirs.feed(Response::ok(id, "")).await.unwrap();
        }
        theirs.flush().await.unwrap();
        let _ = theirs.next().await;
    });
    let outcomes: Vec<_> = connection.pipeline(0..2).collect().await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::Unexpected);
    assert!(outcomes[1].as_ref().unwrap_err().outcome() == Outcome::Unknown);
    assert!(!connection.is_open());
}

#[tokio::test]
async fn a_pipeline_of_none_or_on_a_closed_connection_does_nothing() {
    let (mut connection, theirs, writes) = connected(4096);
    let none: [u8; 0] = [];
    assert_eq!(connection.pipeline(none).count().await, 0);
    assert!(connection.is_open());
    drop(theirs);
    for _ in 0..2 {
        let outcomes: Vec<_> = connection.pipeline(0..3).collect().await;
        assert_eq!(outcomes.len(), 3);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(
                error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Disconnected,
                "{error:?}"
            );
        }
    }
    assert_eq!(writes.load(SeqCst), 0);
}
