//! Where a text ends.

/// Each byte 1.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte.
const HIGH: u64 = ONES * 0x80;

/// How many words are looked at before larger steps are taken.
const SHORT: usize = 8;

/// Where the first byte is that ends a text, or may not stand in one as it is: a quote, a
/// backslash, a control character.
#[inline]
pub(super) fn first_special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words.iter().take(SHORT) {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + first(found));
        }
        at += 8;
    }
    if words.len() > SHORT {
        return first_far(bytes.get(at..)?).map(|within| at + within);
    }
    // What was looked at before has none; so to look at some of it again does no harm.
    if let Some(last) = bytes.last_chunk::<8>() {
        let found = special(u64::from_le_bytes(*last));
        return (found != 0).then(|| bytes.len() - 8 + first(found));
    }
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
}

/// The same for what is far away.
#[inline(never)]
fn first_far(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 32;
    let is_special =
        |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    let (steps, _) = bytes.as_chunks::<STEP>();
    let has_special =
        |step: &[u8; STEP]| step.iter().fold(0, |any, byte| any | is_special(*byte)) != 0;
    let at = steps.iter().position(has_special).unwrap_or(steps.len()) * STEP;
    Some(at + bytes.get(at..)?.iter().position(|byte| is_special(*byte) != 0)?)
}

/// The highest bit of the first byte that is special; behind it, bits mean nothing.
#[inline]
fn special(word: u64) -> u64 {
    // What goes below zero takes from the next byte.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGH
}

/// The place of the first byte that has a bit.
#[inline]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}
