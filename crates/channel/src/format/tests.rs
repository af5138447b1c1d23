//! That no byte is searched twice for the end of a frame, by count.

use std::{cell::RefCell, rc::Rc};

use bytes::BytesMut;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio_util::codec::Decoder as _;

use super::{Decode, Format, Frame, Json};
use crate::{BufferLimits, ChannelError, ErrorKind, codec::Codec};

const MAX: usize = 4_000;

/// Runs `test` on 1,000 streams of whole frames with an unfinished one behind them, and on the
/// sizes of the pieces in which they arrive, which are used over and over.
fn for_all_streams(test: impl Fn(&[u8], &[usize])) {
    let len = || prop_oneof![0..40_usize, 0..MAX];
    let size = prop_oneof![1..=3_usize, 1..=2_000_usize];
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(vec(len(), 0..8), len(), vec(size, 1..10)), |(frames, unfinished, sizes)| {
            let mut stream = vec![];
            for len in frames {
                stream.extend(vec![b'x'; len]);
                stream.push(0);
            }
            stream.extend(vec![b'x'; unfinished]);
            test(&stream, &sizes);
            Ok(())
        })
        .unwrap();
}

/// Cuts `stream` into pieces of `sizes`, over and over.
fn pieces<'a>(mut stream: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |size| {
        let (piece, rest) = stream.split_at((*size).min(stream.len()));
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn frames_in(stream: &[u8]) -> usize {
    stream.split(|byte| *byte == 0).count() - 1
}

#[test]
fn each_byte_is_looked_at_once_however_the_stream_is_cut() {
    for_all_streams(|stream, sizes| {
        let mut json = Json::default();
        let (mut waiting, mut given, mut found) = (vec![], 0, 0);
        for piece in pieces(stream, sizes) {
            waiting.extend_from_slice(piece);
            given += piece.len();
            while let Some(frame) = json.find(&waiting, MAX).unwrap() {
                assert_eq!(waiting[frame.payload.end..frame.len], [0]);
                waiting.drain(..frame.len);
                found += 1;
                assert!(found <= frames_in(stream));
            }
            assert_eq!(json.looked_at, given, "after a piece of {} bytes", piece.len());
        }
        assert_eq!((given, found), (stream.len(), frames_in(stream)));
    });
}

/// A [`Json`] that can be asked while a codec has it.
struct Watched(Rc<RefCell<Json>>);

impl Format for Watched {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        self.0.borrow_mut().find(data, max)
    }
}

impl Decode<usize> for Watched {
    fn decode(&mut self, payload: &[u8]) -> Result<usize, ChannelError> {
        Ok(payload.len())
    }
}

#[test]
fn in_a_channels_codec_each_byte_is_looked_at_once_too() {
    for_all_streams(|stream, sizes| {
        let json = Rc::new(RefCell::new(Json::default()));
        let limits = BufferLimits { initial: 16, max: MAX };
        let mut codec = Codec::new(Watched(json.clone()), limits, limits);
        let (mut source, mut given, mut found) = (BytesMut::new(), 0, 0);
        for mut piece in pieces(stream, sizes) {
            // As `Framed` does it: a read fills at most the free capacity, and then `decode` is
            // called until it wants more.
            while !piece.is_empty() {
                if source.capacity() == 0 {
                    source = BytesMut::with_capacity(codec.initial_incoming());
                }
                let room = source.capacity() - source.len();
                assert!(room > 0, "a read into no space looks like an end");
                let (read, rest) = piece.split_at(room.min(piece.len()));
                source.extend_from_slice(read);
                (piece, given) = (rest, given + read.len());
                while let Some(frame) = codec.decode(&mut source).unwrap() {
                    let _: usize = codec.take(frame).unwrap();
                    found += 1;
                    assert!(found <= frames_in(stream));
                }
                assert_eq!(json.borrow().looked_at, given, "after {} bytes", read.len());
            }
        }
        assert_eq!((given, found), (stream.len(), frames_in(stream)));
    });
}

#[test]
fn a_frame_over_the_limit_is_not_looked_at_beyond_the_limit() {
    let mut json = Json::default();
    assert_eq!(json.find(b"1234", 8).unwrap(), None);
    assert_eq!(json.find(b"1234567890\0", 8).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(json.looked_at, 8);
}
