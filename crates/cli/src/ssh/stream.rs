//! The byte stream to the socket on the other machine.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{ChildStdin, ChildStdout},
};

use super::{SshError, session::Session};

/// A byte stream to a server's socket on another machine. If ssh fails, its error gives the reason.
///
/// Reads wait for the first write. A server that refuses the connection answers before the first
/// request is sent, and that answer must count as the one to the request.
///
/// Dropping or shutting down the stream closes the socket there, and ssh ends by itself.
pub(crate) struct SshStream {
    /// Bytes that came with the announcement.
    early: io::Cursor<Vec<u8>>,
    stdout: ChildStdout,
    stdin: Option<ChildStdin>,
    has_asked: bool,
    reader: Option<Waker>,
    end: End,
}

enum End {
    NotYet(Option<Box<Session>>),
    Coming(Pin<Box<dyn Future<Output = Option<SshError>> + Send>>),
    Over(Option<SshError>),
}

impl SshStream {
    pub(super) fn new(
        session: Session,
        stdin: ChildStdin,
        stdout: ChildStdout,
        early: Vec<u8>,
    ) -> Self {
        let end = End::NotYet(Some(Box::new(session)));
        let (early, stdin) = (io::Cursor::new(early), Some(stdin));
        Self { early, stdout, stdin, has_asked: false, reader: None, end }
    }

    /// Waits until ssh ends. An error gives the reason of its failure.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.end {
                End::NotYet(session) => {
                    self.stdin = None;
                    let session = session.take();
                    self.end = End::Coming(Box::pin(async move { session?.end().await }));
                }
                End::Coming(end) => self.end = End::Over(ready!(end.as_mut().poll(cx))),
                End::Over(None) => return Poll::Ready(Ok(())),
                End::Over(Some(error)) => {
                    let error = error.clone();
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        error,
                    )));
                }
            }
        }
    }

    /// A write failed, mostly because ssh has ended: returns the error of ssh.
    fn poll_failure(&mut self, error: io::Error, cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Ready(ready!(self.poll_end(cx)).err().unwrap_or(error))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !this.has_asked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.early).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut this.stdout).poll_read(cx, buffer)) {
            Ok(()) if buffer.filled().len() > before => Poll::Ready(Ok(())),
            Ok(()) => this.poll_end(cx),
            Err(error) => this.poll_failure(error, cx).map(Err),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.has_asked = true;
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        let written = match &mut this.stdin {
            None => Err(io::ErrorKind::BrokenPipe.into()),
            Some(stdin) => ready!(Pin::new(stdin).poll_write(cx, bytes)),
        };
        match written {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(error) => this.poll_failure(error, cx).map(Err),
        }
    }

    /// A pipe needs no flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stdin = None;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for SshStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshStream").finish_non_exhaustive()
    }
}
