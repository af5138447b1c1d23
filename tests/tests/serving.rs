//! The server on real sockets: who leaves, who crowds it, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kakehi_channel::{Channel, Refusal, Request, Response, Status};
use kakehi_server::{Access, Context, Handle, Handler, Limits, Peer, Serve, Socket, serve};
use tempfile::TempDir;
use tokio::{net::UnixStream, sync::Notify, task::JoinHandle, time::timeout};

type Client = Channel<Request<String>, Response>;

const PATIENCE: Duration = Duration::from_secs(10);

/// The counters of a test server's handlers.
#[derive(Debug, Default)]
struct Seen {
    started: AtomicUsize,
    dropped: AtomicUsize,
    finished: AtomicUsize,
    changed: Notify,
}

impl Seen {
    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let look = async {
            while !what(self) {
                self.changed.notified().await;
            }
        };
        timeout(PATIENCE, look).await.expect("it was seen in time");
    }

    fn count(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }
}

struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.count(&self.0.dropped);
    }
}

fn dropped(seen: &Seen) -> usize {
    seen.dropped.load(Ordering::SeqCst)
}

struct Handling(Arc<Seen>);

impl Handler<String> for Handling {
    type Answer = &'static str;
    type Error = kakehi_channel::ChannelError;

    async fn handle(
        &self,
        request: Request<String>,
        context: Context,
    ) -> Result<&'static str, kakehi_channel::ChannelError> {
        let Self(seen) = self;
        seen.count(&seen.started);
        let _running = Running(Arc::clone(seen));
        match request.command.as_deref() {
            Some("hang") => pending::<()>().await,
            Some("hang after a word") => {
                context.progress("begun").await?;
                pending::<()>().await;
            }
            Some("flood") => loop {
                context.progress("x".repeat(1000)).await?;
            },
            Some("finish") => {
                context.detach_from_client();
                context.progress("begun").await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                context.progress("after the disconnect").await?;
                seen.count(&seen.finished);
            }
            Some("slow") => tokio::time::sleep(Duration::from_millis(300)).await,
            _ => {}
        }
        Ok("done")
    }
}

struct Server {
    folder: TempDir,
    seen: Arc<Seen>,
    handle: Handle,
    task: JoinHandle<()>,
}

impl Server {
    fn start(set_up: impl FnOnce(Serve<String, Handling>) -> Serve<String, Handling>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind(folder.path().join("s")).listen().unwrap();
        let seen = Arc::new(Seen::default());
        let server = Handle::default();
        let handler = Handling(Arc::clone(&seen));
        let task = tokio::spawn(set_up(serve(socket, handler).handle(&server)).into_future());
        Self { folder, seen, handle: server, task }
    }

    async fn connect(&self) -> Client {
        Channel::connect(self.folder.path().join("s")).await.unwrap()
    }

    async fn ends_within(&mut self, time: Duration) -> Duration {
        let begun = Instant::now();
        timeout(time, &mut self.task).await.expect("the server ends in time").unwrap();
        begun.elapsed()
    }
}

fn command(command: &str) -> Request<String> {
    Request::with_command(command, command.to_owned())
}

async fn next(client: &mut Client) -> Response {
    let item = timeout(PATIENCE, client.next()).await.expect("an answer in time");
    item.expect("the connection goes on").expect("a response")
}

async fn ended(client: &mut Client) -> bool {
    timeout(PATIENCE, client.next()).await.expect("an end in time").is_none_or(|item| item.is_err())
}

#[tokio::test]
async fn a_disconnect_cancels_the_handler_within_a_second() {
    let server = Server::start(|serve| serve);
    let begun = Instant::now();
    let mut client = server.connect().await;
    client.send(command("hang")).await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 1).await;
    drop(client);
    server.seen.until(|seen| dropped(seen) == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_disconnect_behind_an_unread_request_is_detected() {
    let server = Server::start(|serve| serve);
    let mut client = server.connect().await;
    client.feed(command("hang")).await.unwrap();
    client.feed(command("next")).await.unwrap();
    client.send(command("and next")).await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 1).await;
    let begun = Instant::now();
    drop(client);
    server.seen.until(|seen| dropped(seen) == 1).await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(server.seen.started.load(Ordering::SeqCst), 1, "the rest is not started");
}

#[tokio::test]
async fn a_half_closed_client_is_answered_and_may_still_disconnect() {
    let server = Server::start(|serve| serve);
    let mut client = server.connect().await;
    client.feed(command("slow")).await.unwrap();
    client.feed(command("quick")).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(next(&mut client).await, Response::ok("slow", "done"));
    assert_eq!(next(&mut client).await, Response::ok("quick", "done"));
    assert!(client.next().await.is_none());

    let mut client = server.connect().await;
    client.feed(command("hang after a word")).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(next(&mut client).await.message, "begun");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(dropped(&server.seen), 2, "half-closed is not gone");
    let begun = Instant::now();
    drop(client);
    server.seen.until(|seen| dropped(seen) == 3).await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_detached_handler_continues_after_a_disconnect() {
    let server = Server::start(|serve| serve);
    let mut client = server.connect().await;
    client.send(command("finish")).await.unwrap();
    assert_eq!(next(&mut client).await.message, "begun");
    drop(client);
    server.seen.until(|seen| seen.finished.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_bad_client_does_not_affect_others() {
    let server = Server::start(|serve| serve);
    let mut bad = vec![];
    for what in ["hang", "flood", "flood", "hang after a word"] {
        let mut client = server.connect().await;
        client.send(command(what)).await.unwrap();
        bad.push(client);
    }
    let mut garbage = UnixStream::connect(server.folder.path().join("s")).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut garbage, b"{\"id\":\"half").await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 4).await;
    let mut good = server.connect().await;
    let mut times = vec![];
    for _ in 0..200 {
        let begun = Instant::now();
        good.send(command("quick")).await.unwrap();
        assert_eq!(next(&mut good).await.status, Status::Ok);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    // Not the slowest few: the machine may have other things to do.
    assert!(times[180] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test]
async fn a_client_over_a_limit_gets_the_limit_before_the_close() {
    for (limits, text) in [
        (Limits { connections: 2, ..Limits::default() }, "already has 2 connections"),
        (Limits { connections_per_uid: 2, ..Limits::default() }, "uid "),
    ] {
        let server = Server::start(|serve| serve.limits(limits));
        let mut clients = vec![server.connect().await, server.connect().await];
        for client in &mut clients {
            client.send(command("quick")).await.unwrap();
            assert_eq!(next(client).await.status, Status::Ok);
        }
        let mut third = server.connect().await;
        let refused = next(&mut third).await;
        assert_eq!((refused.id.as_str(), refused.refused), ("", Some(Refusal::Busy)));
        assert!(refused.message.contains(text), "{}", refused.message);
        assert!(ended(&mut third).await);
        assert_eq!(server.handle.stats().refused_connections, 1);

        clients.pop();
        let admitted = async {
            loop {
                let mut client = server.connect().await;
                let _ = client.send(command("quick")).await;
                if next(&mut client).await.status == Status::Ok {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, admitted).await.expect("a place is given back");
    }
}

#[tokio::test]
async fn a_refusal_before_any_request_is_the_answer_to_the_first_one() {
    let server =
        Server::start(|serve| serve.limits(Limits { connections: 1, ..Limits::default() }));
    let mut first = server.connect().await;
    first.send(command("quick")).await.unwrap();
    next(&mut first).await;
    let path = server.folder.path().join("s");
    for rest in [0, 50] {
        let mut second = kakehi_client::Connection::connect(&path).await.unwrap();
        tokio::time::sleep(Duration::from_millis(rest)).await;
        let error = second.request("quick").await.unwrap_err();
        assert!(error.outcome() == kakehi_client::Outcome::Refused, "{error}");
        assert_eq!(error.refusal(), Some(Refusal::Busy));
    }
}

#[tokio::test]
async fn unfinished_requests_of_all_clients_together_are_bounded() {
    let limits = Limits { unfinished_bytes: 100_000, ..Limits::default() };
    let server = Server::start(|serve| serve.limits(limits));
    let half = vec![b'x'; 40_000];
    let mut clients = vec![];
    for _ in 0..3 {
        let mut stream = UnixStream::connect(server.folder.path().join("s")).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &half).await.unwrap();
        clients.push(Channel::<Request<String>, Response>::new(stream));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = next(&mut clients[2]).await;
    assert_eq!(refused.refused, Some(Refusal::Busy));
    assert!(ended(&mut clients[2]).await);
    for client in &mut clients[..2] {
        assert!(timeout(Duration::from_millis(50), client.next()).await.is_err(), "untouched");
    }
}

#[tokio::test]
async fn a_user_without_access_is_refused_with_denied() {
    let nobody = |_: &Peer, request: &Request<String>| match request.command.as_deref() {
        Some("quick") => Ok(()),
        Some("slow") => panic!("the secret text"),
        _ => Err("only `quick` is for you".to_owned()),
    };
    let server = Server::start(|serve| {
        serve.authorize(nobody).access(Access { everybody: true, ..Access::default() })
    });
    let mut client = server.connect().await;
    for what in ["hang", "slow", "quick"] {
        client.feed(command(what)).await.unwrap();
    }
    client.flush().await.unwrap();
    let denied = next(&mut client).await;
    assert_eq!((denied.id.as_str(), denied.refused), ("hang", Some(Refusal::Denied)));
    assert_eq!(denied.message, "only `quick` is for you");
    let denied = next(&mut client).await;
    assert_eq!(
        (denied.message.as_str(), denied.refused),
        ("the authorization panicked", Some(Refusal::Denied))
    );
    assert_eq!(next(&mut client).await.status, Status::Ok);
}

#[tokio::test]
async fn a_drain_lets_running_requests_end_and_refuses_new_ones() {
    let mut server = Server::start(|serve| serve);
    let (mut running, mut idle) = (server.connect().await, server.connect().await);
    running.send(command("slow")).await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 1).await;
    server.handle.shutdown();
    tokio::time::sleep(Duration::from_millis(50)).await;
    idle.send(command("quick")).await.unwrap();
    let refused = next(&mut idle).await;
    assert_eq!(refused.refused, Some(Refusal::ShuttingDown));
    let mut late = server.connect().await;
    late.send(command("quick")).await.unwrap();
    assert_eq!(next(&mut late).await.refused, Some(Refusal::ShuttingDown));
    assert_eq!(next(&mut running).await, Response::ok("slow", "done"));
    assert!(ended(&mut running).await && ended(&mut idle).await);
    let took = server.ends_within(Duration::from_secs(2)).await;
    assert!(took < Duration::from_secs(1), "nothing was left to wait for: {took:?}");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_cancels_the_rest() {
    let mut server = Server::start(|serve| {
        serve.limits(Limits { drain_time: Duration::from_millis(500), ..Limits::default() })
    });
    let (mut hanging, mut flooded) = (server.connect().await, server.connect().await);
    hanging.send(command("hang")).await.unwrap();
    flooded.send(command("flood")).await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 2).await;
    let path = server.folder.path().join("s");
    server.handle.shutdown();
    let told = next(&mut hanging).await;
    assert_eq!(told.status, Status::Error);
    assert!(told.message.contains("shutting down"), "{}", told.message);
    let took = server.ends_within(Duration::from_secs(3)).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert_eq!(dropped(&server.seen), 2, "no handler is left");
    assert!(!path.exists(), "the socket is gone");
}

#[tokio::test]
async fn dropping_the_server_cancels_everything() {
    let server = Server::start(|serve| serve);
    let mut client = server.connect().await;
    client.send(command("hang")).await.unwrap();
    server.seen.until(|seen| seen.started.load(Ordering::SeqCst) == 1).await;
    server.task.abort();
    let told = next(&mut client).await;
    assert_eq!(told.status, Status::Error);
    server.seen.until(|seen| dropped(seen) == 1).await;
}

#[tokio::test]
async fn the_counters_match_the_requests() {
    let server = Server::start(|serve| serve);
    let mut client = server.connect().await;
    client.send(command("quick")).await.unwrap();
    next(&mut client).await;
    let mut leaving = server.connect().await;
    leaving.send(command("hang after a word")).await.unwrap();
    next(&mut leaving).await;
    let stats = server.handle.stats();
    assert_eq!((stats.connections, stats.running, stats.accepted, stats.ok), (2, 1, 2, 1));
    drop((client, leaving));
    let settled = async {
        while server.handle.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, settled).await.unwrap();
    let stats = server.handle.stats();
    assert_eq!((stats.running, stats.cancelled, stats.error), (0, 1, 0));
    assert!(stats.bytes_received > 50 && stats.bytes_sent > 50, "{stats:?}");
}

#[tokio::test]
async fn the_debug_output_of_a_server_contains_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let socket = Socket::bind(folder.path().join("s")).listen().unwrap();
    let mut access = Access::default();
    access.uids.insert(4321);
    access.gids.insert(27);
    let serve = serve(socket, async |_: Request<String>, context: Context| {
        Ok::<_, String>(format!("{context:?}"))
    })
    .access(access)
    .limits(Limits { drain_time: Duration::from_secs(7), ..Limits::default() });
    let shown = format!("{serve:?}");
    for part in ["removed_on_drop", "4321", "drain_time: 7s", "request_bytes: 1048576"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let server = tokio::spawn(serve.into_future());
    let mut client: Client = Channel::connect(folder.path().join("s")).await.unwrap();
    client.send(command("x")).await.unwrap();
    let shown = next(&mut client).await.message;
    assert!(shown.starts_with("Context { peer: Peer { uid: "), "{shown}");
    server.abort();
}
