//! The channel: typed messages in both directions over one byte stream.

mod drive;

pub use self::drive::LowLevel;
use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    task::Poll,
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use kakehi_time::Timer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    time::Instant,
};
use tokio_util::codec::Framed;

use crate::{BufferLimits, ChannelError, Decode, Encode, Format, Json, codec::Codec};

/// Sends messages of type `Tx` and receives messages of type `Rx`, in the format `F`, over the byte
/// stream `S`.
///
/// A channel is a [`Stream`](futures::Stream) and a [`Sink`](futures::Sink). Its methods do the
/// same without an import.
///
/// ```
/// use kakehi_channel::{Channel, Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
/// let (mut client, mut server) = Channel::<Request, Response>::pair()?;
///
/// client.send(Request::new("My-urgent-request")).await?;
/// let request = server.next().await.expect("the client is there")?;
/// server.send(Response::processing(&request.id, "Not done yet")).await?;
/// server.send(Response::ok(&request.id, "Done")).await?;
///
/// assert_eq!(client.next().await.expect("progress")?.message, "Not done yet");
/// assert_eq!(client.next().await.expect("an answer")?.message, "Done");
/// # Ok(()) }
/// ```
///
/// To send and receive in two tasks, split the channel with [`StreamExt::split`](futures::StreamExt::split).
/// The connection closes when both halves are dropped.
///
/// # Items of the stream
/// - A frame that is not a message is an `Err` item ([`Malformed`](crate::ErrorKind::Malformed)). The next frame
///   is read as usual.
/// - A frame over the limit, an impossible length and an IO error are one `Err` item
///   ([`ChannelError::is_fatal`]). After it, the stream returns `None`.
/// - If the peer closes between two frames, the stream returns `None`. If it closes inside a frame,
///   the item is an `Err` ([`Disconnected`](crate::ErrorKind::Disconnected)). Earlier messages are delivered first.
///
/// # Items of the sink
/// A message is staged as a whole frame or not at all. If it cannot be encoded or is over the
/// limit, nothing is sent, and the channel can still be used.
pub struct Channel<Tx, Rx, F = Json, S = UnixStream> {
    framed: Framed<S, Codec<F>>,
    /// Asks the stream to look for the rest of an unfinished frame, if it can.
    expect_rest: fn(&mut S) -> bool,
    /// The stream of messages has ended.
    over: bool,
    messages: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx, Rx, F: Decode<Rx> + Encode<Tx> + Default> Channel<Tx, Rx, F> {
    /// Connects to a server's socket. Receives frames up to [`BufferLimits::CLIENT`] and sends
    /// frames up to [`BufferLimits::default`].
    ///
    /// # Errors
    /// The error of the system, with the path. Its [`ChannelError::io_kind`] is `NotFound` or
    /// `ConnectionRefused` without a server, `PermissionDenied`, or `WouldBlock` if the server's
    /// queue of connections is full.
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), kakehi_channel::ChannelError> {
    /// use kakehi_channel::{Channel, Request, Response};
    ///
    /// let channel = Channel::<Request, Response>::connect("/run/app/app.sock").await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ChannelError> {
        let path = path.as_ref();
        let stream =
            UnixStream::connect(path).await.map_err(|error| ChannelError::connect(path, error))?;
        Ok(Self::with_limits(stream, BufferLimits::CLIENT, BufferLimits::default()))
    }
}

impl<Tx, Rx, F: Format + Default> Channel<Tx, Rx, F> {
    /// Creates two connected channels, with [`BufferLimits::default`].
    ///
    /// # Errors
    /// If the process has no descriptors left.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
    /// use kakehi_channel::Channel;
    ///
    /// let (mut left, mut right) = Channel::<String, u32>::pair()?;
    /// left.send("six".into()).await?;
    /// right.send(6).await?;
    /// assert_eq!(right.next().await.expect("a word")?, "six");
    /// assert_eq!(left.next().await.expect("a number")?, 6);
    /// # Ok(()) }
    /// ```
    pub fn pair() -> Result<(Self, Channel<Rx, Tx, F>), ChannelError> {
        let (left, right) = UnixStream::pair()?;
        Ok((Self::new(left), Channel::new(right)))
    }
}

impl<Tx, Rx, F: Format + Default, S: AsyncRead + AsyncWrite> Channel<Tx, Rx, F, S> {
    /// Creates a channel over any byte stream, with [`BufferLimits::default`] in both directions.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_channel::{Channel, Json};
    ///
    /// let (ours, theirs) = tokio::io::duplex(64);
    /// let mut channel = Channel::<u8, u8, Json, _>::new(ours);
    /// # drop(theirs);
    /// assert!(channel.next().await.is_none(), "the peer closed the stream");
    /// # }
    /// ```
    pub fn new(stream: S) -> Self {
        Self::with_limits(stream, BufferLimits::default(), BufferLimits::default())
    }

    /// Creates a channel that receives frames up to `incoming` and sends frames up to `outgoing`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_channel::{BufferLimits, Channel, ErrorKind, Json};
    ///
    /// let (ours, _theirs) = tokio::io::duplex(64);
    /// let tight = BufferLimits { initial: 8, max: 8 };
    /// let mut channel = Channel::<&str, u8, Json, _>::with_limits(ours, tight, tight);
    /// let error = channel.send("a long text").await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TooLarge);
    /// # }
    /// ```
    pub fn with_limits(stream: S, incoming: BufferLimits, outgoing: BufferLimits) -> Self {
        let codec = Codec::new(F::default(), incoming, outgoing);
        let framed = Framed::with_capacity(stream, codec, 0);
        Self { framed, expect_rest: |_| false, over: false, messages: PhantomData }
    }
}

impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
    /// The byte stream. Reading from it or writing to it breaks the framing.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        self.framed.get_ref()
    }

    /// Returns the byte stream. Bytes that were read and not decoded, or staged and not written,
    /// are lost.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.framed.into_inner()
    }
}

/// Sending.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
/// let (mut left, mut right) = kakehi_channel::Channel::<u8, u8>::pair()?;
/// left.feed(1).await?;
/// left.feed(2).await?;
/// left.flush().await?; // both in one system call
/// left.send(3).await?;
/// left.close().await?;
/// for expected in 1..=3 {
///     assert_eq!(right.next().await.expect("a number")?, expected);
/// }
/// assert!(right.next().await.is_none());
/// # Ok(()) }
/// ```
impl<Tx, Rx, F: Encode<Tx>, S: AsyncWrite + Unpin> Channel<Tx, Rx, F, S> {
    /// Sends one message, and all messages that were fed before it.
    ///
    /// # Errors
    /// [`Unencodable`](crate::ErrorKind::Unencodable) or [`TooLarge`](crate::ErrorKind::TooLarge): the message was not sent,
    /// and the channel can still be used. With any other error, the connection failed.
    ///
    /// # Cancel safety
    /// Not cancel safe: a cancelled `send` may have staged the whole message. The next `send`,
    /// `flush` or `close` then sends the rest of it. Drop the channel if the message must not
    /// arrive.
    pub async fn send(&mut self, message: Tx) -> Result<(), ChannelError> {
        SinkExt::send(self, message).await
    }

    /// Stages one message. Waits for the peer to read only while 64 KiB or more are staged.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// Cancel safe: a cancelled `feed` has not staged the message.
    pub async fn feed(&mut self, message: Tx) -> Result<(), ChannelError> {
        SinkExt::feed(self, message).await
    }

    /// Writes all staged messages.
    ///
    /// # Errors
    /// If the connection failed.
    ///
    /// # Cancel safety
    /// Cancel safe: the rest stays staged.
    pub async fn flush(&mut self) -> Result<(), ChannelError> {
        SinkExt::flush(self).await
    }

    /// Writes all staged messages, then closes the sending direction. The peer can still send.
    ///
    /// # Errors
    /// If the connection failed.
    ///
    /// # Cancel safety
    /// Cancel safe: call it again.
    pub async fn close(&mut self) -> Result<(), ChannelError> {
        SinkExt::close(self).await
    }
}

/// Receiving.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
/// use kakehi_channel::{Channel, ErrorKind, Json};
/// use tokio::io::AsyncWriteExt;
///
/// let (ours, mut theirs) = tokio::io::duplex(64);
/// let mut channel = Channel::<(), u8, Json, _>::new(ours);
/// theirs.write_all(b"1\0two\x003\0").await.unwrap();
/// drop(theirs);
///
/// assert_eq!(channel.next().await.expect("a number")?, 1);
/// let error = channel.next().await.expect("an item").unwrap_err();
/// assert!(error.kind() == ErrorKind::Malformed && error.payload().unwrap() == "two");
/// assert_eq!(channel.next().await.expect("the next one")?, 3);
/// assert!(channel.next().await.is_none());
/// # Ok(()) }
/// ```
impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Channel<Tx, Rx, F, S> {
    /// Receives the next message. Returns `None` at the end of the stream.
    ///
    /// # Errors
    /// See [items of the stream](Self#items-of-the-stream).
    ///
    /// # Cancel safety
    /// Cancel safe: a partial frame stays in the channel.
    pub async fn next(&mut self) -> Option<Result<Rx, ChannelError>> {
        StreamExt::next(self).await
    }

    /// Receives the next message, and waits for up to `limit`. Zero waits without limit.
    ///
    /// # Errors
    /// As [`next`](Self::next), and [`Timeout`](crate::ErrorKind::Timeout). After a timeout, the channel can
    /// still be used.
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// use std::time::Duration;
    /// use kakehi_channel::{Channel, ErrorKind, Json};
    ///
    /// let (ours, _theirs) = tokio::io::duplex(64);
    /// let mut channel = Channel::<u8, u8, Json, _>::new(ours);
    /// let error = channel.next_within(Duration::from_secs(2)).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Timeout);
    /// # }
    /// ```
    pub async fn next_within(&mut self, limit: Duration) -> Result<Option<Rx>, ChannelError> {
        if limit.is_zero() {
            return self.next().await.transpose();
        }
        let Some(end) = Instant::now().checked_add(limit) else {
            return self.next().await.transpose();
        };
        let (mut timer, mut last_look) = (Timer::default(), None);
        poll_fn(|cx| match self.poll_message(cx) {
            Poll::Ready(item) => Poll::Ready(item.transpose()),
            Poll::Pending => {
                let late = timer.poll_twice(end, &mut last_look, cx);
                late.map(|()| Err(ChannelError::timeout(limit)))
            }
        })
        .await
    }
}

impl<Tx, Rx, F, S: AsFd> AsFd for Channel<Tx, Rx, F, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<Tx, Rx, F, S: fmt::Debug> fmt::Debug for Channel<Tx, Rx, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("stream", self.get_ref())
            .field("staged", &self.staged())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
