//! The settings of a client of Sōzu.

use std::{path::PathBuf, time::Duration};

use kakehi_channel::BufferLimits;
use kakehi_client::{Client, ClientSettings, Reconnect};

use crate::{Error, Request, Response, Sozu, Wire};

/// The distance of the largest frame from Sōzu's maximum, in bytes. Sōzu's main process accepts a
/// frame slightly below the maximum, adds a few bytes, and the result kills every worker.
const MARGIN: usize = 1024;

/// The settings of a [`Sozu`], with defaults for all of them.
///
/// ```
/// use std::time::Duration;
/// use kakehi_sozu::{Reconnect, Sozu};
///
/// let sozu = Sozu::builder("/run/sozu/sozu.sock")
///     .pool_size(4)
///     .deadline(Duration::from_secs(30))
///     .reconnect(Reconnect::default())
///     .build();
/// assert_eq!(sozu.stats().opened, 0, "it connects when it has something to send");
/// ```
#[derive(Clone, Debug)]
#[must_use = "it makes no client before `build` or `connect` is called"]
pub struct SozuBuilder {
    path: PathBuf,
    deadline: Option<Duration>,
    pool_size: usize,
    max_command_buffer_size: usize,
    reconnect: Option<Reconnect>,
    server_uid: Option<u32>,
}

impl SozuBuilder {
    /// For the Sōzu whose `command_socket` is `path`.
    ///
    /// ```
    /// let sozu = kakehi_sozu::SozuBuilder::new("/run/sozu/sozu.sock").build();
    /// # let _ = sozu;
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            deadline: Some(Duration::from_secs(15)),
            pool_size: 16,
            max_command_buffer_size: 2_000_000,
            reconnect: None,
            server_uid: None,
        }
    }

    /// How long a request waits for its final response unless it says otherwise; 15 s, which is
    /// more than Sōzu's own `worker_timeout` of 10 s: its answer about a worker that hangs comes
    /// first. Zero or `None` is without limit.
    ///
    /// Requests that are [open-ended](Request::is_open_ended) have none.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into().filter(|deadline| !deadline.is_zero());
        self
    }

    /// Sets the maximum number of open connections, and so of concurrent requests. Default: 16. At
    /// least one. A subscription has an additional connection.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sōzu's own setting of this name, in bytes; 2,000,000, which is its default. A request whose
    /// frame is larger than that less 1 KiB is refused before anything of it is sent: hardly below
    /// the maximum, it would kill all workers.
    ///
    /// Many configuration files set less: see [`Sozu::from_config`].
    pub fn max_command_buffer_size(mut self, bytes: usize) -> Self {
        self.max_command_buffer_size = bytes;
        self
    }

    /// Tries again while no connection can be made, inside the deadline of the request: while Sōzu
    /// restarts. Without it, that is an error at once.
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.reconnect = Some(policy);
        self
    }

    /// Refuses a Sōzu that runs as another user.
    pub fn expect_server_uid(mut self, uid: u32) -> Self {
        self.server_uid = Some(uid);
        self
    }

    /// The client. It connects when it has something to send.
    #[must_use]
    pub fn build(self) -> Sozu {
        Sozu::new(self)
    }

    /// The client, with one connection made already, so that an error shows early.
    ///
    /// # Errors
    /// [`Unconnected`](crate::ErrorKind::Unconnected) or, after the deadline, [`Deadline`](crate::ErrorKind::Deadline).
    ///
    /// # Cancel safety
    /// Cancel safe: there is a client or none.
    pub async fn connect(self) -> Result<Sozu, Error> {
        let sozu = self.build();
        sozu.ready().await?;
        Ok(sozu)
    }

    pub(crate) fn pool(&self) -> usize {
        self.pool_size
    }

    pub(crate) fn default_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// A pool of at most `size` connections.
    pub(crate) fn client(&self, size: usize) -> Client<Request, Response, Wire> {
        // The same setting bounds Sōzu's responses; Sōzu may still run with a higher one.
        let incoming = self.max_command_buffer_size.max(BufferLimits::CLIENT.max);
        let outgoing = self.max_command_buffer_size.saturating_sub(MARGIN);
        let settings = ClientSettings {
            timeout: None,
            deadline: self.deadline,
            pool_size: size,
            reconnect: self.reconnect,
            server_uid: self.server_uid,
            incoming: BufferLimits { max: incoming, ..BufferLimits::default() },
            outgoing: BufferLimits { max: outgoing, ..BufferLimits::default() },
            // Sōzu asks its workers before it answers, and they need the cores.
            busy_poll: Duration::ZERO,
            ..ClientSettings::default()
        };
        Client::typed(&self.path, settings)
    }
}
