//! Bytes for two streams that may be one terminal, written in order.

use std::{collections::VecDeque, io};

use super::{chunks::Chunks, pipe::Pipe};

/// How many bytes are gathered before they are written, while more keep coming.
const FULL: usize = 64 * 1024;

/// Bytes for standard output and for standard error, written in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue {
    stdout: Pipe,
    stderr: Pipe,
    pieces: VecDeque<Piece>,
    size: usize,
    is_mid_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Stdout,
    Stderr,
}

#[derive(Debug)]
struct Piece {
    to: To,
    bytes: Vec<u8>,
    written: usize,
    /// Follows `bytes`.
    rest: Option<Chunks>,
    /// The part of the queue's size that it stands for.
    size: usize,
}

/// Why nothing more can be written to standard output. Errors of standard error are ignored.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// The reader closed it.
    Closed,
    /// The deadline passed before it was read.
    Late,
    Failed(io::Error),
}

impl Queue {
    pub(crate) fn new() -> Self {
        let (stdout, stderr) = (Pipe::stdout(), Pipe::stderr());
        Self { stdout, stderr, pieces: VecDeque::new(), size: 0, is_mid_line: false }
    }

    pub(crate) fn pipe(&self, to: To) -> Pipe {
        match to {
            To::Stdout => self.stdout,
            To::Stderr => self.stderr,
        }
    }

    pub(crate) fn put(&mut self, to: To, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.pipe(to).is_terminal() {
            self.is_mid_line = *last != b'\n';
        }
        self.size += bytes.len();
        match self.pieces.back_mut() {
            Some(piece) if piece.to == to && piece.rest.is_none() => {
                piece.bytes.extend_from_slice(bytes);
                piece.size += bytes.len();
            }
            _ => self.push(to, bytes.to_vec(), None, bytes.len()),
        }
    }

    /// Queues a long text. The queue counts as full until it is written.
    pub(crate) fn put_chunks(&mut self, to: To, chunks: Chunks) {
        if self.pipe(to).is_terminal() {
            self.is_mid_line = !chunks.ends_line();
        }
        self.size += FULL;
        self.push(to, Vec::new(), Some(chunks), FULL);
    }

    fn push(&mut self, to: To, bytes: Vec<u8>, rest: Option<Chunks>, size: usize) {
        self.pieces.push_back(Piece { to, bytes, written: 0, rest, size });
    }

    /// Whether enough is gathered to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.size >= FULL
    }

    /// Whether anything is to be written to a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.pieces.iter().any(|piece| self.pipe(piece.to).is_terminal())
    }

    /// Whether the terminal's last line has no end, once everything is written.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.is_mid_line
    }

    /// Writes everything. Cancel safe: bytes that are not written stay in the queue.
    pub(crate) async fn flush(&mut self) -> Result<(), Unwritable> {
        while let Some((pipe, bytes)) = self.next() {
            let written = pipe.write(bytes).await;
            self.advance(written)?;
        }
        Ok(())
    }

    /// Writes everything, and blocks while it must.
    pub(crate) fn flush_now(&mut self) -> Result<(), Unwritable> {
        while let Some((pipe, bytes)) = self.next() {
            let written = pipe.write_all(bytes).map(|()| bytes.len());
            self.advance(written)?;
        }
        Ok(())
    }

    /// Drops what standard output has not taken.
    pub(crate) fn forget_stdout(&mut self) {
        self.pieces.retain(|piece| piece.to == To::Stderr);
        self.size = self.pieces.iter().map(|piece| piece.size).sum();
    }

    /// All bytes that are still to be written, to both.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let mut all = vec![];
        while let Some((_, bytes)) = self.next() {
            all.extend_from_slice(bytes);
            let written = bytes.len();
            // Only an error of the system fails.
            let _ = self.advance(Ok(written));
        }
        all
    }

    /// The next bytes to write, and where to.
    fn next(&mut self) -> Option<(Pipe, &[u8])> {
        while self.pieces.front_mut().is_some_and(|piece| !piece.fill()) {
            let size = self.pieces.pop_front().map_or(0, |piece| piece.size);
            self.size = self.size.saturating_sub(size);
        }
        let piece = self.pieces.front()?;
        Some((self.pipe(piece.to), piece.unwritten()))
    }

    fn advance(&mut self, written: io::Result<usize>) -> Result<(), Unwritable> {
        let Some(piece) = self.pieces.front_mut() else { return Ok(()) };
        match written {
            Ok(written) => piece.written += written,
            Err(_) if piece.to == To::Stderr => {
                piece.written = piece.bytes.len();
                piece.rest = None;
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Unwritable::Closed);
            }
            Err(error) => {
                // The error message must not wait for it.
                self.forget_stdout();
                return Err(Unwritable::Failed(error));
            }
        }
        Ok(())
    }
}

impl Piece {
    /// Gets the next chunk once the bytes are written. Returns whether there is anything to write.
    fn fill(&mut self) -> bool {
        while self.unwritten().is_empty() {
            let Some(bytes) = self.rest.as_mut().and_then(Iterator::next) else { return false };
            (self.bytes, self.written) = (bytes, 0);
        }
        true
    }

    fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }
}
