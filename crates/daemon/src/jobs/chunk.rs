//! A chunk of a run's output: bytes of one stream, with the number of their first line.

use std::sync::Arc;

use memchr::{memchr, memchr_iter};

/// The longest piece of a line, in bytes.
pub(crate) const MAX_PIECE: usize = 64 * 1024;

/// A stream of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// How the bytes of a chunk end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last byte is a newline.
    Newline,
    /// The last line goes on in the next chunk.
    Cut,
    /// The stream ends without a newline.
    Stream,
}

/// Whole lines, or a piece of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The number of the chunk in its run, from 0.
    pub(crate) number: u64,
    /// When it was read, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) stream: Stream,
    /// The number of the first line in its stream, from 1.
    pub(crate) line: u64,
    /// How many pieces of the first line came before.
    pub(crate) part: u32,
    pub(crate) end: End,
    pub(crate) bytes: Arc<[u8]>,
}

/// A line without its newline, or a piece of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    /// The number of the line, from 1.
    pub(crate) line: u64,
    /// The number of the piece, from 1; `None`: the piece is a whole line.
    pub(crate) part: Option<u32>,
    /// The line goes on in the next piece.
    pub(crate) cut: bool,
    /// A newline follows.
    pub(crate) newline: bool,
}

impl Chunk {
    /// Returns how much memory the chunk takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        /// In addition to the struct and the bytes.
        const OVERHEAD: usize = 32;
        self.bytes.len() + size_of::<Self>() + OVERHEAD
    }

    /// Returns how many lines end in this chunk.
    pub(crate) fn lines(&self) -> u64 {
        let newlines = memchr_iter(b'\n', &self.bytes).count();
        newlines as u64 + u64::from(self.end == End::Stream)
    }

    /// Splits the chunk into lines, and lines over [`MAX_PIECE`] into pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut rest: &[u8] = &self.bytes;
        let (mut line, mut part) = (self.line, self.part);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let newline = memchr(b'\n', rest);
            let known = newline.unwrap_or(rest.len());
            let is_long = known > MAX_PIECE;
            let length = if is_long { boundary(rest, MAX_PIECE) } else { known };
            let has_newline = newline.is_some() && !is_long;
            let cut = is_long || newline.is_none() && self.end == End::Cut;
            let (bytes, after) = rest.split_at_checked(length)?;
            rest = after.get(usize::from(has_newline)..).unwrap_or_default();
            let number = (part > 0 || cut).then_some(part + 1);
            let piece = Piece { bytes, line, part: number, cut, newline: has_newline };
            if cut {
                part += 1;
            } else {
                (line, part) = (line + 1, 0);
            }
            Some(piece)
        })
    }
}

/// Returns where to cut `data` near `at`, without splitting a UTF-8 character.
pub(crate) fn boundary(data: &[u8], at: usize) -> usize {
    let starts = |index: &usize| data.get(*index).is_some_and(|byte| byte & 0xC0 != 0x80);
    (at.saturating_sub(3)..=at).rev().find(starts).unwrap_or(at)
}

/// The length of an encoded header, in bytes.
pub(crate) const HEADER: usize = 36;

impl Chunk {
    /// Appends the chunk in the format of the files: a header, then the bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let stream = u8::from(self.stream == Stream::Stderr);
        let end = match self.end {
            End::Newline => 0,
            End::Cut => 1,
            End::Stream => 2,
        };
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        out.extend([stream, end, 0, 0]);
        out.extend(self.part.to_le_bytes());
        out.extend(length.to_le_bytes());
        for number in [self.number, self.line, self.at_ms] {
            out.extend(number.to_le_bytes());
        }
        out.extend(&*self.bytes);
    }

    /// Decodes the first chunk of `data`, and returns its encoded length. `None`: it is not
    /// complete, or damaged.
    pub(crate) fn decode(data: &[u8]) -> Option<(Self, usize)> {
        let number = |at: usize| data.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let short = |at: usize| data.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let stream = match data.first()? {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => return None,
        };
        let end = match data.get(1)? {
            0 => End::Newline,
            1 => End::Cut,
            2 => End::Stream,
            _ => return None,
        };
        let length = HEADER.checked_add(usize::try_from(short(8)?).ok()?)?;
        let chunk = Self {
            number: number(12)?,
            at_ms: number(28)?,
            stream,
            line: number(20)?,
            part: short(4)?,
            end,
            bytes: data.get(HEADER..length)?.into(),
        };
        Some((chunk, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8], part: u32, end: End) -> Chunk {
        Chunk {
            number: 3,
            at_ms: 9,
            stream: Stream::Stderr,
            line: 7,
            part,
            end,
            bytes: bytes.into(),
        }
    }

    #[test]
    fn a_chunk_is_split_into_its_lines() {
        let whole = |bytes, line| Piece { bytes, line, part: None, cut: false, newline: true };
        let chunk_of_three = chunk(b"a\n\nb\n", 0, End::Newline);
        let pieces: Vec<_> = chunk_of_three.pieces().collect();
        assert_eq!(pieces, [whole(&b"a"[..], 7), whole(b"", 8), whole(b"b", 9)]);
        assert_eq!(chunk_of_three.lines(), 3);
        let rest = chunk(b"end\nlast", 2, End::Stream);
        let pieces: Vec<_> = rest.pieces().collect();
        assert_eq!(
            pieces,
            [
                Piece { part: Some(3), ..whole(b"end", 7) },
                Piece { newline: false, ..whole(b"last", 8) }
            ]
        );
        assert_eq!(rest.lines(), 2);
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written() {
        let mut out = vec![];
        let (first, second) = (chunk(b"a\n", 0, End::Newline), chunk(b"b", 4, End::Cut));
        first.encode(&mut out);
        second.encode(&mut out);
        let (read, length) = Chunk::decode(&out).unwrap();
        assert_eq!(read, first);
        assert_eq!(Chunk::decode(&out[length..]), Some((second, HEADER + 1)));
        assert_eq!(Chunk::decode(&out[..length - 1]), None);
        assert_eq!(Chunk::decode(&[9; 100]), None);
    }
}
