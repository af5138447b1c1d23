//! The channel: typed messages in both directions over one byte stream.

mod drive;
mod expecting;
mod receiving;
mod sending;

use std::{
    fmt,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use futures::{
    StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, unix::UCred},
};
use tokio_util::codec::Framed;

use crate::{Decode, Encode, Error, Format, Json, Limits, codec::Codec, line::Line};

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
    framed: Framed<Line<S>, Codec<F, Rx>>,
    /// The stream has ended; nothing is read any more.
    over: bool,
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

impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
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
