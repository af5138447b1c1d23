//! What is to be written, in order, to two streams that may be one terminal.

use std::{collections::VecDeque, io};

use super::pipe::Pipe;

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
}

/// Why nothing more can be written. Of standard output only: nothing depends on standard error.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// Nobody reads it any more.
    Closed,
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
            Some(piece) if piece.to == to => piece.bytes.extend_from_slice(bytes),
            _ => self.pieces.push_back(Piece { to, bytes: bytes.to_vec(), written: 0 }),
        }
    }

    /// Enough is gathered to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.size >= FULL
    }

    /// Whether anything is to be written to a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.pieces.iter().any(|piece| self.pipe(piece.to).is_terminal())
    }

    /// Whether what a terminal shows, once everything is written, ends in the middle of a line.
    pub(crate) fn is_mid_line(&self) -> bool {
        self.is_mid_line
    }

    /// Writes everything. Cancel safe: what is not written is kept.
    pub(crate) async fn flush(&mut self) -> Result<(), Unwritable> {
        while let Some(piece) = self.pieces.front() {
            let written = self.pipe(piece.to).write(piece.rest()).await;
            self.advance(written)?;
        }
        Ok(())
    }

    /// Writes everything, and blocks while it must.
    pub(crate) fn flush_now(&mut self) -> Result<(), Unwritable> {
        while let Some(piece) = self.pieces.front() {
            let written = self.pipe(piece.to).write_all(piece.rest()).map(|()| piece.rest().len());
            self.advance(written)?;
        }
        Ok(())
    }

    /// Gives up what standard output did not take.
    pub(crate) fn forget_stdout(&mut self) {
        self.pieces.retain(|piece| piece.to == To::Stderr);
        self.size = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
    }

    /// All that is still to be written, to both.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.pieces.into_iter().flat_map(|piece| piece.bytes).collect()
    }

    fn advance(&mut self, written: io::Result<usize>) -> Result<(), Unwritable> {
        let Some(piece) = self.pieces.front_mut() else { return Ok(()) };
        match written {
            Ok(written) => piece.written += written,
            Err(_) if piece.to == To::Stderr => piece.written = piece.bytes.len(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Unwritable::Closed);
            }
            Err(error) => {
                // What is to be said about it is not to wait behind it.
                self.forget_stdout();
                return Err(Unwritable::Failed(error));
            }
        }
        if piece.rest().is_empty() {
            self.size -= piece.bytes.len();
            self.pieces.pop_front();
        }
        Ok(())
    }
}

impl Piece {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }
}
