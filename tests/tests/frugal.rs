//! A server makes no unnecessary wake-ups, checks and polls.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{
    cell::Cell,
    future::{IntoFuture, pending},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context as Task, Wake, Waker},
    time::Duration,
};

use kakehi_channel::{BusyPoll, Request};
use kakehi_server::{Context, Limits, Listener, Peer, serve, serve_stream};
use kakehi_tests::wire::{Script, Step};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{Mutex, Notify},
    time::sleep,
};

const ASK: &[u8] = b"{\"id\":\"a\",\"version\":0}\0";

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// How often `serving` is polled until it only waits.
fn turns(serving: impl Future<Output = ()>) -> usize {
    let mut serving = pin!(serving);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut turns = 0;
    while {
        let woken = counter.0.load(SeqCst);
        assert!(serving.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
        turns += 1;
        assert!(turns < 10_000, "it never waits");
        counter.0.load(SeqCst) > woken
    } {}
    turns
}

#[tokio::test]
async fn a_running_connection_is_not_woken_by_progress() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    theirs.write_all(ASK).await.unwrap();
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    let handler = move |_: Request, context: Context| {
        let told = Arc::clone(&told);
        async move {
            context.progress("one").await?;
            told.notified().await;
            context.progress("two").await?;
            context.progress("three").await?;
            pending::<Result<(), kakehi_channel::ChannelError>>().await
        }
    };
    let mut serving = pin!(serve_stream(ours, Peer::own(), handler, Limits::default()));
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let mut poll = || assert!(serving.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
    poll();
    assert_eq!(counter.0.load(SeqCst), 0, "it waits");
    go_on.notify_one();
    assert_eq!(counter.0.load(SeqCst), 1, "the handler is to be polled");
    poll();
    assert_eq!(counter.0.load(SeqCst), 1, "it saw what the handler said");
}

#[tokio::test]
async fn a_handler_that_waited_for_room_is_polled_again_in_the_same_turn() {
    let (ours, mut theirs) = tokio::io::duplex(8 << 20);
    theirs.write_all(ASK).await.unwrap();
    let handler = async |_: Request, context: Context| {
        for _ in 0..50_000 {
            context.progress("x".repeat(50)).await?;
        }
        Ok::<_, kakehi_channel::ChannelError>("done")
    };
    let turns = turns(serve_stream(ours, Peer::own(), handler, Limits::default()));
    assert!(turns < 20, "{turns} turns for 50,000 messages");
}

#[tokio::test]
async fn a_handler_whose_progress_is_written_at_once_does_not_starve_others() {
    let handler = async |_: Request, context: Context| {
        for _ in 0..10_000 {
            context.progress("x".repeat(50)).await?;
        }
        pending::<Result<(), kakehi_channel::ChannelError>>().await
    };
    // It takes all that is written, and never has its task put off.
    let stream = Script::new([Step::Bytes(ASK.to_vec())]);
    // Room for some ten messages at a time.
    let limits = Limits { outgoing_bytes: 1024, ..Limits::default() };
    let turns = turns(serve_stream(stream, Peer::own(), handler, limits));
    assert!((30..200).contains(&turns), "{turns} turns for 10,000 messages");
}

/// One stream that counts the checks for a disconnect.
struct One(Mutex<Option<DuplexStream>>);

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
    /// How often it was looked for a request past the runtime. Each test has its own thread.
    static POLLS: Cell<usize> = const { Cell::new(0) };
}

impl Listener for One {
    type Stream = DuplexStream;

    fn busy_poll(stream: DuplexStream, time: Duration) -> BusyPoll<DuplexStream> {
        BusyPoll::with_read(stream, time, |_, _| {
            POLLS.set(POLLS.get() + 1);
            Err(io::ErrorKind::WouldBlock.into())
        })
    }

    async fn accept(&self) -> io::Result<DuplexStream> {
        let stream = self.0.lock().await.take();
        match stream {
            Some(stream) => Ok(stream),
            None => pending().await,
        }
    }

    fn peer(_: &DuplexStream) -> io::Result<Peer> {
        Ok(Peer::own())
    }

    fn has_left(_: &DuplexStream) -> bool {
        LOOKS.set(LOOKS.get() + 1);
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_is_checked_only_where_it_cannot_be_waited_for() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let handler = async |_: Request, context: Context| {
        for _ in 0..60 {
            context.progress("working").await?;
            sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, kakehi_channel::ChannelError>("done")
    };
    let listener = One(Mutex::new(Some(ours)));
    let serving = tokio::spawn(serve(listener, handler).into_future());
    theirs.write_all(ASK).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(LOOKS.get(), 0);
    theirs.shutdown().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let looks = LOOKS.get();
    assert!((15..=25).contains(&looks), "{looks} in 10 s");
    serving.abort();
}

#[tokio::test]
async fn a_client_with_pipelined_requests_is_not_polled() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let handler = async |_: Request, _: Context| Ok::<_, String>("done");
    let listener = One(Mutex::new(Some(ours)));
    let serving = serve(listener, handler)
        .limits(Limits { busy_poll: Duration::from_millis(200), ..Limits::default() });
    let serving = tokio::spawn(serving.into_future());
    for _ in 0..10 {
        theirs.write_all(&ASK.repeat(2)).await.unwrap();
        let mut answers = 0;
        while answers < 2 {
            answers += usize::from(theirs.read_u8().await.unwrap() == 0);
        }
    }
    assert_eq!(POLLS.get(), 0);
    serving.abort();
}
