//! Finds the end of a string.

use crate::json::far;

/// Each byte is 1.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte.
const HIGH: u64 = ONES * 0x80;

/// How many words are checked one by one before the string counts as long.
const SHORT: usize = 8;

/// The index of the first byte that ends a string or may not be in one: a quote, a backslash or a
/// control character.
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
        return far::first_special(bytes.get(at..)?).map(|within| at + within);
    }
    // The words had none, so checking some of their bytes again does no harm.
    if let Some(last) = bytes.last_chunk::<8>() {
        let found = special(u64::from_le_bytes(*last));
        return (found != 0).then(|| bytes.len() - 8 + first(found));
    }
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))
}

/// Sets the highest bit of the first special byte. The bits after it have no meaning.
#[inline]
fn special(word: u64) -> u64 {
    // A subtraction that goes below zero borrows from the next byte.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGH
}

/// The index of the first byte that has a bit.
#[inline]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}
