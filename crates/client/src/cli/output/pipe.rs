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
    termios::isatty,
};
use tokio::{task::spawn_blocking, time::sleep};

/// What a pipe takes at once whenever it says that it is writable: `PIPE_BUF` on Linux.
const PIECE: usize = 4096;
/// How long a thread waits for one that is not, before it looks whether it is still to wait.
const TURN: Duration = Duration::from_millis(100);

/// How long to wait for one that is writable, it says, and takes nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// One of the two. A slow reader makes [`write`](Self::write) wait, and everything before it;
/// signals and clocks still count meanwhile. The descriptor is not made non-blocking, since others
/// may share it; a terminal, which may take less than it says, is opened anew for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipe {
    fd: BorrowedFd<'static>,
    is_terminal: bool,
    /// How much is written at a time.
    piece: usize,
}

impl Pipe {
    pub(crate) fn stdout() -> Self {
        static ANEW: OnceLock<Option<OwnedFd>> = OnceLock::new();
        Self::new(anew(stdout(), &ANEW))
    }

    pub(crate) fn stderr() -> Self {
        static ANEW: OnceLock<Option<OwnedFd>> = OnceLock::new();
        Self::new(anew(stderr(), &ANEW))
    }

    fn new(fd: BorrowedFd<'static>) -> Self {
        let is_file = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        // A file takes as much as there is.
        Self { fd, is_terminal: isatty(fd), piece: if is_file { usize::MAX } else { PIECE } }
    }

    pub(crate) fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Writes as much of `bytes` as is taken at once: nothing depends on it.
    pub(crate) fn try_write(self, bytes: &[u8]) {
        if self.poll(PollFlags::OUT, Duration::ZERO) {
            let _ = write(self.fd, bytes.get(..self.piece).unwrap_or(bytes));
        }
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
        let piece = bytes.get(..self.piece).unwrap_or(bytes);
        loop {
            if self.poll(PollFlags::OUT, Duration::ZERO) {
                match write(self.fd, piece) {
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => sleep(PAUSE).await,
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

/// The same terminal, but not blocking; what is none, or cannot be opened, as it is.
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
    async fn who_waits_for_a_reader_is_told_when_it_reads_or_leaves() {
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
