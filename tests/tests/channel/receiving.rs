//! Receiving messages from literal bytes.

use std::{io, task::Poll};

use futures::stream::FusedStream;
use kakehi_channel::{
    BufferLimits, Channel, ChannelError, Decode, ErrorKind, Format, Json, low_level::LowLevel,
};
use kakehi_sozu_format::Sozu;
use kakehi_tests::wire::{Raw, Script, Step, poll_once, sozu_frame};
use prost::Message;
use tokio::io::AsyncWriteExt;

use crate::numbers;

/// A protobuf message that is not any bytes.
#[derive(Clone, PartialEq, Message)]
struct Count {
    #[prost(uint64, tag = "1")]
    count: u64,
}

/// A channel that receives by `steps`, frames of at most 16 bytes.
fn by_steps<M, F: Format + Default>(
    steps: impl IntoIterator<Item = Step>,
) -> Channel<M, M, F, Script> {
    let limits = BufferLimits { initial: 16, max: 16 };
    Channel::with_limits(Script::new(steps), limits, limits)
}

/// A channel that receives `bytes` at once.
fn at_once<M, F: Format + Default>(bytes: &[u8]) -> Channel<M, M, F, Script> {
    by_steps([Step::Bytes(bytes.to_vec())])
}

/// The next item, which must be there.
fn item<M, F: Decode<M>>(channel: &mut Channel<M, M, F, Script>) -> Result<M, ChannelError> {
    match poll_once(channel.next()) {
        Poll::Ready(Some(item)) => item,
        Poll::Ready(None) => panic!("the stream is over"),
        Poll::Pending => panic!("the stream waits"),
    }
}

/// The stream must end cleanly.
fn ends<M, F: Decode<M>>(channel: &mut Channel<M, M, F, Script>) {
    assert!(matches!(poll_once(channel.next()), Poll::Ready(None)));
    is_over(channel);
}

/// The stream must be over for ever, hold no memory and read nothing any more.
fn is_over<M, F: Decode<M>>(channel: &mut Channel<M, M, F, Script>) {
    let reads = channel.get_ref().reads();
    for _ in 0..3 {
        assert!(channel.is_terminated());
        assert_eq!((channel.memory(), channel.get_ref().reads()), (0, reads));
        assert!(matches!(poll_once(channel.next()), Poll::Ready(None)));
    }
    assert_eq!(channel.get_ref().reads(), reads);
}

#[test]
fn a_malformed_json_frame_spares_the_next_one() {
    let mut channel = at_once::<u8, Json>(b"1\0not a u8\0\x002\0");
    assert_eq!(item(&mut channel).unwrap(), 1);
    for payload in ["not a u8", ""] {
        let error = item(&mut channel).unwrap_err();
        assert!(error.kind() == ErrorKind::Malformed && !error.is_fatal(), "{error}");
        assert_eq!(error.payload().unwrap(), payload);
        assert!(!channel.is_terminated());
    }
    assert_eq!(item(&mut channel).unwrap(), 2);
}

#[test]
fn a_malformed_sozu_frame_spares_the_next_one() {
    let unfinished_number = [0x08, 0xff];
    let frames = [&[0x08, 1][..], &unfinished_number, &[0x08, 2]].map(sozu_frame);
    let mut channel = by_steps::<Count, Sozu>(frames.map(Step::Bytes));
    assert_eq!(item(&mut channel).unwrap(), Count { count: 1 });
    let error = item(&mut channel).unwrap_err();
    assert!(error.kind() == ErrorKind::Malformed && !error.is_fatal(), "{error}");
    assert_eq!(error.payload().unwrap(), &unfinished_number[..]);
    assert_eq!(item(&mut channel).unwrap(), Count { count: 2 });
}

#[test]
fn a_frame_over_the_limit_is_one_error_and_then_the_stream_is_over() {
    let steps = ["1\x00\"seventeen bytes", "\"\0", "2\0"];
    let mut channel = by_steps::<u8, Json>(steps.map(|bytes| Step::Bytes(bytes.into())));
    assert_eq!(item(&mut channel).unwrap(), 1);
    let error = item(&mut channel).unwrap_err();
    assert!(error.kind() == ErrorKind::TooLarge && error.is_fatal(), "{error}");
    assert_eq!(error.to_string(), "a frame of 17 bytes or more is over the limit of 16 bytes");
    is_over(&mut channel);
}

#[test]
fn lost_boundaries_are_one_error_and_then_the_stream_is_over() {
    let [good, bad] = [*b"\x0a\0\0\0\0\0\0\0\x08\x01", *b"\x03\0\0\0\0\0\0\0\x08\x01"];
    let mut channel =
        by_steps::<Count, Sozu>([good, bad, good].map(|bytes| Step::Bytes(bytes.into())));
    assert_eq!(item(&mut channel).unwrap(), Count { count: 1 });
    let error = item(&mut channel).unwrap_err();
    assert!(error.kind() == ErrorKind::Malformed && error.is_fatal(), "{error}");
    assert_eq!(error.to_string(), "a frame cannot be 3 bytes long: the length itself takes 8");
    is_over(&mut channel);
}

/// Wherever `frame` is cut, the frame before is received, and the cut is an error.
fn is_truncated_wherever_cut<M: Clone + PartialEq + std::fmt::Debug, F>(frame: &[u8], message: &M)
where
    F: Decode<M> + Default,
{
    for cut in 1..frame.len() {
        for before in 0..3 {
            let (start, _) = frame.split_at(cut);
            let bytes = [&frame.repeat(before), start].concat();
            let mut channel = at_once::<M, F>(&bytes);
            for _ in 0..before {
                assert_eq!(&item(&mut channel).unwrap(), message);
            }
            let error = item(&mut channel).unwrap_err();
            assert!(error.kind() == ErrorKind::Disconnected && error.is_fatal());
            let words = format!("the connection ended inside a frame, after {cut} bytes of it");
            assert_eq!(error.to_string(), words);
            is_over(&mut channel);
        }
    }
}

#[test]
fn an_end_inside_a_frame_is_an_error_and_never_a_clean_end() {
    is_truncated_wherever_cut::<u8, Json>(b"200\0", &200);
    is_truncated_wherever_cut::<Raw, Sozu>(b"\x0a\0\0\0\0\0\0\0ab", &Raw(b"ab".into()));
}

#[tokio::test(start_paused = true)]
async fn what_arrived_before_the_end_is_delivered_and_then_the_end() {
    let (mut channel, mut theirs) = numbers(64);
    theirs.write_all(b"1\x002\x003\0").await.unwrap();
    drop(theirs);
    for number in [1, 2, 3] {
        assert_eq!(channel.next().await.unwrap().unwrap(), number);
        assert!(!channel.is_terminated());
    }
    for _ in 0..3 {
        assert!(channel.next().await.is_none());
        assert!(channel.is_terminated());
    }
}

#[test]
fn an_end_between_two_frames_is_clean() {
    for bytes in [&b""[..], b"1\0", b"1\x001\0"] {
        let mut channel = at_once::<u8, Json>(bytes);
        for _ in 0..bytes.len() / 2 {
            assert_eq!(item(&mut channel).unwrap(), 1);
        }
        ends(&mut channel);
    }
}

#[test]
fn a_channel_that_may_receive_nothing_ends_cleanly_too() {
    let none = BufferLimits { initial: 0, max: 0 };
    let mut channel = Channel::<u8, u8, Json, _>::with_limits(Script::new([]), none, none);
    ends(&mut channel);
    let byte = Script::new([Step::Bytes(vec![0])]);
    let mut channel = Channel::<u8, u8, Json, _>::with_limits(byte, none, none);
    assert_eq!(item(&mut channel).unwrap_err().kind(), ErrorKind::TooLarge);
    is_over(&mut channel);
}

#[test]
fn an_io_error_comes_after_what_was_read_and_then_the_stream_is_over() {
    for read in [&b"1\0"[..], b"1\x002"] {
        let [read, more] = [read, b"3\0"].map(|bytes| Step::Bytes(bytes.to_vec()));
        let mut channel =
            by_steps::<u8, Json>([read, Step::Fail(io::ErrorKind::ConnectionReset), more]);
        assert_eq!(item(&mut channel).unwrap(), 1);
        let error = item(&mut channel).unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionReset));
        assert!(error.kind() == ErrorKind::Disconnected && error.is_fatal(), "{error}");
        is_over(&mut channel);
    }
}

/// Gives `wire` byte by byte and polls, and drops, `polls` futures of the next message after each.
fn received_by_dropped_futures<M, F: Decode<M> + Default>(wire: &[u8], polls: usize) -> Vec<M> {
    let waits = std::iter::repeat_n(Step::Wait, polls);
    let steps =
        wire.iter().flat_map(|byte| [Step::Bytes(vec![*byte])].into_iter().chain(waits.clone()));
    let mut channel = by_steps::<M, F>(steps);
    let mut received = vec![];
    loop {
        match poll_once(channel.next()) {
            Poll::Pending => {}
            Poll::Ready(Some(message)) => received.push(message.unwrap()),
            Poll::Ready(None) => return received,
        }
    }
}

#[test]
fn a_dropped_next_loses_nothing_at_any_await_point() {
    for polls in 0..4 {
        let received = received_by_dropped_futures::<u8, Json>(b"1\x0022\x00133\0", polls);
        assert_eq!(received, [1, 22, 133]);
        let raw = [&b""[..], b"a", b"bcdefgh"];
        let wire = raw.map(sozu_frame).concat();
        let received = received_by_dropped_futures::<Raw, Sozu>(&wire, polls);
        assert_eq!(received, raw.map(|payload| Raw(payload.into())));
    }
}

#[test]
fn an_error_shows_no_payload_unless_asked_for_it() {
    let mut channel = at_once::<u8, Json>(b"[\"secret\"]\0");
    let error = item(&mut channel).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    assert_eq!(error.payload().unwrap(), "[\"secret\"]");
}
