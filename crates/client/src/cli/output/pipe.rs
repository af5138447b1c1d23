//! Standard output and standard error, written without ever blocking the runtime.

use std::{io, os::fd::BorrowedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, write},
    stdio::{stderr, stdout},
    termios::isatty,
};
use tokio::task::spawn_blocking;

/// What a pipe takes at once whenever it says that it is writable: `PIPE_BUF` on Linux.
const PIECE: usize = 4096;
/// How long a thread waits for one that is not, before it looks whether it is still to wait.
const TURN: Duration = Duration::from_millis(100);

/// One of the two. A slow reader makes [`write`](Self::write) wait, and everything before it;
/// signals and clocks still count meanwhile. The descriptor is not made non-blocking, since others
/// may share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipe {
    fd: BorrowedFd<'static>,
    is_terminal: bool,
}

impl Pipe {
    pub(crate) fn stdout() -> Self {
        Self::new(stdout())
    }

    pub(crate) fn stderr() -> Self {
        Self::new(stderr())
    }

    fn new(fd: BorrowedFd<'static>) -> Self {
        Self { fd, is_terminal: isatty(fd) }
    }

    pub(crate) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Writes all of `bytes`, and blocks while it must.
    pub(crate) fn write_all(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match write(self.fd, bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Somebody made it non-blocking.
                Err(Errno::AGAIN) => drop(self.poll(PollFlags::OUT, TURN)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes some of `bytes`. Cancel safe: then nothing is written.
    pub(crate) async fn write(self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        loop {
            if self.poll(PollFlags::OUT, Duration::ZERO) {
                match write(self.fd, piece) {
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    result => return Ok(result?),
                }
            }
            // Each descriptor that can be written to can be polled.
            spawn_blocking(move || self.poll(PollFlags::OUT, TURN)).await?;
        }
    }

    /// Whether whoever read this has gone, if that can be told.
    pub(crate) fn is_closed(self) -> bool {
        self.poll(PollFlags::empty(), Duration::ZERO)
    }

    /// Whether it comes to `what`, or to its end, in time.
    fn poll(self, what: PollFlags, time: Duration) -> bool {
        let time = Timespec::try_from(time).ok();
        poll(&mut [PollFd::new(&self.fd, what)], time.as_ref()) == Ok(1)
    }
}
