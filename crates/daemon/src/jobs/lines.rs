//! Cuts the bytes of a pipe into chunks of whole lines.

use std::{io, os::fd::AsFd};

use kakehi_channel::low_level::Buffer;
use memchr::{memchr, memchr_iter, memrchr};
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::chunk::{End, MAX_PIECE, boundary};

/// The size of the first read, in bytes. It grows for a job that writes a lot.
const INITIAL: usize = 8 * 1024;
/// An unfinished piece, and the content of a pipe.
const MAX: usize = 2 * MAX_PIECE;

/// The lines of a pipe, in constant memory.
pub(crate) struct Lines<R> {
    /// `None` once it is closed.
    pipe: Option<R>,
    buffer: Buffer,
    /// The last read filled the buffer: the pipe may hold more.
    full: bool,
    /// How many bytes of the buffer were returned last, and can be discarded.
    given: usize,
    /// How many bytes of the buffer have no newline.
    searched: usize,
    /// Lines that have begun.
    line: u64,
    /// Pieces of this line that were returned.
    part: u32,
    inside: bool,
    /// How many more bytes to read; `None`: all.
    rest: Option<u64>,
}

/// Whole lines, or a piece of one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut<'a> {
    pub(crate) bytes: &'a [u8],
    /// The number of the first line, from 1.
    pub(crate) line: u64,
    /// How many pieces of the first line came before.
    pub(crate) part: u32,
    pub(crate) end: End,
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

    /// Returns how many lines have begun.
    pub(crate) fn count(&self) -> u64 {
        self.line
    }

    /// Waits for bytes and reads them. All [chunks](Self::next) must have been taken before. Cancel
    /// safe: dropped, it has read nothing.
    ///
    /// # Errors
    /// The error of the system. The pipe counts as closed then.
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

    /// Whether no bytes wait in the pipe.
    pub(crate) fn is_drained(&self) -> bool {
        self.pipe.as_ref().is_none_or(|pipe| ioctl_fionread(pipe).unwrap_or(0) == 0)
    }

    /// Limits reading to the bytes that are in the pipe now. A process that still holds the other
    /// end is not waited for.
    pub(crate) fn finish(&mut self) {
        let waiting = self.pipe.as_ref().map(|pipe| ioctl_fionread(pipe).unwrap_or(0));
        self.rest = waiting;
        if waiting == Some(0) {
            self.pipe = None;
        }
    }

    /// Returns the next chunk of the bytes in the buffer.
    pub(crate) fn next(&mut self) -> Option<Cut<'_>> {
        self.discard();
        let data = self.buffer.data();
        let unsearched = data.get(self.searched..).unwrap_or_default();
        let last = memrchr(b'\n', unsearched).map(|index| self.searched + index);
        let (length, end) = match last {
            Some(last) => (last + 1, End::Newline),
            None if data.len() > MAX_PIECE => (boundary(data, MAX_PIECE), End::Cut),
            None if data.is_empty() => return None,
            None if self.pipe.is_some() => {
                self.searched = data.len();
                return None;
            }
            None => (data.len(), End::Stream),
        };
        Some(self.give(length, end))
    }

    /// Returns how many bytes of an unfinished line could be sent now. Takes effect after
    /// [`next`](Self::next) has returned `None`.
    pub(crate) fn unfinished(&self) -> usize {
        complete(self.buffer.data().get(self.given..).unwrap_or_default())
    }

    /// Whether the unfinished line has a carriage return, as that of a progress display.
    pub(crate) fn returns(&self) -> bool {
        memchr(b'\r', self.buffer.data().get(self.given..).unwrap_or_default()).is_some()
    }

    /// Returns the unfinished line so far, as a piece that is cut.
    pub(crate) fn flush(&mut self) -> Option<Cut<'_>> {
        self.discard();
        let length = self.unfinished();
        (length > 0).then(|| self.give(length, End::Cut))
    }

    /// Returns `length` bytes as a chunk.
    fn give(&mut self, length: usize, end: End) -> Cut<'_> {
        let known = self.buffer.data().len();
        self.given = length;
        self.searched = if end == End::Newline { 0 } else { known - length };
        let line = self.line + u64::from(!self.inside);
        let part = if self.inside { self.part } else { 0 };
        let bytes = self.buffer.data().get(..length).unwrap_or_default();
        self.inside = end == End::Cut;
        if end == End::Newline {
            self.line = line + memchr_iter(b'\n', bytes).count() as u64 - 1;
        } else {
            self.line = line;
        }
        self.part = if end == End::Cut { part + 1 } else { 0 };
        Cut { bytes, line, part, end }
    }

    fn discard(&mut self) {
        self.buffer.consume(self.given);
        self.given = 0;
    }
}

/// The length of `data` without the UTF-8 character that has begun at its end.
fn complete(data: &[u8]) -> usize {
    let begun = |back: &usize| {
        let first = data.len().checked_sub(*back).and_then(|index| data.get(index));
        first.is_some_and(|byte| match byte {
            0xC2..=0xDF => *back < 2,
            0xE0..=0xEF => *back < 3,
            0xF0..=0xF4 => *back < 4,
            _ => false,
        })
    };
    data.len() - (1..=3).find(begun).unwrap_or(0)
}

#[cfg(test)]
mod tests;
