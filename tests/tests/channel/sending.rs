//! Sending: a message is staged as a whole or not at all.

use std::{collections::BTreeMap, future::poll_fn, io, task::Poll, time::Duration};

use futures::{SinkExt, future::join};
use kakehi_channel::{
    BufferLimits, Channel, ChannelError, Encode, ErrorKind, Json,
    low_level::{Buffer, LowLevel},
};
use kakehi_tests::wire::{Script, poll_once};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

use crate::{numbers, soon};

/// Messages, most of which cannot be sent.
#[derive(Clone, Copy, Debug)]
enum Message {
    Good(u8),
    KeysAreNoStrings,
    FailsHalfWay,
    TooLarge,
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good(number) => number.serialize(serializer),
            Self::KeysAreNoStrings => BTreeMap::from([((1, 2), 3)]).serialize(serializer),
            Self::FailsHalfWay => {
                let mut half = serializer.serialize_struct("Half", 2)?;
                half.serialize_field("written", &"x".repeat(50))?;
                Err(serde::ser::Error::custom("the other half is missing"))
            }
            Self::TooLarge => "x".repeat(98).serialize(serializer),
        }
    }
}

use Message::{FailsHalfWay, Good, KeysAreNoStrings, TooLarge};

fn is_expected(message: Message, error: &ChannelError) -> bool {
    match message {
        Good(_) => false,
        KeysAreNoStrings => {
            error.kind() == ErrorKind::Unencodable && error.to_string().contains("key")
        }
        FailsHalfWay => {
            error.kind() == ErrorKind::Unencodable && error.to_string().contains("the other half")
        }
        TooLarge => {
            error.kind() == ErrorKind::TooLarge && error.to_string().contains("limit of 100 bytes")
        }
    }
}

fn messages() -> (Channel<Message, u8, Json, DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1024);
    (
        Channel::with_limits(ours, BufferLimits::default(), BufferLimits { initial: 8, max: 100 }),
        theirs,
    )
}

/// All that comes until the sending direction is shut.
async fn all(mut theirs: DuplexStream) -> Vec<u8> {
    let mut bytes = vec![];
    soon(theirs.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_leaves_nothing_on_the_wire_and_the_next_goes_out() {
    for bad in [KeysAreNoStrings, FailsHalfWay, TooLarge] {
        let (mut channel, theirs) = messages();
        for number in [1, 2] {
            let error = channel.send(bad).await.unwrap_err();
            assert!(is_expected(bad, &error), "{bad:?}: {error}");
            assert_eq!((channel.staged(), channel.memory()), (0, 0), "{bad:?}");
            channel.send(Good(number)).await.unwrap();
        }
        channel.close().await.unwrap();
        assert_eq!(all(theirs).await, b"1\x002\0", "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_leaves_what_is_staged_as_it_is() {
    let (mut channel, theirs) = messages();
    for (number, bad) in [(1, KeysAreNoStrings), (2, FailsHalfWay), (3, TooLarge)] {
        channel.feed(Good(number)).await.unwrap();
        assert!(is_expected(bad, &channel.feed(bad).await.unwrap_err()));
        assert!(is_expected(bad, &channel.stage(&bad).unwrap_err()));
    }
    assert_eq!(channel.staged(), 6);
    channel.close().await.unwrap();
    assert_eq!(all(theirs).await, b"1\x002\x003\0");
}

#[tokio::test(start_paused = true)]
async fn fed_messages_stay_until_they_are_flushed() {
    let (mut channel, mut theirs) = numbers(64);
    for number in [1, 2, 3] {
        channel.feed(number).await.unwrap();
    }
    let mut bytes = [0; 8];
    assert_eq!(channel.staged(), 6);
    assert!(poll_once(theirs.read(&mut bytes)).is_pending());
    channel.send(4).await.unwrap();
    assert_eq!(channel.staged(), 0);
    soon(theirs.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"1\x002\x003\x004\0");
}

#[tokio::test(start_paused = true)]
async fn frames_staged_elsewhere_go_out_in_their_order() {
    let (mut channel, theirs) = numbers(64);
    let mut frames = Buffer::new(8, 64);
    for number in [1_u8, 2] {
        Json::default().encode_frame(&number, &mut frames, 64).unwrap();
    }
    frames.consume(2);
    channel.stage_frames(&mut frames);
    assert_eq!((frames.len(), channel.staged()), (0, 2));
    frames.put(b"3\0").unwrap();
    channel.stage_frames(&mut frames);
    channel.stage(&4).unwrap();
    assert_eq!((frames.len(), channel.staged()), (0, 6));
    channel.close().await.unwrap();
    assert_eq!(all(theirs).await, b"2\x003\x004\0");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_send_tears_no_message() {
    let (ours, theirs) = tokio::io::duplex(4);
    let mut channel = Channel::<&str, (), Json, _>::new(ours);
    let cancelled = timeout(Duration::from_secs(1), channel.send("cancelled")).await;
    assert!(cancelled.is_err(), "nobody reads");
    assert_eq!(channel.staged(), "\"cancelled\"\0".len() - 4);
    let sending = async {
        channel.send("next").await.unwrap();
        channel.close().await.unwrap();
    };
    let ((), bytes) = join(sending, all(theirs)).await;
    assert_eq!(bytes, b"\"cancelled\"\0\"next\"\0");
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_is_staged_and_shuts_only_our_direction() {
    let (mut channel, mut theirs) = numbers(64);
    channel.feed(1).await.unwrap();
    channel.close().await.unwrap();
    let mut bytes = vec![];
    soon(theirs.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"1\0");
    assert_eq!(channel.send(2).await.unwrap_err().kind(), ErrorKind::Disconnected);
    theirs.write_all(b"3\0").await.unwrap();
    assert_eq!(channel.next().await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_send_to_nobody_is_a_disconnection() {
    let (mut channel, theirs) = Channel::<u8, u8>::pair().unwrap();
    drop(theirs);
    let error = channel.send(1).await.unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::BrokenPipe));
    assert!(error.kind() == ErrorKind::Disconnected && error.is_fatal(), "{error}");
}

#[test]
fn a_stream_that_takes_one_byte_now_and_then_gets_all_of_them() {
    let slow = Script::writable(vec![(1, true), (2, true), (1, false)]);
    let mut channel = Channel::<&str, (), Json, _>::new(slow);
    for message in ["first", "second"] {
        let mut sent = poll_once(channel.send(message));
        let mut polls = 1;
        while sent.is_pending() {
            sent = poll_once(channel.flush());
            polls += 1;
        }
        assert!(matches!(sent, Poll::Ready(Ok(()))));
        assert!(polls > 3, "it was written in pieces");
    }
    assert_eq!(channel.get_ref().written(), b"\"first\"\0\"second\"\0");
}

#[tokio::test]
async fn messages_gather_until_there_are_64_kib_of_them() {
    let (ours, _theirs) = tokio::io::duplex(1024);
    let mut channel = Channel::<String, u8, Json, _>::new(ours);
    // Its two quotes and the NUL byte are part of the frame.
    channel.feed("x".repeat(64 * 1024 - 3 - 4)).await.unwrap();
    channel.feed(String::new()).await.unwrap();
    assert_eq!(channel.staged(), 64 * 1024 - 1);
    assert!(poll_once(poll_fn(|cx| channel.poll_ready_unpin(cx))).is_ready());
    assert_eq!(channel.staged(), 64 * 1024 - 1);

    let (ours, _theirs) = tokio::io::duplex(1024);
    let mut channel = Channel::<String, u8, Json, _>::new(ours);
    channel.feed("x".repeat(64 * 1024 - 3)).await.unwrap();
    assert!(poll_once(poll_fn(|cx| channel.poll_ready_unpin(cx))).is_pending());
}
