//! The settings of a client.

use std::time::Duration;

use kakehi_channel::{BUSY_POLL, BufferLimits};

use crate::{Reconnect, Timeouts};

/// The settings of a [`Client`](crate::Client).
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::{Client, ClientSettings};
///
/// let settings = ClientSettings {
///     pool_size: 4,
///     timeout: Some(Duration::from_secs(5)),
///     server_uid: Some(0),
///     ..ClientSettings::default()
/// };
/// let client = Client::new("/run/app/app.sock", settings);
/// assert_eq!(client.stats().opened, 0, "it connects when it sends a request");
/// assert_eq!(client.path().to_str(), Some("/run/app/app.sock"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// How long a request waits for each response, unless it sets that itself. Default: 30 s. Zero
    /// or `None` means no limit.
    pub timeout: Option<Duration>,
    /// How long a request waits for the final response, unless it sets that itself. Default: no
    /// limit, as with zero or `None`.
    pub deadline: Option<Duration>,
    /// How many connections may be open at once, and so how many requests may be under way; at least
    /// one. Default: 8.
    pub pool_size: usize,
    /// How long a connection is kept while it is idle. Default: 60 s. Zero or `None` means no limit.
    pub idle_time: Option<Duration>,
    /// Tries again while the client cannot connect, or the server refuses a request because it is
    /// busy or shutting down. So a request waits while the server restarts. The timeout and the
    /// deadline of the request limit the wait. Default: no second try, and an error at once.
    ///
    /// A [`Pipeline`](crate::Pipeline) never tries again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use std::time::Duration;
    /// use kakehi_client::{Client, ClientSettings, ErrorKind, Outcome, Reconnect};
    ///
    /// let settings = ClientSettings {
    ///     reconnect: Some(Reconnect::default()),
    ///     deadline: Some(Duration::from_millis(50)),
    ///     ..ClientSettings::default()
    /// };
    /// let error = Client::new("/nowhere/app.sock", settings).request("reload").await.unwrap_err();
    /// assert_eq!((error.kind(), error.outcome()), (ErrorKind::Deadline, Outcome::NotSent));
    /// # }
    /// ```
    pub reconnect: Option<Reconnect>,
    /// Accepts only a server that runs as this user, because any user who can write to the directory
    /// could listen on the path first. Otherwise the error is
    /// [`WrongServer`](crate::ErrorKind::WrongServer). Default: any user.
    pub server_uid: Option<u32>,
    /// The memory that a connection may take for receiving. Default: [`BufferLimits::CLIENT`].
    pub incoming: BufferLimits,
    /// The memory that a connection may take for sending. Default: [`BufferLimits::default`].
    pub outgoing: BufferLimits,
    /// How long a request polls for its first response before its task sleeps. Default:
    /// [`BUSY_POLL`], 50 µs. Zero means never.
    ///
    /// Most servers answer before a sleeping core could wake up. Polling then makes a call several
    /// times faster, and takes less processor time than sleeping. It stops by itself where a server
    /// does not answer that soon: see [`BusyPoll`](kakehi_channel::BusyPoll).
    pub busy_poll: Duration,
}

impl ClientSettings {
    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts { timeout: self.timeout, deadline: self.deadline }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        let Timeouts { timeout, deadline } = Timeouts::default();
        Self {
            timeout,
            deadline,
            pool_size: 8,
            idle_time: Some(Duration::from_secs(60)),
            reconnect: None,
            server_uid: None,
            incoming: BufferLimits::CLIENT,
            outgoing: BufferLimits::default(),
            busy_poll: BUSY_POLL,
        }
    }
}
