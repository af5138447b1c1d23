//! The channel: typed messages in both directions over one byte stream.

use std::{
    fmt,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::Duration,
};

use bytes::BytesMut;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::UCred},
};
use tokio_util::codec::Framed;

use crate::{
    Buffer, Decode, Encode, Error, Format, Json, Limits, TryRead,
    codec::Codec,
    line::Line,
    polling::{self, Poller},
};

/// Sends `Tx`, receives `Rx`, in format `F` over the byte stream `S`.
///
/// It is a [`Stream`](futures::Stream) of what arrives and a [`Sink`](futures::Sink) of what is to be sent; the methods here are
/// the same without an import, each with its cancel safety.
///
/// ```
/// use kakehi_channel::{Channel, Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
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
/// # What comes out of the stream
/// - A frame that is not a message is an `Err` item ([`Error::is_malformed`]); the next frame is
///   read as usual.
/// - A frame over the limit, a length that cannot be, and an IO error are one `Err`
///   ([`Error::is_fatal`]); from then on the stream is over and gives `None`.
/// - The peer's end between two frames is `None`; inside a frame it is an `Err`
///   ([`Error::is_truncated`]), never a clean end. What arrived before is delivered first.
///
/// # What goes into the sink
/// A message is staged as a whole frame or not at all: one that cannot be encoded, or is over the
/// limit, leaves nothing on the wire, and the channel goes on.
pub struct Channel<Tx, Rx, F = Json, S = UnixStream> {
    pub(crate) framed: Framed<Line<S>, Codec<F, Rx>>,
    /// The stream has ended; nothing is read any more.
    pub(crate) over: bool,
    sent: PhantomData<fn(Tx)>,
}

impl<Tx, Rx, F: Decode<Rx> + Encode<Tx> + Default> Channel<Tx, Rx, F> {
    /// Connects to a server's socket, as a client: it receives up to [`Limits::CLIENT`].
    ///
    /// # Errors
    /// What the system says, with the path ([`Error::io_kind`]): `NotFound` and
    /// `ConnectionRefused` when no server is there, `PermissionDenied`, `WouldBlock` when the
    /// server's queue of connections is full.
    ///
    /// # Cancel safety
    /// Cancel safe: a connection is made or not.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), kakehi_channel::Error> {
    /// use kakehi_channel::{Channel, Request, Response};
    ///
    /// let channel = Channel::<Request, Response>::connect("/run/app/app.sock").await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream =
            UnixStream::connect(path).await.map_err(|error| Error::connect(path, error))?;
        Ok(Self::with_limits(stream, Limits::CLIENT, Limits::DEFAULT))
    }
}

impl<Tx, Rx, F: Format + Default> Channel<Tx, Rx, F> {
    /// Two channels that are connected to each other, with default limits.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// use kakehi_channel::Channel;
    ///
    /// let (mut left, mut right) = Channel::<String, u32>::pair()?;
    /// left.send("six".into()).await?;
    /// right.send(6).await?;
    /// assert_eq!(right.next().await.expect("a word")?, "six");
    /// assert_eq!(left.next().await.expect("a number")?, 6);
    /// # Ok(()) }
    /// ```
    pub fn pair() -> Result<(Self, Channel<Rx, Tx, F>), Error> {
        let (left, right) = UnixStream::pair()?;
        Ok((Self::new(left), Channel::new(right)))
    }
}

impl<Tx, Rx, F> Channel<Tx, Rx, F> {
    /// Who is on the other side: uid and gid, and the pid where the system knows it, as they were
    /// when the connection was made.
    ///
    /// # Errors
    /// What the system says. Who cannot be identified should be refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (left, _right) = kakehi_channel::Channel::<(), ()>::pair()?;
    /// assert_eq!(left.peer_cred()?.pid(), Some(std::process::id() as i32));
    /// # Ok(()) }
    /// ```
    pub fn peer_cred(&self) -> Result<UCred, Error> {
        Ok(self.get_ref().peer_cred()?)
    }
}

/// Polling on for a moment instead of sleeping at once: see
/// [`expect_soon`](Channel::expect_soon).
impl<Tx, Rx, F> Channel<Tx, Rx, F> {
    /// Lets it poll for up to `patience` for a message that is expected soon; zero is never, which
    /// is the default. [`BUSY_POLL`](crate::BUSY_POLL) is what a client and a server take.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// use kakehi_channel::{BUSY_POLL, Channel};
    ///
    /// let (left, mut right) = Channel::<u8, u8>::pair()?;
    /// let mut left = left.busy_poll(BUSY_POLL);
    /// left.send(7).await?;
    /// left.expect_soon();
    /// let answer = tokio::join!(left.next(), async {
    ///     right.next().await.expect("a number")?;
    ///     right.send(8).await
    /// });
    /// assert_eq!(answer.0.expect("an answer")?, 8);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn busy_poll(self, patience: Duration) -> Self {
        self.busy_poll_by(patience, |stream, bytes| {
            Ok(rustix::net::recv(stream, bytes, RecvFlags::DONTWAIT)?.1)
        })
    }
}

impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
    /// The same for any byte stream that can be read without waiting.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// use kakehi_channel::{BUSY_POLL, Channel};
    ///
    /// let (left, _right) = Channel::<u8, u8>::pair()?;
    /// let left = left.busy_poll_by(BUSY_POLL, |stream, bytes| stream.try_read(bytes));
    /// # drop(left);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn busy_poll_by(mut self, patience: Duration, try_read: TryRead<S>) -> Self {
        self.framed.get_mut().poller = (polling::is_possible() && !patience.is_zero())
            .then(|| Poller::new(patience, try_read));
        self
    }

    /// Says that the next message may come at once: that the peer was asked, or was answered and
    /// may ask again. Receiving it, the channel then polls for a moment before it sleeps, and
    /// gives other tasks their turn every few µs.
    ///
    /// It polls only where that pays: not before a message has come soon, ever more rarely if none
    /// does, at once no more when other tasks have work; and only on so many connections of a
    /// process at once as half of its cores, so that with one core it never does.
    ///
    /// Returns whether it will poll. If not, there is no need to receive before the task waits.
    pub fn expect_soon(&mut self) -> bool {
        self.framed.get_mut().poller.as_mut().is_some_and(Poller::expect)
    }
}

impl<Tx, Rx, F: Format + Default, S: AsyncRead + AsyncWrite> Channel<Tx, Rx, F, S> {
    /// A channel over any byte stream, with [`Limits::DEFAULT`] in both directions.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_channel::{Channel, Json};
    ///
    /// let (ours, theirs) = tokio::io::duplex(64);
    /// let mut channel = Channel::<u8, u8, Json, _>::new(ours);
    /// # drop(theirs);
    /// assert!(channel.next().await.is_none(), "the other side is gone");
    /// # }
    /// ```
    pub fn new(stream: S) -> Self {
        Self::with_limits(stream, Limits::DEFAULT, Limits::DEFAULT)
    }

    /// A channel that receives frames up to `incoming` and sends frames up to `outgoing`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use kakehi_channel::{Channel, Json, Limits};
    ///
    /// let (ours, _theirs) = tokio::io::duplex(64);
    /// let tight = Limits { initial: 8, max: 8 };
    /// let mut channel = Channel::<&str, u8, Json, _>::with_limits(ours, tight, tight);
    /// let error = channel.send("a long text").await.unwrap_err();
    /// assert!(error.is_too_large());
    /// # }
    /// ```
    pub fn with_limits(stream: S, incoming: Limits, outgoing: Limits) -> Self {
        let codec = Codec::new(F::default(), incoming, outgoing);
        let framed = Framed::with_capacity(Line { stream, poller: None }, codec, 0);
        Self { framed, over: false, sent: PhantomData }
    }
}

/// Receiving.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
/// use kakehi_channel::{Channel, Json};
/// use tokio::io::AsyncWriteExt;
///
/// let (ours, mut theirs) = tokio::io::duplex(64);
/// let mut channel = Channel::<(), u8, Json, _>::new(ours);
/// theirs.write_all(b"1\0two\x003\0").await.unwrap();
/// drop(theirs);
///
/// assert_eq!(channel.next().await.expect("a number")?, 1);
/// let error = channel.next().await.expect("an item").unwrap_err();
/// assert!(error.is_malformed() && error.payload().unwrap() == "two");
/// assert_eq!(channel.next().await.expect("the next one")?, 3);
/// assert!(channel.next().await.is_none());
/// # Ok(()) }
/// ```
impl<Tx, Rx, F: Decode<Rx>, S: AsyncRead + Unpin> Channel<Tx, Rx, F, S> {
    /// The next message; `None` once the stream is over.
    ///
    /// # Errors
    /// See [what comes out of the stream](Self#what-comes-out-of-the-stream).
    ///
    /// # Cancel safety
    /// Cancel safe: dropped while it waits, it has lost nothing, not even half a frame.
    pub async fn next(&mut self) -> Option<Result<Rx, Error>> {
        StreamExt::next(self).await
    }

    /// The next message, if it comes within `patience`; zero means without limit, never "at
    /// once". After a timeout one may wait again.
    ///
    /// # Errors
    /// As [`next`](Self::next), and [`Error::is_timeout`].
    ///
    /// # Cancel safety
    /// Cancel safe, as [`next`](Self::next) is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// use std::time::Duration;
    /// use kakehi_channel::{Channel, Json};
    ///
    /// let (ours, _theirs) = tokio::io::duplex(64);
    /// let mut channel = Channel::<u8, u8, Json, _>::new(ours);
    /// let error = channel.next_within(Duration::from_secs(2)).await.unwrap_err();
    /// assert!(error.is_timeout());
    /// # }
    /// ```
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Rx>, Error> {
        let next = StreamExt::next(self);
        if patience.is_zero() {
            return next.await.transpose();
        }
        match tokio::time::timeout(patience, next).await {
            Ok(item) => item.transpose(),
            Err(_) => Err(Error::timeout(patience)),
        }
    }
}

/// Sending.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
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
    /// Sends one message and all that was fed before it.
    ///
    /// # Errors
    /// [`Error::is_unencodable`] or [`Error::is_too_large`]: nothing of it was sent, and the
    /// channel goes on. Otherwise the connection failed.
    ///
    /// # Cancel safety
    /// A cancelled `send` may have staged the message, never a part of it: what was staged goes
    /// out with the next `send`, `flush` or `close`, and some of it may have left already. So a
    /// message whose `send` was cancelled can still arrive. Where that matters, drop the channel.
    pub async fn send(&mut self, message: Tx) -> Result<(), Error> {
        SinkExt::send(self, message).await
    }

    /// Stages one message. Writes, and waits for the peer to read, only once 64 KiB are staged.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// Dropped while it waits, it has not staged the message.
    pub async fn feed(&mut self, message: Tx) -> Result<(), Error> {
        SinkExt::feed(self, message).await
    }

    /// Writes all that is staged.
    ///
    /// # Errors
    /// When the connection failed.
    ///
    /// # Cancel safety
    /// Cancel safe: the rest stays staged.
    pub async fn flush(&mut self) -> Result<(), Error> {
        SinkExt::flush(self).await
    }

    /// Writes all that is staged, then shuts the sending direction: the peer reads to an end, and
    /// can still answer.
    ///
    /// # Errors
    /// When the connection failed.
    ///
    /// # Cancel safety
    /// Cancel safe: it may be called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        SinkExt::close(self).await
    }
}

/// Staging without waiting: for those who drive the channel by hand, as a server loop does.
impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
    /// Stages a message of any type that the format can write, borrowed ones too. It never waits:
    /// bounding what is [`staged`](Self::staged) is for the caller.
    ///
    /// # Errors
    /// [`Error::is_unencodable`] or [`Error::is_too_large`]: nothing was staged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (mut left, mut right) = kakehi_channel::Channel::<String, String>::pair()?;
    /// left.stage("borrowed")?;
    /// assert_eq!(left.staged(), "\"borrowed\"\0".len());
    /// left.flush().await?;
    /// assert_eq!(right.next().await.expect("it was sent")?, "borrowed");
    /// # Ok(()) }
    /// ```
    pub fn stage<M: ?Sized>(&mut self, message: &M) -> Result<(), Error>
    where
        F: Encode<M>,
        S: AsyncWrite + Unpin,
    {
        self.framed.start_send_unpin(message)
    }

    /// Stages frames that [`encode_frame`](crate::encode_frame) has put into `frames`, without
    /// copying them where nothing is staged yet, and leaves `frames` empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// use kakehi_channel::{Buffer, Channel, Json, encode_frame};
    ///
    /// let mut frames = Buffer::new(64, 1024);
    /// encode_frame(&mut Json::default(), "elsewhere", &mut frames, 100)?;
    /// let (mut left, mut right) = Channel::<String, String>::pair()?;
    /// left.stage_frames(&mut frames);
    /// left.flush().await?;
    /// assert_eq!(right.next().await.expect("it was sent")?, "elsewhere");
    /// # Ok(()) }
    /// ```
    pub fn stage_frames(&mut self, frames: &mut Buffer) {
        frames.give_to(self.framed.write_buffer_mut());
    }

    /// How many bytes are staged and not yet written.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (mut left, _right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// left.feed(7).await?;
    /// assert_eq!(left.staged(), 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn staged(&self) -> usize {
        self.framed.write_buffer().len()
    }

    /// How many bytes of a frame have come whose end has not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use futures::FutureExt;
    /// use kakehi_channel::{Channel, Json};
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let (ours, mut theirs) = tokio::io::duplex(64);
    /// let mut channel = Channel::<u8, u8, Json, _>::new(ours);
    /// theirs.write_all(b"12").await.unwrap();
    /// assert!(channel.next().now_or_never().is_none());
    /// assert_eq!(channel.unfinished(), 2);
    /// # }
    /// ```
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.framed.read_buffer().len()
    }

    /// The bytes of all frames received so far.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (mut left, mut right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// left.send(7).await?;
    /// right.next().await.expect("a number")?;
    /// assert_eq!(right.received(), 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn received(&self) -> u64 {
        self.framed.codec().received_bytes()
    }

    /// The largest frame that may be sent, in bytes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (left, _right) = kakehi_channel::Channel::<(), ()>::pair()?;
    /// assert_eq!(left.max_outgoing(), 1_048_576);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn max_outgoing(&self) -> usize {
        self.framed.codec().max_outgoing()
    }

    /// Reads no more: from here on the stream is at its end. What was read and not taken is
    /// forgotten, and its memory given back. `Framed` by itself would read on behind an error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (mut left, mut right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// right.send(1).await?;
    /// left.stop_reading();
    /// assert!(left.next().await.is_none());
    /// # Ok(()) }
    /// ```
    pub fn stop_reading(&mut self) {
        self.over = true;
        *self.framed.read_buffer_mut() = BytesMut::new();
        self.framed.codec_mut().release_incoming();
    }

    /// The memory that this channel's buffers hold now, in bytes: none while it is idle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (left, _right) = kakehi_channel::Channel::<(), ()>::pair()?;
    /// assert_eq!(left.memory(), 0);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn memory(&self) -> usize {
        self.framed.read_buffer().capacity()
            + self.framed.write_buffer().capacity()
            + self.framed.codec().memory()
    }

    /// The byte stream. Reading from it or writing to it breaks the framing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (left, _right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// assert!(left.get_ref().peer_addr()?.is_unnamed());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.framed.get_ref().stream
    }

    /// Gives the byte stream back. What was read and not yet decoded, or staged and not yet
    /// written, is lost.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// let (left, _right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// let stream: tokio::net::UnixStream = left.into_inner();
    /// # drop(stream);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn into_inner(self) -> S {
        self.framed.into_inner().stream
    }
}

impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S>
where
    F: Decode<Rx> + Encode<Tx>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Two halves that work in two tasks: one sends, one receives. Both gone, the connection is
    /// closed; the sending half's `close` shuts only its direction.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
    /// use futures::{SinkExt, StreamExt};
    ///
    /// let (left, mut right) = kakehi_channel::Channel::<u8, u8>::pair()?;
    /// let (mut sending, mut receiving) = left.split();
    /// let echo = tokio::spawn(async move {
    ///     let number = right.next().await.expect("a number").unwrap();
    ///     right.send(number).await
    /// });
    /// let answer = tokio::spawn(async move { receiving.next().await });
    /// sending.send(7).await?;
    /// assert_eq!(answer.await.unwrap().expect("an echo")?, 7);
    /// # echo.await.unwrap()?;
    /// # Ok(()) }
    /// ```
    pub fn split(self) -> (SplitSink<Self, Tx>, SplitStream<Self>) {
        StreamExt::split(self)
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
