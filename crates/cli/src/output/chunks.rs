//! A long text that is escaped piece by piece while it is written, so that it is in memory once.

use std::{borrow::Cow, fmt, ops::Range};

use crate::escape::{escape_bytes, escape_json};

/// The size of a piece before it is escaped, in bytes.
const PIECE: usize = 16 * 1024;
/// The size from which a text is escaped piece by piece, in bytes.
pub(crate) const LONG: usize = 64 * 1024;

/// Part of a text that is still to be written.
pub(crate) struct Chunks {
    text: Vec<u8>,
    left: Range<usize>,
    escape: Option<Escape>,
    /// Written after the last piece.
    end: &'static [u8],
}

/// How a piece is made safe for a terminal.
pub(crate) type Escape = fn(&[u8]) -> Cow<'_, [u8]>;

/// Escapes text or bytes that a terminal shows.
pub(crate) fn for_terminal(bytes: &[u8]) -> Cow<'_, [u8]> {
    into_bytes(escape_bytes(bytes))
}

/// The same for the output of a job, of which tabs stay.
pub(crate) fn for_job(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'\t') {
        return for_terminal(bytes);
    }
    let cells: Vec<_> = bytes.split(|byte| *byte == b'\t').map(for_terminal).collect();
    Cow::Owned(cells.join(&b'\t'))
}

/// Escapes JSON without changing its meaning.
pub(crate) fn for_json(bytes: &[u8]) -> Cow<'_, [u8]> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => into_bytes(escape_json(text)),
        Cow::Owned(text) => Cow::Owned(escape_json(&text).into_owned().into_bytes()),
    }
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

impl Chunks {
    /// The bytes of `text` in `range`, then `end`. Without `escape`, the bytes are unchanged.
    pub(crate) fn new(
        text: Vec<u8>,
        range: Range<usize>,
        escape: Option<Escape>,
        end: &'static [u8],
    ) -> Self {
        let left = range.start.min(text.len())..range.end.min(text.len());
        Self { text, left, escape, end }
    }

    pub(crate) fn ends_line(&self) -> bool {
        self.end == b"\n"
    }
}

impl Iterator for Chunks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = self.text.get(self.left.clone()).unwrap_or_default();
        if rest.is_empty() {
            self.text = Vec::new();
            let end = std::mem::take(&mut self.end);
            return (!end.is_empty()).then(|| end.to_vec());
        }
        let size = boundary(rest, PIECE);
        let piece = rest.get(..size).unwrap_or(rest);
        let bytes = self.escape.map_or(Cow::Borrowed(piece), |escape| escape(piece)).into_owned();
        self.left.start += size;
        Some(bytes)
    }
}

/// At most `at`, at least 1, and not inside of a UTF-8 character.
fn boundary(bytes: &[u8], at: usize) -> usize {
    if bytes.len() <= at {
        return bytes.len();
    }
    let starts = |index: &usize| bytes.get(*index).is_some_and(|byte| byte & 0xC0 != 0x80);
    (at.saturating_sub(3)..=at).rev().find(starts).unwrap_or(at)
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_together_are_the_escaped_text() {
        for character in ["x", "é", "筧", "👋", "\x1b", "\u{202e}", "\u{85}"] {
            for offset in 0..4 {
                let text = "a".repeat(offset) + &character.repeat(PIECE);
                let whole = text.clone().into_bytes();
                let chunks = Chunks::new(whole.clone(), 0..usize::MAX, Some(for_terminal), b"\n");
                let shown: Vec<u8> = chunks.flatten().collect();
                let expected = [escape_bytes(text.as_bytes()).as_bytes(), b"\n"].concat();
                assert!(shown == expected, "{character:?} {offset}");
                let bytes: Vec<u8> =
                    Chunks::new(whole.clone(), 0..usize::MAX, None, b"").flatten().collect();
                assert!(bytes == whole, "{character:?} {offset}");
            }
        }
    }

    #[test]
    fn only_the_tabs_of_a_job_stay() {
        for (output, expected) in [
            (&b"a\tb"[..], &b"a\tb"[..]),
            (b"\t\x1b[2J\t\r", b"\t\\x1b[2J\t\\r"),
            (b"\xc3\t\xa9", b"\\xc3\t\\xa9"),
        ] {
            assert_eq!(*for_job(output), *expected);
        }
        assert_eq!(*for_terminal(b"a\tb"), *b"a\\tb");
    }

    #[test]
    fn bytes_that_are_not_utf_8_stay_the_same_too() {
        let bytes = vec![0x80; 3 * PIECE + 1];
        let chunks = Chunks::new(bytes.clone(), 1..usize::MAX, Some(for_terminal), b"");
        let shown: Vec<u8> = chunks.flatten().collect();
        assert_eq!(shown, "\\x80".repeat(3 * PIECE).into_bytes());
    }
}
