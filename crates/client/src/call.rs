//! What a client must know of a request, and where ids come from.

use std::{
    fmt::Write,
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kakehi_channel::Request;

use crate::Clocks;

/// What a client must know of a request to send it, on any wire: the counterpart of
/// [`Reply`](crate::Reply).
///
/// ```
/// use kakehi_client::Call;
///
/// /// On a wire that has neither ids nor clocks.
/// struct Question(u32);
///
/// impl Call for Question {}
///
/// assert_eq!(Question(42).id(), None);
/// ```
pub trait Call: Sized {
    /// Called before the message is written, each time that it is: gives it an id, if the wire
    /// has ids and it has none, and tells the server how long the client will wait.
    ///
    /// Of the deadline, `clocks` says what is left.
    ///
    /// ```
    /// use kakehi_client::{Call, Clocks, Request};
    ///
    /// let mut request = Request::<()>::new("ID-1");
    /// request.prepare(Clocks::DEFAULT);
    /// assert_eq!((request.id.as_str(), request.timeout_ms), ("ID-1", Some(30_000)));
    /// ```
    fn prepare(&mut self, clocks: Clocks) {
        let _ = clocks;
    }

    /// The id that each response must carry; `None` on a wire without ids.
    fn id(&self) -> Option<&str> {
        None
    }

    /// The same, of a message that is not needed any more.
    ///
    /// ```
    /// use kakehi_client::{Call, Request};
    ///
    /// assert_eq!(Request::<()>::new("ID-1").into_id().as_deref(), Some("ID-1"));
    /// ```
    fn into_id(self) -> Option<String> {
        self.id().map(str::to_owned)
    }
}

/// An empty id is one that is still to be given: [`unique_id`] does.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::{Call, Clocks, Request};
///
/// let mut request = Request::<()>::new("");
/// request.prepare(Clocks { timeout: None, deadline: Some(Duration::from_secs(1)) });
/// assert!(!request.id.is_empty());
/// assert_eq!((request.timeout_ms, request.deadline_ms), (None, Some(1000)));
/// ```
impl<C> Call for Request<C> {
    fn prepare(&mut self, clocks: Clocks) {
        if self.id.is_empty() {
            self.id = unique_id();
        }
        self.timeout_ms = clocks.timeout.map(milliseconds);
        self.deadline_ms = clocks.deadline.map(milliseconds);
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn into_id(self) -> Option<String> {
        Some(self.id)
    }
}

/// An id that no other request of this process has: its pid, a hyphen, and a number that counts
/// up from 1 over all connections.
///
/// ```
/// let id = kakehi_client::unique_id();
/// assert!(id.starts_with(&format!("{}-", std::process::id())));
/// assert_ne!(id, kakehi_client::unique_id());
/// ```
#[must_use]
pub fn unique_id() -> String {
    // Asking the system each time would cost more than all the rest.
    static PREFIX: LazyLock<String> = LazyLock::new(|| format!("{}-", process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut id = String::with_capacity(PREFIX.len() + 20);
    id.push_str(&PREFIX);
    // Writing to a string cannot fail.
    let _ = write!(id, "{number}");
    id
}

/// Rounded up: 0 on the wire is "without limit".
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}
