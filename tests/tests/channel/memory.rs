//! The memory of a channel: bounded while it is busy, none while it is idle.

use std::time::Duration;

use futures::future::join;
use kakehi_channel::{BufferLimits, Channel, Decode, Encode, ErrorKind, Json, low_level::LowLevel};
use kakehi_sozu_format::Sozu;
use kakehi_tests::wire::{Raw, Script, Step, poll_once, sozu_frame};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use crate::{numbers, soon};

const LARGE: usize = 512 * 1024;
const HIGH_WATER: usize = 64 * 1024;

/// Sends a message there and back over a socket, and then stops polling.
async fn holds_nothing_after<M: Clone + PartialEq + std::fmt::Debug, F>(message: M)
where
    F: Decode<M> + Encode<M> + Default,
{
    let (mut left, mut right) = Channel::<M, M, F>::pair().unwrap();
    for _ in 0..2 {
        let (sent, received) = soon(join(left.send(message.clone()), right.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
        assert_eq!((left.memory(), right.memory()), (0, 0), "there");
        let (sent, received) = soon(join(right.send(message.clone()), left.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message);
        assert_eq!((left.memory(), right.memory()), (0, 0), "and back");
    }
}

#[tokio::test]
async fn nothing_is_held_after_512_kib_were_sent_and_received() {
    holds_nothing_after::<_, Json>("x".repeat(LARGE)).await;
    holds_nothing_after::<_, Sozu>(Raw(vec![b'x'; LARGE])).await;
}

#[test]
fn nothing_is_held_while_a_channel_waits_after_512_kib() {
    let bytes = [sozu_frame(&vec![b'x'; LARGE]), sozu_frame(b"small")].concat();
    let steps = [Step::Bytes(bytes), Step::Wait, Step::Wait];
    let mut channel = Channel::<Raw, Raw, Sozu, _>::new(Script::new(steps));
    assert!(poll_once(channel.next()).is_ready());
    assert!(channel.memory() >= sozu_frame(b"small").len(), "the small one is there already");
    assert!(poll_once(channel.next()).is_ready());
    assert_eq!(channel.memory(), 0, "before a task waits");
    assert!(poll_once(channel.next()).is_pending());
    assert_eq!(channel.memory(), 0, "while a task waits");
}

#[test]
fn a_frame_on_its_way_holds_at_most_four_times_what_has_come_of_it() {
    let limits = BufferLimits { initial: 1024, max: LARGE };
    let mut frame = sozu_frame(&vec![b'x'; LARGE - 8]);
    frame.truncate(LARGE - 1);
    let steps = frame.chunks(1000).flat_map(|bytes| [Step::Bytes(bytes.to_vec()), Step::Wait]);
    let mut channel = Channel::<Raw, Raw, Sozu, _>::with_limits(Script::new(steps), limits, limits);
    let mut come = 0;
    for chunk in frame.chunks(1000) {
        come += chunk.len();
        assert!(poll_once(channel.next()).is_pending());
        let most = (4 * come).max(2 * limits.initial).min(limits.max);
        assert!((come..=most).contains(&channel.memory()), "{} for {come}", channel.memory());
    }
    assert!(poll_once(channel.next()).is_ready());
    assert_eq!(channel.memory(), 0, "after the end of the stream inside of the frame");
}

#[test]
fn a_message_that_was_too_large_to_send_leaves_no_memory_behind() {
    let mut channel = Channel::<String, (), Json, _>::new(Script::default());
    let pieces = vec!["x".repeat(1000); 2000];
    assert_eq!(channel.stage(&pieces).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(channel.memory(), 0);
}

#[tokio::test(start_paused = true)]
async fn feed_waits_for_a_peer_that_does_not_read_and_memory_stays_bounded() {
    const FRAME: usize = 1000;
    const SECOND: Duration = Duration::from_secs(1);
    let (ours, theirs) = tokio::io::duplex(64);
    let mut channel = Channel::<String, String, Json, _>::new(ours);
    let message = "x".repeat(FRAME - "\"\"\0".len());
    let mut fed = 0;
    let start = Instant::now();
    while timeout(SECOND, channel.feed(message.clone())).await.is_ok() {
        fed += 1;
        assert!(channel.staged() < HIGH_WATER + FRAME, "{}", channel.staged());
        let most = 2 * (HIGH_WATER + FRAME) + BufferLimits::default().initial;
        assert!((channel.staged()..=most).contains(&channel.memory()), "{}", channel.memory());
    }
    assert_eq!(start.elapsed(), SECOND, "only the last one waited");
    assert_eq!(fed, HIGH_WATER.div_ceil(FRAME));
    assert_eq!(channel.staged(), fed * FRAME - 64, "the pipe has taken what it can");

    let mut peer = Channel::<String, String, Json, _>::new(theirs);
    let sending = async {
        channel.feed("last".into()).await.unwrap();
        channel.close().await.unwrap();
    };
    let receiving = async {
        let mut received = vec![];
        while let Some(message) = peer.next().await {
            received.push(message.unwrap());
        }
        received
    };
    let ((), received) = soon(join(sending, receiving)).await;
    let (last, others) = received.split_last().unwrap();
    assert_eq!((last.as_str(), others.len()), ("last", fed), "the one that waited was not staged");
    assert!(others.iter().all(|other| *other == message));
    assert_eq!((channel.memory(), peer.memory()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_half_frame_and_no_more_is_kept_for_the_patient() {
    let (mut channel, mut theirs) = numbers(64);
    theirs.write_all(b"1\x002").await.unwrap();
    assert_eq!(channel.next().await.unwrap().unwrap(), 1);
    assert!(poll_once(channel.next()).is_pending());
    assert!(
        (1..=BufferLimits::default().initial).contains(&channel.memory()),
        "{}",
        channel.memory()
    );
    theirs.write_all(b"\0").await.unwrap();
    assert_eq!(channel.next().await.unwrap().unwrap(), 2);
    assert_eq!(channel.memory(), 0);
}
