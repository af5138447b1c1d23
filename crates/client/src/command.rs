//! Typed commands: a command in, its progress and its reply out.

use kakehi_channel::{Json, Request};
use kakehi_command::{Command, CommandContent, CommandResponse, Invocation};
use tokio::net::UnixStream;

use crate::{Client, Connection, Error, RequestBuilder};

/// A request for the command `C`. `.await` returns its [`Reply`](Command::Reply), and
/// [`send`](RequestBuilder::send) a stream of its [`Event`](crate::Event)s.
pub type CommandRequest<'c, C, S = UnixStream> =
    RequestBuilder<'c, Request<Invocation<C>>, CommandResponse<C>, Json, S>;

/// The error of a request for the command `C`.
pub type CommandError<C> = Error<CommandResponse<C>>;

impl<Tx, Rx> Client<Tx, Rx> {
    /// Builds a request for a typed command. `.await` sends it and returns the command's reply.
    ///
    /// An ERROR is an error, also in the stream that [`send`](RequestBuilder::send) returns. It
    /// holds the command's [`fault`](CommandError::fault). An OK whose content is not the reply has
    /// the outcome [`Done`](crate::Outcome::Done). Requests for commands of all types share the
    /// connections of the client.
    ///
    /// ```no_run
    /// use kakehi_client::{Client, Event};
    /// use kakehi_command::Describe;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("/run/app/app.sock").await?;
    /// let description = client.call(Describe).await?;
    /// println!("{} {}", description.name, description.version);
    ///
    /// let mut events = client.call(Describe).send().await?;
    /// while let Some(event) = events.next().await {
    ///     match event? {
    ///         Event::Progress { message, .. } => println!("... {message}"),
    ///         Event::Done { reply, .. } => println!("{}", reply.name),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn call<C: Command>(&self, command: C) -> CommandRequest<'static, C> {
        self.begin(Request::with_command("", Invocation(command)))
    }
}

impl<Tx, Rx, S> Connection<Tx, Rx, Json, S> {
    /// Begins a request for a typed command: see [`Client::call`].
    pub fn call<C: Command>(&mut self, command: C) -> CommandRequest<'_, C, S> {
        self.begin(Request::with_command("", Invocation(command)))
    }
}

impl<C: Command> CommandError<C> {
    /// The content of the ERROR that the server answered, if there is one that can be decoded.
    #[must_use]
    pub fn fault(&self) -> Option<&C::Fault> {
        match &self.response()?.0.content {
            Some(CommandContent::Fault(fault)) => Some(fault),
            _ => None,
        }
    }
}
