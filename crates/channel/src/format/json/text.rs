//! A text as JSON has it: in quotes, with what must not stand there escaped.

use crate::{Buffer, buffer::Full};

/// How many bytes are looked at together.
const STEP: usize = 16;

/// Writes `text` in quotes, as `serde_json` does.
#[inline]
pub(super) fn write(text: &str, out: &mut Buffer) -> Result<(), Full> {
    out.put(b"\"")?;
    let mut rest = text.as_bytes();
    while let Some(at) = first_special(rest) {
        let (plain, special) = rest.split_at(at);
        out.put(plain)?;
        let Some((byte, behind)) = special.split_first() else { break };
        escape(*byte, out)?;
        rest = behind;
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
        None if rest.iter().copied().any(is_special) => bytes.len() - rest.len(),
        None => return None,
    };
    let within = bytes.get(at..)?.iter().copied().position(is_special)?;
    Some(at + within)
}

/// Without a branch, so that all are looked at at once.
#[inline]
fn has_special(bytes: &[u8; STEP]) -> bool {
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
