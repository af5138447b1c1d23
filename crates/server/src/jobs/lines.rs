//! Bytes of a pipe, cut into lines.

use std::{io, os::fd::AsFd};

use kakehi_channel::Buffer;
use memchr::memchr;
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest piece of a line, in bytes.
pub(crate) const MAX_PIECE: usize = 64 * 1024;

/// What is read first, in bytes. It grows for those who write a lot.
const INITIAL: usize = 8 * 1024;
/// An unfinished piece, and what a pipe holds.
const MAX: usize = 2 * MAX_PIECE;

/// The lines that come through a pipe, in constant memory.
pub(crate) struct Lines<R> {
    /// `None` once it is closed.
    pipe: Option<R>,
    buffer: Buffer,
    /// The last read took all the space: there may be more than that at a time.
    full: bool,
    /// How many bytes of the buffer were given out last, and are not needed any more.
    given: usize,
    /// How many bytes of the buffer have no end of line.
    searched: usize,
    /// Lines that have begun.
    line: u64,
    /// Pieces of this line that were given out.
    part: u32,
    inside: bool,
    /// How much will still be read; `None`: up to the end.
    rest: Option<u64>,
}

/// A line without its end, or a piece of a long one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    /// From 1.
    pub(crate) line: u64,
    /// From 1; `None`: this is the whole line.
    pub(crate) part: Option<u32>,
    /// The line goes on in the next piece.
    pub(crate) cut: bool,
    /// A newline follows. There is none after a cut, nor after a last line that just stopped.
    pub(crate) newline: bool,
}

impl<R: AsyncRead + AsFd + Unpin> Lines<R> {
    pub(crate) fn new(pipe: R) -> Self {
        Self {
            pipe: Some(pipe),
            buffer: Buffer::new(INITIAL, MAX),
            full: true,
            given: 0,
            searched: 0,
            line: 0,
            part: 0,
            inside: false,
            rest: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Lines so far.
    pub(crate) fn count(&self) -> u64 {
        self.line
    }

    /// Reads what there is; waits if there is nothing. Cancel safe: then it has read nothing. All
    /// [pieces](Self::next) must have been taken before.
    ///
    /// # Errors
    /// What the system says; the pipe counts as closed then.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        self.discard();
        self.buffer.shift();
        if self.full {
            self.buffer.grow();
        }
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let rest = self.rest.map_or(usize::MAX, |rest| usize::try_from(rest).unwrap_or(usize::MAX));
        let space = self.buffer.space();
        let most = space.len().min(rest);
        let read = match space.get_mut(..most) {
            Some(space) if most > 0 => pipe.read(space).await,
            _ => Ok(0),
        };
        match read {
            Ok(count) if count > 0 => {
                self.buffer.fill(count);
                self.full = self.buffer.space().is_empty();
                self.rest = self.rest.map(|rest| rest.saturating_sub(count as u64));
                Ok(())
            }
            end => {
                self.pipe = None;
                end.map(|_| ())
            }
        }
    }

    /// From here on, reads only what is in the pipe now: whoever still holds its other end is not
    /// waited for.
    pub(crate) fn finish(&mut self) {
        let waiting = self.pipe.as_ref().map(|pipe| ioctl_fionread(pipe).unwrap_or(0));
        self.rest = waiting;
        if waiting == Some(0) {
            self.pipe = None;
        }
    }

    /// The next whole piece of what was read.
    pub(crate) fn next(&mut self) -> Option<Piece<'_>> {
        self.discard();
        let data = self.buffer.data();
        let unsearched = data.get(self.searched..).unwrap_or_default();
        let end = memchr(b'\n', unsearched).map(|index| self.searched + index);
        let known = end.unwrap_or(data.len());
        let (len, cut) = match known {
            0 if end.is_none() => return None,
            _ if known > MAX_PIECE => (boundary(data, MAX_PIECE), true),
            _ if end.is_none() && self.pipe.is_some() => {
                self.searched = known;
                return None;
            }
            _ => (known, false),
        };
        let newline = !cut && end.is_some();
        self.given = len + usize::from(newline);
        self.searched = if cut { known - len } else { 0 };
        self.line += u64::from(!self.inside);
        self.part += 1;
        let part = (self.inside || cut).then_some(self.part);
        self.inside = cut;
        if !cut {
            self.part = 0;
        }
        let bytes = self.buffer.data().get(..len).unwrap_or_default();
        Some(Piece { bytes, line: self.line, part, cut, newline })
    }

    fn discard(&mut self) {
        self.buffer.consume(self.given);
        self.given = 0;
    }
}

/// Where to cut `data` near `at`: not inside of a UTF-8 character, if that is what it is.
fn boundary(data: &[u8], at: usize) -> usize {
    let starts = |index: &usize| data.get(*index).is_some_and(|byte| byte & 0xC0 != 0x80);
    (at.saturating_sub(3)..=at).rev().find(starts).unwrap_or(at)
}

#[cfg(test)]
mod tests;
