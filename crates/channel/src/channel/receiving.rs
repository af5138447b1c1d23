//! What comes out of a channel.

use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use tokio::{
    io::AsyncRead,
    time::{Instant, timeout},
};

use crate::{Channel, Decode, Error};

/// From when on a clock is heard late: this process did not run.
const LATE: Duration = Duration::from_millis(10);

/// How long the runtime needs to hear of what has come.
const A_LOOK: Duration = Duration::from_millis(2);

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
        if patience.is_zero() {
            return self.next().await.transpose();
        }
        let begun = Instant::now();
        let mut item = timeout(patience, self.next()).await;
        // A process that was stopped hears of its clock before it hears of what has come.
        if item.is_err() && begun.elapsed() > patience.saturating_add(LATE) {
            item = timeout(A_LOOK, self.next()).await;
        }
        item.map_err(|_| Error::timeout(patience))?.transpose()
    }
}

/// What has come, for those who drive the channel by hand.
impl<Tx, Rx, F, S> Channel<Tx, Rx, F, S> {
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
}
