//! A server on in-memory streams, with a minimal listener.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{
    future::{IntoFuture, pending},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kakehi_channel::{Channel, Refusal, Request, Response, Status};
use kakehi_server::{Context, Handle, Limits, Listener, Peer, serve, serve_stream};
use kakehi_tests::wire::{Script, Step};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Streams, and what goes wrong, out of a queue.
struct Streams(Mutex<mpsc::Receiver<io::Result<DuplexStream>>>);

impl Listener for Streams {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<DuplexStream> {
        let stream = self.0.lock().await.recv().await;
        stream.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn peer(_: &DuplexStream) -> io::Result<Peer> {
        Ok(Peer::own())
    }
}

type Client = Channel<Request<String>, Response, kakehi_channel::Json, DuplexStream>;

/// A server that answers at once, and the queue of its streams.
fn start(limits: Limits) -> (mpsc::Sender<io::Result<DuplexStream>>, JoinHandle<()>) {
    let (streams, accepted) = mpsc::channel(1);
    let handler = async |_: Request<String>, _: Context| Ok::<_, String>("done");
    let serving = serve(Streams(Mutex::new(accepted)), handler).limits(limits);
    (streams, tokio::spawn(serving.into_future()))
}

/// Opens a connection with buffers of `size` bytes.
async fn connect(streams: &mpsc::Sender<io::Result<DuplexStream>>, size: usize) -> Client {
    Channel::new(open(streams, size).await)
}

async fn open(streams: &mpsc::Sender<io::Result<DuplexStream>>, size: usize) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(size);
    streams.send(Ok(theirs)).await.unwrap();
    ours
}

#[tokio::test(start_paused = true)]
async fn a_minimal_listener_serves_and_refuses() {
    let (streams, accepted) = mpsc::channel(1);
    let handler = async |_: Request<String>, _: Context| {
        sleep(Duration::from_secs(60)).await;
        Ok::<_, String>("done")
    };
    let handle = Handle::default();
    let limits = Limits { connections: 1, ..Limits::default() };
    let serving = serve(Streams(Mutex::new(accepted)), handler).limits(limits).handle(&handle);
    let serving = tokio::spawn(serving.into_future());

    let mut client = connect(&streams, 1024).await;
    client.send(Request::with_command("a", "go".to_owned())).await.unwrap();
    while handle.stats().connections == 0 {
        tokio::task::yield_now().await;
    }
    let mut other = connect(&streams, 1024).await;
    let refused = other.next().await.unwrap().unwrap();
    assert_eq!(refused.refused, Some(Refusal::Busy), "{refused:?}");
    assert!(other.next().await.is_none());
    // Where there is no room for a refusal, the end says it.
    let mut narrow = connect(&streams, 8).await;
    let end = timeout(Duration::from_secs(10), narrow.next()).await.unwrap();
    assert!(end.is_none_or(|end| end.is_err()));

    // The listener cannot distinguish a disconnect from a half-close.
    client.close().await.unwrap();
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!((answer.status, answer.id.as_str()), (Status::Ok, "a"));
    handle.shutdown();
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_cannot_accept_is_retried_with_growing_pauses() {
    let (streams, serving) = start(Limits::default());
    // With a queue of one, it is asked for one thing while the next is put in.
    let fail = async |kind: io::ErrorKind| {
        let start = Instant::now();
        streams.send(Err(kind.into())).await.unwrap();
        timeout(Duration::from_secs(10), streams.reserve()).await.unwrap().unwrap();
        start.elapsed().as_millis()
    };

    for _ in 0..3 {
        assert_eq!(
            fail(io::ErrorKind::ConnectionAborted).await,
            0,
            "a client that disconnected causes no pause"
        );
    }
    let mut clients = vec![];
    for _ in 0..2 {
        let mut pauses = vec![];
        for _ in 0..9 {
            pauses.push(fail(io::ErrorKind::OutOfMemory).await);
        }
        assert_eq!(pauses[0], 0, "the first is taken at once");
        for (pause, expected) in pauses[1..].iter().zip([20, 40, 80, 160, 320, 640, 1000, 1000]) {
            assert!((expected..expected + 3).contains(pause), "{pauses:?}");
        }
        // What works again starts anew.
        let mut client = connect(&streams, 1024).await;
        client.send(Request::with_command("a", "go".to_owned())).await.unwrap();
        assert!(client.next().await.unwrap().unwrap().status == Status::Ok);
        clients.push(client);
    }

    // An end of a connection may be what was lacking.
    fail(io::ErrorKind::OutOfMemory).await;
    clients.pop();
    assert_eq!(fail(io::ErrorKind::OutOfMemory).await, 0);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_partial_request_is_freed_before_its_client_reads_the_refusal() {
    let limits = Limits { unfinished_bytes: 100_000, ..Limits::default() };
    let (streams, serving) = start(limits);
    let half = vec![b'x'; 60_000];

    // No reason fits into what the first one has not read.
    let mut first = open(&streams, 8).await;
    first.write_all(&half).await.unwrap();
    sleep(Limits::default().request_time + Duration::from_secs(1)).await;
    let mut second = open(&streams, 8).await;
    second.write_all(&half).await.unwrap();
    for stream in [first, second] {
        let refused = Client::new(stream).next().await.unwrap().unwrap();
        assert_eq!(refused.refused, Some(Refusal::TooSlow), "{refused:?}");
    }
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_in_pieces_is_counted_once() {
    let limits = Limits { unfinished_bytes: 100_000, ..Limits::default() };
    let (streams, serving) = start(limits);
    for _ in 0..3 {
        let mut client = open(&streams, 1024).await;
        client.write_all(br#"{"id":"a","version":0,"command":""#).await.unwrap();
        for _ in 0..50 {
            client.write_all(&[b'x'; 1000]).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        client.write_all(b"\"}\0").await.unwrap();
        let answer = Client::new(client).next().await.unwrap().unwrap();
        assert_eq!(answer.status, Status::Ok, "{answer:?}");
    }
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_cancels_its_handler_at_once() {
    let started = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&started);
    let handler = move |_: Request<String>, _: Context| {
        seen.store(true, Ordering::Relaxed);
        pending::<Result<&str, String>>()
    };
    let ask = b"{\"id\":\"a\",\"version\":0,\"command\":\"go\"}\0".to_vec();
    let broken = Step::Fail(io::ErrorKind::ConnectionReset);
    let stream = Script::new([Step::Bytes(ask), Step::Wait, broken]);
    let serving = serve_stream(stream, Peer::own(), handler, Limits::default());
    timeout(Duration::from_millis(10), serving).await.unwrap();
    assert!(started.load(Ordering::Relaxed));
}
