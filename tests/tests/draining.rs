//! The shutdown of a server, and its limits, as seen by clients that connect in the meantime.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    future::IntoFuture,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use kakehi_client::{
    Client, ClientSettings, ErrorKind, Outcome, Reconnect, Refusal, Request, Response,
};
use kakehi_server::{Context, Failure, Handle, Limits, Peer, Socket, serve, serve_stream};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    (dir, path)
}

async fn handle(request: Request<String>, context: Context) -> Result<String, Failure> {
    let (cancelled, draining) = (context.cancellation(), context.server().draining());
    let command = request.command.unwrap_or_default();
    match command.as_str() {
        "follow" => {
            context.progress("following").await?;
            draining.cancelled().await;
            Ok("followed to the end".into())
        }
        "hold" => {
            context.progress("holding").await?;
            cancelled.cancelled().await;
            Ok("held".into())
        }
        "fail" => {
            cancelled.cancelled().await;
            Err(Failure::new("rolled back"))
        }
        "end it" => {
            draining.cancel();
            Ok("tried".into())
        }
        "refuse late" => {
            sleep(15 * SHORT).await;
            Err(Failure::refused(Refusal::Busy, "try later"))
        }
        "refuse behind progress" => {
            context.progress("looking").await?;
            Err(Failure::refused(Refusal::Busy, "try later"))
        }
        _ => Ok(command),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "callers write the limits in place")]
fn server(path: &PathBuf, its: &Handle, limits: Limits) -> JoinHandle<()> {
    let socket = Socket::bind(path).listen().unwrap();
    let limits = Limits { drain_time: PATIENCE, ..limits };
    let server = serve(socket, handle).handle(its).limits(limits);
    tokio::spawn(server.into_future())
}

async fn ends(server: JoinHandle<()>) {
    timeout(PATIENCE / 2, server).await.unwrap().unwrap();
}

async fn until(done: impl Fn() -> bool) {
    let look = async {
        while !done() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_follows_something_can_return_when_the_drain_starts() {
    let (_dir, path) = place();
    let (end, ended) = oneshot::channel::<()>();
    let limits = Limits { drain_time: PATIENCE, ..Limits::default() };
    let server = serve(Socket::bind(&path).listen().unwrap(), handle).limits(limits);
    let server = server.shutdown(async { drop(ended.await) });
    let task = tokio::spawn(server.into_future());
    let client = Client::new(&path, ClientSettings::default());
    assert_eq!(client.request("end it").await.unwrap().message, "tried");
    let mut following = client.request("follow").send().await.unwrap();
    assert_eq!(following.next().await.unwrap().unwrap().message, "following", "it still runs");
    drop(end);
    let answer = timeout(PATIENCE / 2, following.next()).await.unwrap();
    assert_eq!(answer.unwrap().unwrap().message, "followed to the end");
    ends(task).await;
}

#[tokio::test]
async fn servers_with_one_handle_end_together() {
    let ((_dir, one), (_other_dir, other), handle) = (place(), place(), Handle::default());
    let tasks = [&one, &other].map(|path| server(path, &handle, Limits::default()));
    for path in [&one, &other] {
        Client::new(path, ClientSettings::default()).request("x").await.unwrap();
    }
    assert_eq!(handle.stats().ok, 2);
    handle.shutdown();
    for task in tasks {
        ends(task).await;
    }
}

#[tokio::test]
async fn a_cancelled_request_counts_as_cancelled_whatever_its_handler_returned() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let _server = server(&path, &handle, Limits::default());
    let client = Client::new(&path, ClientSettings::default());
    for command in ["hold", "fail"] {
        let error = client.request(command).deadline(SHORT).await.unwrap_err();
        // The response of the server can come before the client reports its own deadline.
        assert!(
            error.kind() == ErrorKind::Deadline || error.outcome() == Outcome::Failed,
            "{error}"
        );
    }
    let mut left = client.request("hold").send().await.unwrap();
    left.next().await.unwrap().unwrap();
    drop(left);
    until(|| handle.stats().running == 0).await;
    let stats = handle.stats();
    assert_eq!((stats.cancelled, stats.ok, stats.error), (3, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn bytes_count_while_the_connection_is_still_open() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let _server = server(&path, &handle, Limits::default());
    let client = Client::new(&path, ClientSettings::default());
    let text = "x".repeat(1000);
    client.request(text.clone()).await.unwrap();
    let before = handle.stats();
    assert!(before.bytes_received > 1000 && before.bytes_sent > 1000, "{before:?}");
    client.request(text).await.unwrap();
    let after = handle.stats();
    assert!((after.bytes_received / 2).abs_diff(before.bytes_received) < 10, "{after:?}");
    assert!((after.bytes_sent / 2).abs_diff(before.bytes_sent) < 10, "{after:?}");
    assert_eq!(after.connections, 1);
}

#[tokio::test]
async fn a_request_waits_for_the_next_server_while_one_drains() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let task = server(&path, &handle, Limits::default());
    let plain = Client::new(&path, ClientSettings::default());
    let patient = Client::new(
        &path,
        ClientSettings { reconnect: Some(Reconnect::default()), ..ClientSettings::default() },
    );
    patient.ready().await.unwrap();
    plain.ready().await.unwrap();
    let mut held =
        Client::new(&path, ClientSettings::default()).request("hold").send().await.unwrap();
    held.next().await.unwrap().unwrap();
    handle.shutdown();
    until(|| handle.stats().running == 1).await;
    let error = plain.request("x").await.unwrap_err();
    assert_eq!((error.outcome(), error.refusal()), (Outcome::Refused, Some(Refusal::ShuttingDown)));
    let waiting = tokio::spawn(async move { patient.request("next").await });
    sleep(SHORT).await;
    assert!(!waiting.is_finished(), "it waits");
    drop(held);
    ends(task).await;
    let _next = server(&path, &Handle::default(), Limits::default());
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.message, "next");
}

#[tokio::test]
async fn the_wait_for_a_busy_server_counts_towards_timeout_and_deadline() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let _server = server(&path, &handle, Limits { connections: 1, ..Limits::default() });
    let first = Client::new(&path, ClientSettings::default());
    let held = first.request("hold").send().await.unwrap();
    let plain = Client::new(&path, ClientSettings::default());
    assert_eq!(plain.request("x").await.unwrap_err().refusal(), Some(Refusal::Busy));

    let often = Reconnect { first: Duration::from_millis(1), max: Duration::from_millis(5) };
    let patient =
        Client::new(&path, ClientSettings { reconnect: Some(often), ..ClientSettings::default() });
    // The time can pass between two attempts, or while one is being refused.
    for _ in 0..5 {
        let by_deadline = patient.request("x").deadline(3 * SHORT);
        let by_timeout = patient.request("x").timeout(3 * SHORT);
        for (request, kind) in
            [(by_deadline, ErrorKind::Deadline), (by_timeout, ErrorKind::Timeout)]
        {
            let error = timeout(PATIENCE / 2, request.into_future()).await.unwrap().unwrap_err();
            assert!(
                error.kind() == kind && error.outcome() == Outcome::NotSent
                    || error.outcome() == Outcome::Refused,
                "{error}"
            );
            assert!(error.to_string().contains("already has 1 connections"), "{error}");
        }
    }

    let waiting = tokio::spawn(async move { patient.request("x").await });
    sleep(SHORT).await;
    assert!(!waiting.is_finished(), "it waits");
    drop((held, first));
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().message, "x");
}

#[tokio::test]
async fn a_refusal_after_progress_is_final() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let _server = server(&path, &handle, Limits::default());
    let patient = Client::new(
        &path,
        ClientSettings { reconnect: Some(Reconnect::default()), ..ClientSettings::default() },
    );
    let mut responses = patient.request("refuse behind progress").send().await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap().message, "looking");
    let last = timeout(PATIENCE / 2, responses.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((last.refused, handle.stats().refused_requests), (Some(Refusal::Busy), 1));
}

#[tokio::test]
async fn a_refusal_without_time_for_a_retry_is_final() {
    let ((_dir, path), handle) = (place(), Handle::default());
    let _server = server(&path, &handle, Limits::default());
    let patient = Client::new(
        &path,
        ClientSettings { reconnect: Some(Reconnect::default()), ..ClientSettings::default() },
    );
    let error = patient.request("refuse late").timeout(5 * SHORT).await.unwrap_err();
    assert_eq!((error.refusal(), handle.stats().refused_requests), (Some(Refusal::Busy), 1));
}

#[tokio::test(start_paused = true)]
async fn the_remaining_time_after_the_deadline_is_not_zero() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(std::sync::Mutex::new(Some(tell)));
    let handler = move |_: Request, context: Context| {
        let tell = tell.lock().unwrap().take().unwrap();
        async move {
            context.cancellation().cancelled().await;
            sleep(SHORT).await;
            let _ = tell.send(context.remaining());
            Ok::<_, Failure>(())
        }
    };
    tokio::spawn(serve_stream(ours, Peer::own(), handler, Limits::default()));
    let mut client =
        kakehi_client::Connection::<Request, Response, _, _>::new(kakehi_channel::Channel::<
            _,
            _,
            kakehi_channel::Json,
            _,
        >::new(theirs));
    let error = client.request("x").deadline(SHORT).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Deadline || error.outcome() == Outcome::Failed, "{error}");
    assert_eq!(told.await.unwrap(), Some(Duration::from_millis(1)));
}

/// Idle connections do not lead past the delay between two attempts.
#[tokio::test]
async fn a_refused_request_backs_off_though_connections_are_idle() {
    let (_dir, path) = place();
    let (is_busy, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let answer = {
        let (is_busy, refused) = (Arc::clone(&is_busy), Arc::clone(&refused));
        async move |_: Request<String>, _: Context| {
            if is_busy.load(Ordering::SeqCst) {
                refused.fetch_add(1, Ordering::SeqCst);
                return Err(Failure::refused(Refusal::Busy, "try later"));
            }
            sleep(SHORT).await;
            Ok("done")
        }
    };
    tokio::spawn(serve(Socket::bind(&path).listen().unwrap(), answer).into_future());
    let seldom = Reconnect { first: PATIENCE, max: PATIENCE };
    let client: Client =
        Client::new(&path, ClientSettings { reconnect: Some(seldom), ..ClientSettings::default() });
    let first: Vec<_> = (0..4).map(|_| client.request("x").into_future()).collect();
    for done in futures::future::join_all(first).await {
        done.unwrap();
    }
    is_busy.store(true, Ordering::SeqCst);
    client.request("x").deadline(2 * SHORT).await.unwrap_err();
    assert_eq!(refused.load(Ordering::SeqCst), 1);
}
