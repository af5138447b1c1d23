//! How a channel waits for what is expected soon.

use std::time::Duration;

use rustix::net::RecvFlags;

use crate::{
    Channel, TryRead,
    polling::{self, Poller},
};

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
