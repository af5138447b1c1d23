//! Standard output and standard error, written without ever blocking the runtime.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::{Errno, write},
    stdio::{stderr, stdout},
    termios::{isatty, tcgetwinsize},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::closed;

/// The size that a writable pipe takes without blocking: `PIPE_BUF` on Linux.
const PIECE: usize = 4096;
/// How long a thread polls a descriptor that is not writable, before it may be given up.
const TURN: Duration = Duration::from_millis(100);
/// The pause after a descriptor that polls as writable takes nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// Standard output or standard error. A slow reader makes [`write`](Self::write) wait, while
/// signals and timers still count. The descriptor stays blocking, because other processes may share
/// it. A terminal may take less than it promises, so it is opened once more, without blocking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipe {
    fd: BorrowedFd<'static>,
    is_terminal: bool,
    /// A pipe or a socket, where another program reads.
    is_piped: bool,
    /// The caller closed the descriptor.
    is_missing: bool,
    /// How many bytes are written at a time.
    piece: usize,
}

impl Pipe {
    pub(crate) fn stdout() -> Self {
        static ANEW: OnceLock<Option<OwnedFd>> = OnceLock::new();
        static IS_MISSING: OnceLock<bool> = OnceLock::new();
        let is_missing = *IS_MISSING.get_or_init(closed::is_stdout_closed);
        Self { is_missing, ..Self::new(anew(stdout(), &ANEW)) }
    }

    pub(crate) fn stderr() -> Self {
        static ANEW: OnceLock<Option<OwnedFd>> = OnceLock::new();
        Self::new(anew(stderr(), &ANEW))
    }

    fn new(fd: BorrowedFd<'static>) -> Self {
        let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)).ok();
        let is_piped = matches!(kind, Some(FileType::Fifo | FileType::Socket));
        // A file takes all bytes at once.
        let piece = if kind == Some(FileType::RegularFile) { usize::MAX } else { PIECE };
        Self { fd, is_terminal: isatty(fd), is_piped, is_missing: false, piece }
    }

    pub(crate) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Whether it leads to another program.
    pub(crate) fn is_piped(self) -> bool {
        self.is_piped
    }

    /// The width of the terminal; `None` without one.
    pub(crate) fn columns(self) -> Option<usize> {
        let size = self.is_terminal.then(|| tcgetwinsize(self.fd).ok()).flatten()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Writes as much of `bytes` as is taken at once, and drops the rest.
    pub(crate) fn try_write(self, bytes: &[u8]) {
        if self.poll(PollFlags::OUT, Duration::ZERO) {
            let _ = write(self.fd, bytes.get(..self.piece).unwrap_or(bytes));
        }
    }

    /// Writes all of `bytes`, and blocks while it must.
    pub(crate) fn write_all(self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.put(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Another process made it non-blocking.
                Err(Errno::AGAIN) => drop(self.poll(PollFlags::OUT, TURN)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes some of `bytes`. Cancel safe: nothing is written then.
    pub(crate) async fn write(self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..self.piece).unwrap_or(bytes);
        loop {
            if self.poll(PollFlags::OUT, Duration::ZERO) {
                match self.put(piece) {
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => sleep(PAUSE).await,
                    result => return Ok(result?),
                }
            }
            spawn_blocking(move || self.poll(PollFlags::OUT, TURN)).await?;
        }
    }

    fn put(self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.is_missing { Err(Errno::BADF) } else { write(self.fd, bytes) }
    }

    /// Whether the reader closed its end. Always `false` where the system cannot tell.
    pub(crate) fn is_closed(self) -> bool {
        self.poll(PollFlags::empty(), Duration::ZERO)
    }

    /// Whether `what`, or the end, comes in time.
    fn poll(self, what: PollFlags, time: Duration) -> bool {
        let time = Timespec::try_from(time).ok();
        poll(&mut [PollFd::new(&self.fd, what)], time.as_ref()) == Ok(1)
    }
}

/// The same terminal, opened without blocking. Other descriptors are returned unchanged.
fn anew(
    fd: BorrowedFd<'static>,
    opened: &'static OnceLock<Option<OwnedFd>>,
) -> BorrowedFd<'static> {
    let open_it = || {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        isatty(fd).then(|| open(path, flags, Mode::empty()).ok()).flatten()
    };
    opened.get_or_init(open_it).as_ref().map_or(fd, |opened| opened.as_fd())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read, Write, pipe},
        os::fd::AsFd,
    };

    use tokio::time::timeout;

    use super::*;

    const A_WHILE: Duration = Duration::from_millis(50);

    /// A pipe that has `taken` bytes of its 64 KiB in it.
    fn filled(taken: usize) -> (PipeReader, Pipe) {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(&vec![b'x'; taken]).unwrap();
        let writer: &'static PipeWriter = Box::leak(Box::new(writer));
        (reader, Pipe::new(writer.as_fd()))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_pipe_gets_no_more_than_it_takes_without_blocking() {
        let (mut reader, pipe) = filled(60 * 1024);
        let bytes = vec![b'y'; 64 * 1024];
        assert_eq!(pipe.write(&bytes).await.unwrap(), 4096);
        assert!(timeout(A_WHILE, pipe.write(&bytes)).await.is_err(), "it is full: others go on");
        reader.read_exact(&mut vec![0; 32 * 1024]).unwrap();
        assert_eq!(pipe.write(&bytes).await.unwrap(), 4096);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiting_writer_wakes_when_the_reader_reads_or_leaves() {
        let (mut reader, pipe) = filled(64 * 1024);
        let reading = async {
            sleep(A_WHILE).await;
            reader.read_exact(&mut vec![0; 32 * 1024]).unwrap();
            reader
        };
        let (written, reader) = tokio::join!(pipe.write(b"y"), reading);
        assert_eq!(written.unwrap(), 1);
        assert!(!pipe.is_closed());
        drop(reader);
        // A process that another test starts just now may have it open for a moment.
        let closed = async {
            while !pipe.is_closed() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), closed).await.is_ok());
        assert_eq!(pipe.write(b"y").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
