//! Messages become frames, and frames become the same messages: under any chunking, up to the
//! limit and not beyond it.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{fmt::Debug, task::Poll};

use kakehi_channel::{
    BufferLimits, Channel, Decode, Encode, ErrorKind, Format, Json,
    low_level::{Buffer, LowLevel},
};
use kakehi_sozu_format::Sozu;
use kakehi_tests::wire::{
    Chunks, Raw, Script, Step, chunks, for_all, poll_once, sozu_frame as frame,
};
use proptest::{collection::vec, prelude::*};
use prost::Message;

/// The input of a property: messages, each with whether it is flushed at once; how the stream
/// takes and gives bytes; the initial memory, and by how much the limit is over the longest frame.
type Case<M> = (Vec<(M, bool)>, Chunks, Chunks, usize, usize);

fn cases<M: Debug>(message: impl Strategy<Value = M>) -> impl Strategy<Value = Case<M>> {
    let messages = vec((message, any::<bool>()), 1..8);
    let initial = prop_oneof![0..20_usize, 0..5_000_usize];
    (messages, chunks(), chunks(), initial, prop_oneof![Just(0), 0..5_000_usize])
}

/// Sends the messages over one scripted stream, and receives them over another.
fn come_out_the_same<F, M>(
    (messages, writes, reads, initial, spare): Case<M>,
    frame: fn(&M) -> Vec<u8>,
) where
    F: Decode<M> + Encode<M> + Default,
    M: Debug + PartialEq,
{
    let frames: Vec<_> = messages.iter().map(|(message, _)| frame(message)).collect();
    let max = frames.iter().map(Vec::len).max().unwrap() + spare;
    let limits = BufferLimits { initial, max };

    let mut sender = Channel::<M, M, F, _>::with_limits(Script::writable(writes), limits, limits);
    for (message, at_once) in &messages {
        sender.stage(message).unwrap();
        while *at_once && poll_once(sender.flush()).is_pending() {}
    }
    while poll_once(sender.close()).is_pending() {}
    let wire = frames.concat();
    assert!(sender.get_ref().written() == wire, "these are not the frames in their order");
    assert_eq!(sender.memory(), 0);

    let stream = Script::cut(&wire, &reads);
    let mut channel = Channel::<M, M, F, _>::with_limits(stream, limits, limits);
    let mut sent = messages.iter();
    let mut received = 0;
    loop {
        let item = poll_once(channel.next());
        assert!(channel.memory() <= max, "{} bytes are held", channel.memory());
        match item {
            Poll::Pending => {
                let come = received + channel.unfinished();
                assert_eq!(come, channel.get_ref().given(), "whole frames are never held back");
            }
            Poll::Ready(Some(message)) => {
                let message = message.unwrap();
                received += frame(&message).len();
                assert_eq!(channel.received(), received as u64);
                assert_eq!(Some(&message), sent.next().map(|sent| &sent.0));
            }
            Poll::Ready(None) => break,
        }
    }
    assert_eq!(sent.count(), 0, "messages are missing");
    assert_eq!(channel.memory(), 0);
}

#[test]
fn any_messages_under_any_chunking_come_out_the_same_in_json() {
    let text = prop_oneof![
        vec(any::<char>(), 0..20).prop_map(String::from_iter),
        (any::<char>(), 0..3_000_usize).prop_map(|(c, count)| c.to_string().repeat(count)),
    ];
    for_all(&cases((text, any::<Option<i64>>())), |case| {
        come_out_the_same::<Json, _>(case, |message| {
            let mut frame = serde_json::to_vec(message).unwrap();
            frame.push(0);
            frame
        });
    });
}

#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    content: Option<Vec<u8>>,
    #[prost(uint64, repeated, tag = "3")]
    numbers: Vec<u64>,
}

#[test]
fn any_messages_under_any_chunking_come_out_the_same_in_sozu() {
    let content = prop_oneof![
        vec(any::<u8>(), 0..20),
        (any::<u8>(), 0..6_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let text = vec(any::<char>(), 0..20).prop_map(String::from_iter);
    let note = (text, proptest::option::of(content), vec(any::<u64>(), 0..4))
        .prop_map(|(text, content, numbers)| Note { text, content, numbers });
    for_all(&cases(note), |case| {
        come_out_the_same::<Sozu, _>(case, |note| frame(&note.encode_to_vec()));
    });
}

const MAX: usize = 64;
const LIMITS: BufferLimits = BufferLimits { initial: 16, max: MAX };

/// A channel that receives `bytes` and then nothing for a while.
fn receiving<M, F: Format + Default>(bytes: &[u8], chunk: usize) -> Channel<M, M, F, Script> {
    let steps = bytes.chunks(chunk).map(|bytes| Step::Bytes(bytes.to_vec()));
    Channel::with_limits(Script::new(steps.chain([Step::Wait])), LIMITS, LIMITS)
}

#[test]
fn a_sozu_length_is_judged_before_anything_is_taken_for_it() {
    const SMALL: usize = 16;
    let mut table: Vec<(u64, Option<ErrorKind>)> = vec![];
    table.extend((0..=7).map(|length| (length, Some(ErrorKind::Malformed))));
    table.extend([8, 9, 63, 64].map(|length| (length, None)));
    let over = [65, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, u64::MAX];
    table.extend(over.map(|length| (length, Some(ErrorKind::TooLarge))));

    for (length, refused) in table {
        let header = length.to_le_bytes();
        for chunk in [1, 8] {
            let (most, last) = header.split_at(7);
            let mut channel = receiving::<Raw, Sozu>(most, chunk);
            assert!(poll_once(channel.next()).is_pending(), "{length}: of 7 bytes of the header");
            assert!(channel.memory() <= SMALL);
            assert_eq!(Sozu.find(most, MAX).unwrap(), None);

            let mut channel = receiving::<Raw, Sozu>(&[most, last].concat(), chunk);
            match (poll_once(channel.next()), refused) {
                (Poll::Ready(Some(Err(error))), Some(kind)) => {
                    assert!(error.kind() == kind && error.is_fatal(), "{length}: {error}");
                    assert!(error.to_string().contains(&length.to_string()), "{length}: {error}");
                    assert_eq!(Sozu.find(&header, MAX).unwrap_err().kind(), kind);
                    assert_eq!(
                        poll_once(channel.next()).map(|end| end.is_none()),
                        Poll::Ready(true)
                    );
                }
                (Poll::Ready(Some(Ok(message))), None) => {
                    assert_eq!((length, message), (8, Raw(vec![])));
                }
                (Poll::Pending, None) => assert!(length > 8, "{length}: an empty message is whole"),
                (outcome, _) => panic!("{length}: {outcome:?}"),
            }
            assert!(channel.memory() <= SMALL, "{length}: took {}", channel.memory());
        }
    }
}

#[test]
fn sozu_frames_up_to_the_limit_are_received_and_sent() {
    for len in [8, 9, MAX - 1, MAX] {
        let message = Raw(vec![0xa5; len - 8]);
        let wire = frame(&message.0);
        assert_eq!(wire.len(), len);
        for chunk in [1, len] {
            let mut channel = receiving::<Raw, Sozu>(&wire, chunk);
            let received = poll_once(channel.next()).map(|item| item.unwrap().unwrap());
            assert_eq!(received, Poll::Ready(message.clone()), "{len} bytes");
            assert!(poll_once(channel.send(message.clone())).map(Result::unwrap).is_ready());
            assert_eq!(channel.get_ref().written(), wire);
        }
    }
    let mut channel = receiving::<Raw, Sozu>(&[], 1);
    let error = channel.stage(&Raw(vec![0xa5; MAX - 7])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(channel.staged(), 0);
}

#[test]
fn json_frames_up_to_the_limit_are_received_and_sent_and_the_nul_counts() {
    for (len, fits) in [(MAX - 1, true), (MAX, true), (MAX + 1, false), (10 * MAX, false)] {
        let text = "x".repeat(len - 3);
        let wire = format!("\"{text}\"\0").into_bytes();
        assert_eq!(wire.len(), len);
        for chunk in [1, MAX, len] {
            let mut channel = receiving::<String, Json>(&wire, chunk);
            let Poll::Ready(Some(received)) = poll_once(channel.next()) else {
                panic!("{len} bytes are enough to tell");
            };
            let staged = channel.stage(&text);
            if fits {
                assert_eq!(received.unwrap(), text);
                staged.unwrap();
                assert_eq!(channel.staged(), len);
            } else {
                for error in [received.unwrap_err(), staged.unwrap_err()] {
                    assert_eq!(error.kind(), ErrorKind::TooLarge, "{len} bytes: {error}");
                    assert!(error.to_string().contains("64 bytes"), "{error}");
                }
                assert_eq!(channel.staged(), 0);
            }
        }
    }
}

#[test]
fn a_json_frame_is_refused_as_soon_as_it_fills_the_limit_without_an_end() {
    let mut channel = receiving::<String, Json>(&[b'x'; MAX - 1], 1);
    assert!(poll_once(channel.next()).is_pending(), "the NUL may still come");
    let mut channel = receiving::<String, Json>(&[b'x'; MAX], 1);
    let Poll::Ready(Some(Err(error))) = poll_once(channel.next()) else { panic!("not refused") };
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn small_limits_hold_for_each_frame_and_not_for_several_together() {
    for initial in [0, 1, 3, 100] {
        let limits = BufferLimits { initial, max: 3 };
        let stream = Script::new([Step::Bytes(b"10\x0011\x002\x003\x0044\0".to_vec())]);
        let mut channel = Channel::<u8, u8, Json, _>::with_limits(stream, limits, limits);
        for number in [10, 11, 2, 3, 44] {
            let received = poll_once(channel.next()).map(|item| item.unwrap().unwrap());
            assert_eq!(received, Poll::Ready(number), "initial: {initial}");
            assert!(channel.memory() <= 3, "initial: {initial}");
        }
    }
}

#[test]
fn a_frame_is_appended_whole_or_not_at_all() {
    let mut out = Buffer::new(4, 32);
    Json::default().encode_frame(&1, &mut out, 32).unwrap();
    Sozu.encode_frame(&Raw(b"abc".to_vec()), &mut out, 11).unwrap();
    let both = b"1\0\x0b\0\0\0\0\0\0\0abc";
    assert_eq!(out.data(), both);

    let error = Sozu.encode_frame(&Raw(b"abc".to_vec()), &mut out, 10).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 11 bytes or more is over the limit of 10 bytes");
    let error = Json::default().encode_frame(&"x".repeat(17), &mut out, 32).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 20 bytes or more is over the limit of 19 bytes");
    let error = Sozu.encode_frame(&Raw(vec![0; 12]), &mut out, 32).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 20 bytes or more is over the limit of 19 bytes");
    let not_json = std::collections::HashMap::from([((1, 2), 3)]);
    let error = Json::default().encode_frame(&not_json, &mut out, 32).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unencodable);
    assert_eq!(out.data(), both);

    Json::default().encode_frame(&"x".repeat(16), &mut out, 32).unwrap();
    assert_eq!(out.len(), 32, "up to the last byte");
}
