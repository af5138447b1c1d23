//! Tests of the memory inside a channel, which its public API does not show.

use std::cell::RefCell;

use bytes::{BufMut, BytesMut};
use serde::{Serialize, Serializer};
use tokio_util::codec::{Decoder, Encoder};

use super::Codec;
use crate::{BufferLimits, ErrorKind, Json};

const LIMITS: BufferLimits = BufferLimits { initial: 16, max: 1024 };

fn codec() -> Codec<Json> {
    Codec::new(Json::default(), LIMITS, LIMITS)
}

fn decoded(codec: &mut Codec<Json>, source: &mut BytesMut) -> u64 {
    let frame = codec.decode(source).unwrap().expect("a frame");
    codec.take(frame).expect("a number")
}

#[test]
fn the_bytes_of_an_unfinished_frame_are_not_copied_while_there_is_space_for_more() {
    let (mut codec, mut source) = (codec(), BytesMut::with_capacity(64));
    source.put_slice(b"1234");
    let memory = source.as_ptr();
    assert!(codec.decode(&mut source).unwrap().is_none());
    assert_eq!((&source[..], source.as_ptr(), source.capacity()), (&b"1234"[..], memory, 64));
    source.put_slice(b"5\0");
    assert_eq!(decoded(&mut codec, &mut source), 12345);
}

#[test]
fn an_unfinished_frame_has_space_for_as_much_again_and_no_more_than_that() {
    for (len, capacity) in [(1, 16), (8, 16), (9, 18), (16, 32), (17, 34), (600, 1024)] {
        let (mut codec, mut source) = (codec(), BytesMut::with_capacity(len));
        source.put_bytes(b'1', len);
        assert!(codec.decode(&mut source).unwrap().is_none());
        assert_eq!((source.len(), source.capacity()), (len, capacity), "{len}");
    }
}

#[test]
fn space_that_is_too_little_for_as_much_again_is_made_more() {
    for (len, space, capacity) in [(9, 12, 24), (9, 17, 34), (9, 18, 18), (100, 199, 398)] {
        let (mut codec, mut source) = (codec(), BytesMut::with_capacity(space));
        source.put_bytes(b'1', len);
        assert!(codec.decode(&mut source).unwrap().is_none());
        assert_eq!((source.len(), source.capacity()), (len, capacity), "{len} in {space}");
    }
}

#[test]
fn limits_are_what_they_were_said_to_be() {
    let outgoing = BufferLimits { initial: 8, max: 64 };
    let codec = Codec::new(Json::default(), LIMITS, outgoing);
    assert_eq!((codec.max_incoming(), codec.outgoing.max()), (LIMITS.max, outgoing.max));
    assert_eq!(codec.initial_incoming(), LIMITS.initial);
    let none = Codec::new(Json::default(), BufferLimits { initial: 0, max: 1 }, outgoing);
    assert_eq!(none.initial_incoming(), 1, "a read of nothing looks like an end");
}

#[test]
fn a_number_that_does_not_fit_is_too_large_and_not_impossible() {
    let limits = BufferLimits { initial: 4, max: 4 };
    let mut codec = Codec::new(Json::default(), limits, limits);
    let error = codec.encode(&123_456_u64, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let error = codec.encode(&1.5e300, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

/// Names the error that prevented its text from being written.
struct Telling<'t>(&'t str, RefCell<String>);

impl Serialize for Telling<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .serialize_str(self.0)
            .inspect_err(|error| *self.1.borrow_mut() = error.to_string())
    }
}

#[test]
fn what_is_written_may_ask_why_it_cannot_be() {
    let limits = BufferLimits { initial: 4, max: 8 };
    let mut codec = Codec::new(Json::default(), limits, limits);
    let text = Telling("far too long", RefCell::default());
    assert!(codec.encode(&text, &mut BytesMut::new()).is_err());
    assert_eq!(*text.1.borrow(), "14 bytes do not fit into a buffer of at most 8 bytes");
}

#[test]
fn a_source_that_holds_more_than_a_frame_may_is_not_taken_for_ours() {
    let (mut codec, mut source) = (codec(), BytesMut::with_capacity(2048));
    source.put_slice(b"1\0");
    assert_eq!(decoded(&mut codec, &mut source), 1);
    source.put_slice(b"2\x003\0");
    assert_eq!(decoded(&mut codec, &mut source), 2);
    assert!((1..=LIMITS.max).contains(&codec.memory()), "{}", codec.memory());
    assert!(!codec.is_drained());
    assert_eq!(decoded(&mut codec, &mut source), 3);
    assert!(codec.is_drained());
    assert_eq!((codec.memory(), codec.received_bytes()), (0, 6));
}

#[test]
fn the_memory_of_both_directions_counts() {
    let (mut codec, mut source) = (codec(), BytesMut::from(&b"1\x002\0"[..]));
    assert_eq!(decoded(&mut codec, &mut source), 1);
    let incoming = codec.memory();
    assert!(incoming >= 4, "{incoming}");
    // It is empty, and keeps its memory: what it held went behind what was there.
    codec.encode(&7_u64, &mut BytesMut::from(&b"6\0"[..])).unwrap();
    assert_eq!(codec.memory(), incoming + LIMITS.initial);
    codec.release_outgoing();
    assert_eq!(codec.memory(), incoming);
    codec.release_incoming();
    assert_eq!(codec.memory(), 0);
}
