//! A stream wrapper that polls for a moment before the task sleeps.

mod lease;
mod poller;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    task::coop::poll_proceed,
};

use self::poller::{Poller, Turn};

/// How long the client and the server poll for the next message by default: 50 µs.
///
/// ```
/// assert_eq!(kakehi_busy_poll::BUSY_POLL.as_micros(), 50);
/// ```
pub const BUSY_POLL: Duration = Duration::from_micros(50);

/// Reads from a stream without waiting, past the runtime. `Ok(0)` is the end of the stream,
/// [`io::ErrorKind::WouldBlock`] means that there is nothing to read.
type ReadNow<S> = fn(&S, &mut [u8]) -> io::Result<usize>;

/// A byte stream that polls for a moment, instead of putting the task to sleep at once, when its
/// owner expects bytes soon.
///
/// An idle core takes tens of microseconds to wake up. Polling for up to `time` avoids that, but only after
/// [`expect_soon`](Self::expect_soon), and only while it pays:
/// - Polling starts only after bytes arrived quickly. After each fruitless poll, it pauses for
///   twice as many reads as before, at most 255.
/// - Other tasks run every 4 to 16 µs. If another task needed the thread, polling stops.
/// - At most half of the process's cores poll at the same time. With one core, none does.
///
/// Reads and writes are those of the stream. Vectored writes are not supported.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use kakehi_busy_poll::{BUSY_POLL, BusyPoll};
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::UnixStream};
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let mut ours = BusyPoll::new(ours, BUSY_POLL);
/// ours.write_all(b"request").await?;
/// ours.expect_soon();
/// theirs.write_all(b"response").await?;
/// let mut response = [0; 8];
/// ours.read_exact(&mut response).await?;
/// assert_eq!(&response, b"response");
/// # Ok(()) }
/// ```
pub struct BusyPoll<S> {
    stream: S,
    /// `None`: bytes can only be read through the runtime.
    read_now: Option<ReadNow<S>>,
    poller: Option<Poller>,
    /// The last read of the stream left space in its buffer. The runtime then waits for the next
    /// event, although a read also ends where a message with descriptors begins.
    was_short: bool,
    /// The next read goes past the runtime first.
    reads_on: bool,
}

impl BusyPoll<UnixStream> {
    /// Wraps a socket and polls for up to `time`. Zero never polls.
    #[must_use]
    pub fn new(socket: UnixStream, time: Duration) -> Self {
        Self::with_read(socket, time, |socket, bytes| {
            Ok(rustix::net::recv(socket, bytes, RecvFlags::DONTWAIT)?.1)
        })
    }
}

impl<S> BusyPoll<S> {
    /// Wraps any stream and polls for up to `time` with `read_now`. Zero never polls.
    ///
    /// `read_now` reads without waiting and past the runtime. `Ok(0)` is the end of the stream,
    /// [`io::ErrorKind::WouldBlock`] means that there is nothing to read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use kakehi_busy_poll::{BUSY_POLL, BusyPoll};
    ///
    /// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
    /// let ours = BusyPoll::with_read(ours, BUSY_POLL, |socket, bytes| socket.try_read(bytes));
    /// # drop(ours);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_read(
        stream: S,
        time: Duration,
        read_now: fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> Self {
        let poller = (lease::is_possible() && !time.is_zero()).then(|| Poller::new(time));
        Self { read_now: Some(read_now), poller, ..Self::never(stream) }
    }

    /// Wraps a stream that is never polled.
    ///
    /// ```
    /// let mut stream = kakehi_busy_poll::BusyPoll::never(tokio::io::empty());
    /// assert!(!stream.expect_soon());
    /// ```
    #[must_use]
    pub fn never(stream: S) -> Self {
        Self { stream, read_now: None, poller: None, was_short: false, reads_on: false }
    }

    /// Tells the stream that bytes may arrive at once, as after a request or a final response.
    ///
    /// Returns whether the next read polls. If not, the caller need not read before it waits.
    pub fn expect_soon(&mut self) -> bool {
        self.poller.as_mut().is_some_and(Poller::expect)
    }

    /// Tells the stream that bytes are missing, as in the middle of a message.
    ///
    /// Returns whether the next read goes past the runtime. After a short read, the runtime waits
    /// for the next event. But a read also ends at a message with descriptors, and the rest is
    /// then in the socket already.
    pub fn expect_rest(&mut self) -> bool {
        let is_new = self.was_short && self.read_now.is_some() && !self.reads_on;
        self.reads_on |= is_new;
        is_new
    }

    /// The wrapped stream.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns the wrapped stream.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Reads past the runtime; `false` if nothing is there. Tasks that read much take turns.
    fn poll_rest(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<bool> {
        let Some(read_now) = self.read_now else { return Poll::Ready(false) };
        let turn = ready!(poll_proceed(cx));
        self.reads_on = false;
        // The stream itself reports its end and its errors.
        self.was_short = poller::read(read_now, &self.stream, buffer).is_ok_and(|count| count > 0);
        if self.was_short {
            turn.made_progress();
        }
        Poll::Ready(self.was_short)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BusyPoll<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reads_on && ready!(this.poll_rest(cx, buffer)) {
            return Poll::Ready(Ok(()));
        }
        if let (Some(poller), Some(read_now)) = (&mut this.poller, this.read_now) {
            match poller.turn(read_now, &this.stream, cx, buffer) {
                Turn::Read => return Poll::Ready(Ok(())),
                Turn::Later => return Poll::Pending,
                Turn::Over => {}
            }
        }
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        this.was_short = buffer.remaining() > 0;
        if let Some(poller) = &mut this.poller {
            poller.came();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BusyPoll<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsFd> AsFd for BusyPoll<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: fmt::Debug> fmt::Debug for BusyPoll<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}
