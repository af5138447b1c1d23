//! Fuzzes the framing: any stream in any pieces, against a simple decoder of the whole stream.

use std::{fmt::Debug, task::Poll};

use arbitrary::Arbitrary;
use kakehi_channel::{
    BufferLimits, Channel, ChannelError, Decode, ErrorKind, Json, low_level::LowLevel,
};
use kakehi_sozu_format::Sozu;
use serde_json::Value;

use crate::wire::{Raw, Script, poll_once};

#[derive(Arbitrary, Debug)]
struct Cut<'a> {
    initial: u8,
    max: u16,
    sizes: [u8; 6],
    stream: &'a [u8],
}

/// The expected content of a stream.
struct Plain<M> {
    /// The size and the message of each complete frame. `Err` has the payload of a malformed one.
    frames: Vec<(usize, Result<M, Vec<u8>>)>,
    end: End,
}

/// The state of the stream after the complete frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Truncated,
    TooLarge,
    InvalidLength,
}

impl End {
    fn is(self, error: &ChannelError) -> bool {
        error.is_fatal()
            && match self {
                Self::Clean => false,
                Self::Truncated => error.kind() == ErrorKind::Disconnected,
                Self::TooLarge => error.kind() == ErrorKind::TooLarge,
                Self::InvalidLength => error.kind() == ErrorKind::Malformed,
            }
    }
}

/// Checks that JSON frames are received as if the stream were split at each NUL byte.
///
/// # Panics
/// If the property does not hold.
pub fn json_frames(data: &[u8]) {
    let Some(cut) = super::input::<Cut>(data) else { return };
    let (mut rest, max) = (cut.stream, usize::from(cut.max));
    let mut frames = vec![];
    let end = loop {
        let Some(nul) = rest.iter().take(max).position(|byte| *byte == 0) else {
            break match rest.len() {
                0 => End::Clean,
                len if len >= max => End::TooLarge,
                _ => End::Truncated,
            };
        };
        let payload = &rest[..nul];
        let message = std::str::from_utf8(payload).ok();
        let message = message.and_then(|text| serde_json::from_str::<Value>(text).ok());
        frames.push((nul + 1, message.ok_or_else(|| payload.to_vec())));
        rest = &rest[nul + 1..];
    };
    come_out_as::<Value, Json>(&cut, &Plain { frames, end });
}

/// Checks that frames of the Sōzu format are received as their lengths say.
///
/// # Panics
/// If the property does not hold.
pub fn sozu_frames(data: &[u8]) {
    let Some(mut cut) = super::input::<Cut>(data) else { return };
    // A frame has at least a header.
    cut.max = cut.max.max(8);
    let (mut rest, max) = (cut.stream, u64::from(cut.max));
    let mut frames = vec![];
    let end = loop {
        let Some((header, _)) = rest.split_first_chunk() else {
            break if rest.is_empty() { End::Clean } else { End::Truncated };
        };
        let len = match u64::from_le_bytes(*header) {
            len if len > max => break End::TooLarge,
            0..8 => break End::InvalidLength,
            len => usize::try_from(len).expect("it is at most 16 bits long"),
        };
        let Some((frame, behind)) = rest.split_at_checked(len) else { break End::Truncated };
        frames.push((len, Ok(Raw(frame[8..].to_vec()))));
        rest = behind;
    };
    come_out_as::<Raw, Sozu>(&cut, &Plain { frames, end });
}

fn come_out_as<M, F>(cut: &Cut, expected: &Plain<M>)
where
    M: PartialEq + Debug,
    F: Decode<M> + Default,
{
    let limits = BufferLimits { initial: cut.initial.into(), max: cut.max.into() };
    let stream = Script::cut(cut.stream, &super::chunks(&cut.sizes));
    let mut channel = Channel::<M, M, F, _>::with_limits(stream, limits, limits);
    let mut frames = expected.frames.iter();
    let mut received = 0;
    loop {
        let item = poll_once(channel.next());
        // One byte is allowed, because a read into an empty buffer would look like the end.
        assert!(channel.memory() <= limits.max.max(1), "{} bytes are held", channel.memory());
        let Poll::Ready(item) = item else {
            let come = received + channel.unfinished();
            assert_eq!(come, channel.get_ref().given(), "whole frames are held back");
            continue;
        };
        match (item, frames.next()) {
            (Some(Ok(message)), Some((size, Ok(expected)))) => {
                assert_eq!(&message, expected);
                received += size;
            }
            (Some(Err(error)), Some((size, Err(payload)))) => {
                assert!(error.kind() == ErrorKind::Malformed && !error.is_fatal(), "{error}");
                assert_eq!(error.payload().expect("it is kept"), payload);
                received += size;
            }
            (Some(Err(error)), None) => {
                assert!(expected.end.is(&error), "{error} instead of {:?}", expected.end);
                break;
            }
            (None, None) => break assert_eq!(expected.end, End::Clean),
            (item, frame) => panic!("{item:?} instead of {frame:?}, {:?}", expected.end),
        }
        assert_eq!(channel.received(), received as u64);
    }
    assert!(matches!(poll_once(channel.next()), Poll::Ready(None)), "an item after the end");
    assert_eq!(channel.memory(), 0, "an idle channel holds no memory");
}
