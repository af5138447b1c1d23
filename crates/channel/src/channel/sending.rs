//! What goes into a channel.

use futures::SinkExt;
use tokio::io::AsyncWrite;

use crate::{Buffer, Channel, Encode, Error};

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
}
