//! A text as JSON has it: in quotes, with what must not stand there escaped.

use crate::{Buffer, buffer::Full};

/// How many bytes are looked at together.
const STEP: usize = 16;
/// From what size on a text is not put together with its quotes, in bytes.
const LARGE: usize = 512;

/// Writes `text` in quotes, as `serde_json` does.
#[inline]
pub(super) fn write(text: &str, out: &mut Buffer) -> Result<(), Full> {
    let bytes = text.as_bytes();
    match first_special(bytes) {
        None if bytes.len() < LARGE => out.put_all([b"\"", bytes, b"\""]),
        at => write_escaped(bytes, at, out),
    }
}

/// Writes the key of a field and what is around it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing is left to look at where the key is known")]
pub(super) fn write_key(before: &[u8], key: &str, out: &mut Buffer) -> Result<(), Full> {
    if key.len() < STEP && !has_short(key.as_bytes()) {
        return out.put_all([before, b"\"", key.as_bytes(), b"\":"]);
    }
    out.put(before)?;
    write(key, out)?;
    out.put(b":")
}

/// Writes what has something to be escaped `at` some place, or is large.
#[cold]
fn write_escaped(bytes: &[u8], mut at: Option<usize>, out: &mut Buffer) -> Result<(), Full> {
    out.put(b"\"")?;
    let mut rest = bytes;
    while let Some((plain, special)) = at.and_then(|at| rest.split_at_checked(at)) {
        out.put(plain)?;
        let Some((byte, behind)) = special.split_first() else { break };
        escape(*byte, out)?;
        rest = behind;
        at = first_special(rest);
    }
    out.put(rest)?;
    out.put(b"\"")
}

/// Where the first byte is that has to be escaped.
#[inline]
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let at = match steps.iter().position(has_special) {
        Some(step) => step * STEP,
        None if has_at_end(bytes) => bytes.len() - rest.len(),
        None => return None,
    };
    let within = bytes.get(at..)?.iter().copied().position(is_special)?;
    Some(at + within)
}

/// Whether there is one among the last bytes, where all before these were looked at. To look at
/// some twice costs less than to look at each by itself.
#[inline]
fn has_at_end(bytes: &[u8]) -> bool {
    bytes.last_chunk::<STEP>().map_or_else(|| has_short(bytes), has_special)
}

/// The same for less than a step.
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing is left of it where the text is known")]
fn has_short(bytes: &[u8]) -> bool {
    if let (Some(start), Some(end)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        has_special(start) || has_special(end)
    } else if let (Some(start), Some(end)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        has_special(start) || has_special(end)
    } else {
        bytes.iter().copied().any(is_special)
    }
}

/// Without a branch, so that all are looked at at once.
#[inline]
fn has_special<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.iter().fold(0, |any, byte| any | u8::from(is_special(*byte))) != 0
}

#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "a branch for each byte would cost more")]
fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

#[cold]
fn escape(byte: u8, out: &mut Buffer) -> Result<(), Full> {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            return out.put(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
    };
    out.put(&[b'\\', short])
}
