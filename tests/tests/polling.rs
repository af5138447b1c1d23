//! Polling before sleeping: when a channel reads past the runtime, and when not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use kakehi_channel::{BusyPoll, Channel, Json, low_level::LowLevel};
use kakehi_tests::{programs::PATIENCE, wire::poll_once};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::yield_now,
};

/// Long enough for any machine.
const LONG: Duration = Duration::from_secs(60);
/// Short, for waits that time out.
const SHORT: Duration = Duration::from_millis(200);

/// A stream that can be read past the runtime. Counts these reads.
struct Watched {
    stream: DuplexStream,
    past: Arc<Past>,
}

#[derive(Default)]
struct Past {
    looks: AtomicUsize,
    bytes: Mutex<Vec<u8>>,
    /// The stream has ended behind the bytes.
    ended: AtomicBool,
    /// Reading behind the bytes fails.
    broken: AtomicBool,
}

impl Past {
    fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    fn put(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
    }
}

fn try_read(watched: &Watched, space: &mut [u8]) -> io::Result<usize> {
    watched.past.looks.fetch_add(1, Ordering::Relaxed);
    let mut bytes = watched.past.bytes.lock().unwrap();
    if bytes.is_empty() {
        if watched.past.ended.load(Ordering::Relaxed) {
            return Ok(0);
        }
        if watched.past.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let count = bytes.len().min(space.len());
    space[..count].copy_from_slice(&bytes[..count]);
    bytes.drain(..count);
    Ok(count)
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Words = Channel<String, String, Json, BusyPoll<Watched>>;

/// Runs a test with a channel that may poll, its peer, and the bytes past the runtime. Only one test
/// runs at a time, because the number of streams that poll at once is limited.
fn alone(patience: Duration, test: impl AsyncFnOnce(Words, DuplexStream, Arc<Past>)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1024);
        let past = Arc::new(Past::default());
        let watched = Watched { stream: ours, past: Arc::clone(&past) };
        let channel = Channel::<_, _, Json, _>::new(watched)
            .busy_poll(|watched| BusyPoll::with_read(watched, patience, try_read));
        test(channel, theirs, past).await;
    });
}

fn may_poll() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// Receives one message soon, so that polling pays. Returns whether the channel polled for it.
async fn learn(channel: &mut Words, theirs: &mut DuplexStream) -> bool {
    let polls = channel.stream_mut().expect_soon();
    theirs.write_all(b"\"soon\"\0").await.unwrap();
    assert_eq!(channel.next().await.unwrap().unwrap(), "soon");
    polls
}

#[test]
fn nothing_is_polled_for_before_a_message_has_come_soon() {
    alone(LONG, async |mut channel, mut theirs, past| {
        assert!(!channel.stream_mut().expect_soon());
        assert!(poll_once(channel.next()).is_pending());
        learn(&mut channel, &mut theirs).await;
        assert_eq!(past.looks(), 0);
    });
}

#[test]
fn what_comes_soon_is_read_past_the_runtime() {
    alone(LONG, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        for word in ["x".to_owned(), "y".repeat(50_000)] {
            assert_eq!(channel.stream_mut().expect_soon(), may_poll());
            past.put(format!("{word:?}\0").as_bytes());
            if !may_poll() {
                return assert!(poll_once(channel.next()).is_pending());
            }
            assert!(channel.next().await.unwrap().unwrap() == word);
            assert_eq!(channel.memory(), 0);
        }
    });
}

#[test]
fn what_nobody_expects_is_never_polled_for() {
    alone(LONG, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        past.put(b"\"past\"\0");
        for _ in 0..10 {
            assert!(poll_once(channel.next()).is_pending());
            yield_now().await;
        }
        assert_eq!(past.looks(), 0, "it is idle");
    });
}

#[test]
fn a_channel_that_polled_in_vain_sleeps_through_the_next_wait() {
    alone(SHORT, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        if !may_poll() {
            return;
        }
        channel.stream_mut().expect_soon();
        tokio::join!(async { assert_eq!(channel.next().await.unwrap().unwrap(), "late") }, async {
            tokio::time::sleep(2 * SHORT).await;
            theirs.write_all(b"\"late\"\0").await.unwrap();
        });
        let looks = past.looks();
        assert!(looks > 0, "it polled first");
        assert!(!learn(&mut channel, &mut theirs).await);
        assert_eq!(past.looks(), looks, "then it sleeps once");
        assert!(channel.stream_mut().expect_soon());
        past.put(b"\"soon\"\0");
        assert_eq!(channel.next().await.unwrap().unwrap(), "soon");
        assert!(past.looks() > looks, "and polls again");
    });
}

#[test]
fn other_tasks_have_their_turn_while_a_channel_polls() {
    const ONE_TURN: usize = 10_000;
    alone(SHORT, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        channel.stream_mut().expect_soon();
        let looks_before_theirs = tokio::join!(channel.next(), async {
            yield_now().await;
            let looks = past.looks();
            theirs.write_all(b"\"there\"\0").await.unwrap();
            looks
        });
        assert_eq!(looks_before_theirs.0.unwrap().unwrap(), "there");
        assert!(looks_before_theirs.1 < ONE_TURN, "{}", looks_before_theirs.1);
    });
}

#[test]
fn the_end_is_told_by_the_stream() {
    alone(LONG, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        channel.stream_mut().expect_soon();
        past.put(b"\"last\"\0");
        drop(theirs);
        if may_poll() {
            assert_eq!(channel.next().await.unwrap().unwrap(), "last");
        }
        assert!(channel.next().await.is_none());
    });
}

#[test]
fn an_end_that_is_seen_past_the_stream_is_not_looked_for_again() {
    alone(SHORT, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        channel.stream_mut().expect_soon();
        past.ended.store(true, Ordering::Relaxed);
        drop(theirs);
        assert!(channel.next().await.is_none());
        assert_eq!(past.looks(), usize::from(may_poll()));
    });
}

#[test]
fn what_came_before_an_error_is_read() {
    alone(LONG, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        if !may_poll() {
            return;
        }
        channel.stream_mut().expect_soon();
        // As large as the first read, so that a second one follows.
        let word = "x".repeat(1024 - 3);
        past.put(format!("{word:?}\0").as_bytes());
        past.broken.store(true, Ordering::Relaxed);
        let next = tokio::time::timeout(PATIENCE, channel.next()).await;
        assert!(next.unwrap().unwrap().unwrap() == word);
        drop(theirs);
        assert!(channel.next().await.is_none());
    });
}

#[test]
fn where_others_have_work_a_channel_stops_polling() {
    alone(LONG, async |mut channel, mut theirs, past| {
        learn(&mut channel, &mut theirs).await;
        channel.stream_mut().expect_soon();
        let (word, ()) = tokio::join!(channel.next(), async {
            yield_now().await;
            thread::sleep(Duration::from_millis(1));
            yield_now().await;
            let looks = past.looks();
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(past.looks(), looks);
            theirs.write_all(b"\"there\"\0").await.unwrap();
        });
        assert_eq!(word.unwrap().unwrap(), "there");
    });
}
