//! A client of a running Sōzu.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kakehi_client::{Client, ClientStats};

use crate::{ConfigError, Events, Request, Response, SozuBuilder, Wire};

/// The error of a request, with its cause and its outcome.
///
/// The final response is in it, if there was one ([`response`](kakehi_client::Error::response)).
pub type Error = kakehi_client::Error<Response>;

/// A request before it is sent: awaited, it gives the final response; its `send` gives the
/// [`Responses`].
pub type RequestBuilder = kakehi_client::RequestBuilder<'static, Request, Response, Wire>;

/// The responses to one request as they come: a stream that ends after the final one.
pub type Responses = kakehi_client::Responses<'static, Request, Response, Wire>;

/// A client of a running Sōzu: cheap to clone, used from any number of tasks at once.
///
/// ```no_run
/// use kakehi_sozu::{Sozu, command::{self, request::RequestType}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_sozu::Error> {
/// let sozu = Sozu::connect("/run/sozu/sozu.sock").await?;
/// let answer = sozu.request(RequestType::Status(command::Status {})).await?;
/// println!("{}", answer.message);
/// # Ok(()) }
/// ```
///
/// # The pool
/// A connection serves one request at a time, because Sōzu runs only the last of several pipelined
/// requests and sends a late response to the next request. The client closes the connection of an
/// abandoned request. Before it uses an idle connection, it checks whether Sōzu has closed it, for
/// example by a restart; if so, it takes another.
#[derive(Clone, Debug)]
pub struct Sozu {
    client: Client<Request, Response, Wire>,
    settings: Arc<SozuBuilder>,
}

impl Sozu {
    /// A client of the Sōzu whose `command_socket` is `path`, with default settings and one
    /// connection already.
    ///
    /// # Errors
    /// [`Unconnected`](crate::ErrorKind::Unconnected) or [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// # Cancel safety
    /// Cancel safe: there is a client or none.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder(path).connect().await
    }

    /// Sets up a client of the Sōzu whose `command_socket` is `path`.
    ///
    /// ```
    /// let sozu = kakehi_sozu::Sozu::builder("/run/sozu/sozu.sock").pool_size(2).build();
    /// # let _ = sozu;
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> SozuBuilder {
        SozuBuilder::new(path)
    }

    /// Sets up a client by Sōzu's own configuration file.
    ///
    /// Its `command_socket` is where Sōzu puts it, also if the path is relative to the file; its
    /// `max_command_buffer_size` bounds what is sent; the deadline is 5 s more than its
    /// `worker_timeout`, and no less than its `ctl_command_timeout`. A `command_buffer_size` is
    /// what Sōzu takes at first: here, memory is taken as frames need it.
    ///
    /// # Errors
    /// When the file cannot be read, or Sōzu would not take it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use kakehi_sozu::Sozu;
    ///
    /// let sozu = Sozu::from_config("/etc/sozu/config.toml").await?.connect().await?;
    /// # Ok(()) }
    /// ```
    pub async fn from_config(file: impl Into<PathBuf>) -> Result<SozuBuilder, ConfigError> {
        SozuBuilder::from_config(file.into()).await
    }

    pub(crate) fn new(settings: SozuBuilder) -> Self {
        let client = settings.client(settings.pool());
        Self { client, settings: Arc::new(settings) }
    }

    /// Creates a request, which is sent when it is awaited.
    ///
    /// Its deadline is the client's, unless it is [open-ended](Request::is_open_ended); each
    /// response may take as long as that leaves. Some requests are never answered by Sōzu, as those
    /// that its version does not know: they end at the deadline, with an unknown outcome. A
    /// [`probe`](Self::probe) finds out which it knows.
    ///
    /// ```no_run
    /// # async fn f(sozu: kakehi_sozu::Sozu) -> Result<(), kakehi_sozu::Error> {
    /// use std::time::Duration;
    /// use kakehi_sozu::command::{SoftStop, request::RequestType};
    ///
    /// let stop = RequestType::SoftStop(SoftStop {});
    /// let mut responses = sozu.request(stop).deadline(Duration::from_secs(60)).send().await?;
    /// while let Some(response) = responses.next().await.transpose()? {
    ///     println!("{}: {}", response.status, response.message);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn request(&self, request: impl Into<Request>) -> RequestBuilder {
        let request = request.into();
        let deadline = self.settings.default_deadline().filter(|_| !request.is_open_ended());
        self.client.message(request).deadline(deadline)
    }

    /// Subscribes to what happens: an endless stream, on a connection of its own. See [`Events`].
    ///
    /// ```no_run
    /// # async fn f(sozu: kakehi_sozu::Sozu) {
    /// use kakehi_sozu::Notice;
    ///
    /// let mut events = sozu.events();
    /// loop {
    ///     match events.next().await {
    ///         Notice::Event(event) => println!("{event:?}"),
    ///         Notice::Gap(time) => println!("events of {time:?} are missing"),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        Events::new(self.settings.client(1), self.settings.default_deadline())
    }

    /// Has a connection ready, so that an error shows early: does nothing if one is idle.
    ///
    /// # Errors
    /// [`Unconnected`](crate::ErrorKind::Unconnected) or, after the client's deadline, [`Deadline`](crate::ErrorKind::Deadline).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self) -> Result<(), Error> {
        self.client.ready().await
    }

    /// Returns the current counters of all clones together, without subscriptions.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.client.stats()
    }

    /// Where Sōzu listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.client.path()
    }

    pub(crate) fn settings(&self) -> &SozuBuilder {
        &self.settings
    }

    pub(crate) fn pool_size(&self) -> usize {
        self.settings.pool()
    }
}
