//! A server on streams of one's own: a listener that says no more than it must.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{future::IntoFuture, io, time::Duration};

use kakehi_channel::{Channel, Refusal, Request, Response, Status};
use kakehi_server::{Context, Handle, Limits, Listener, Peer, serve};
use tokio::{
    io::DuplexStream,
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};

/// Streams that come out of a queue.
struct Streams(Mutex<mpsc::Receiver<DuplexStream>>);

impl Listener for Streams {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<DuplexStream> {
        let stream = self.0.lock().await.recv().await;
        stream.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn peer(_: &DuplexStream) -> io::Result<Peer> {
        Ok(Peer::own())
    }
}

type Client = Channel<Request<String>, Response, kakehi_channel::Json, DuplexStream>;

/// A new connection, whose buffers have so many bytes.
async fn connect(streams: &mpsc::Sender<DuplexStream>, size: usize) -> Client {
    let (ours, theirs) = tokio::io::duplex(size);
    streams.send(theirs).await.unwrap();
    Channel::new(ours)
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_says_no_more_than_it_must_serves_and_refuses() {
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

    // Nobody tells that it has left rather than half-closed.
    client.close().await.unwrap();
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!((answer.status, answer.id.as_str()), (Status::Ok, "a"));
    handle.shutdown();
    serving.await.unwrap();
}
