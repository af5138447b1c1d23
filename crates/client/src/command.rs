//! Typed commands: a command in, its progress and its reply out.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::FusedStream};
use kakehi_channel::{ByteStream, Json, Request, Response, TraceContext};
use kakehi_command::{Command, CommandContent, CommandResponse, Invocation};
use tokio::net::UnixStream;

use crate::{
    Client, Connection, Error, FinalResponse, Outcome, RequestBuilder,
    call::{Call, Verdict},
    error::Kind,
};

/// The error of a request for the command `C`.
pub type CommandError<C> = Error<CommandResponse<C>>;

type Builder<'c, C, S> = RequestBuilder<'c, Request<Invocation<C>>, CommandResponse<C>, Json, S>;

impl<Tx, Rx> Client<Tx, Rx> {
    /// Builds a request for a typed command. `.await` sends it and returns the command's reply.
    ///
    /// Requests for commands of all types share the connections of the client.
    ///
    /// ```no_run
    /// use kakehi_client::Client;
    /// use kakehi_command::Describe;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("/run/app/app.sock").await?;
    /// let description = client.call(Describe).await?;
    /// println!("{} {}", description.name, description.version);
    /// # Ok(()) }
    /// ```
    pub fn call<C: Command>(&self, command: C) -> CommandRequest<'static, C> {
        CommandRequest(self.begin(Request::with_command("", Invocation(command))))
    }
}

impl<Tx, Rx, S> Connection<Tx, Rx, Json, S> {
    /// Begins a request for a typed command: see [`Client::call`].
    pub fn call<C: Command>(&mut self, command: C) -> CommandRequest<'_, C, S> {
        CommandRequest(self.begin(Request::with_command("", Invocation(command))))
    }
}

/// A request for the command `C` before it is sent. Await it for the reply alone, or
/// [`send`](Self::send) it for its progress too.
///
/// # Errors
/// An ERROR is an error with the outcome [`Failed`](Outcome::Failed) or
/// [`Refused`](Outcome::Refused) that holds the command's [`fault`](CommandError::fault). An OK
/// whose content is not the reply has the outcome [`Done`](Outcome::Done). Progress whose content
/// cannot be decoded is skipped.
///
/// # Cancel safety
/// Dropping the future gives the request up and closes its connection.
#[must_use = "nothing is sent before it is awaited or `send` is called"]
pub struct CommandRequest<'c, C: Command, S = UnixStream>(Builder<'c, C, S>);

impl<C: Command, S> CommandRequest<'_, C, S> {
    /// Sets the id that each response carries. Default: a [`unique_id`](crate::unique_id).
    pub fn id(self, id: impl Into<String>) -> Self {
        Self(self.0.id(id))
    }

    /// Sets the trace that the request belongs to: see [`RequestBuilder::trace`].
    pub fn trace(self, trace: impl Into<Option<TraceContext>>) -> Self {
        Self(self.0.trace(trace))
    }

    /// Sets how long to wait for each response: see [`RequestBuilder::timeout`].
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Sets how long to wait for the reply: see [`RequestBuilder::deadline`].
    pub fn deadline(self, deadline: impl Into<Option<Duration>>) -> Self {
        Self(self.0.deadline(deadline))
    }

    /// Allows the client to send the request again: see [`RequestBuilder::idempotent`].
    pub fn idempotent(self) -> Self {
        Self(self.0.idempotent())
    }
}

impl<'c, C: Command, S: ByteStream> CommandRequest<'c, C, S> {
    /// Sends the request, and returns the stream of its events once all of it is written.
    ///
    /// # Errors
    /// See [`RequestBuilder::send`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up. It may have been sent.
    ///
    /// ```no_run
    /// use kakehi_client::{Client, Event};
    /// use kakehi_command::Describe;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("/run/app/app.sock").await?;
    /// let mut events = client.call(Describe).send().await?;
    /// while let Some(event) = events.next().await {
    ///     match event? {
    ///         Event::Progress { message, .. } => println!("... {message}"),
    ///         Event::Done { reply, .. } => println!("{}", reply.name),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn send(self) -> Result<Events<'c, C, S>, CommandError<C>> {
        Ok(Events { call: self.0.send().await?.into_call() })
    }
}

impl<'c, C: Command, S: ByteStream> IntoFuture for CommandRequest<'c, C, S> {
    type Output = Result<C::Reply, CommandError<C>>;
    type IntoFuture = Reply<'c, C, S>;

    fn into_future(self) -> Self::IntoFuture {
        Reply(self.0.into_future())
    }
}

/// The reply to a command, as a future: see [`CommandRequest`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Reply<'c, C: Command, S = UnixStream>(
    FinalResponse<'c, Request<Invocation<C>>, CommandResponse<C>, Json, S>,
);

impl<C: Command, S: ByteStream> Future for Reply<'_, C, S> {
    type Output = Result<C::Reply, CommandError<C>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.get_mut().0).poll(cx))?;
        Poll::Ready(done(response).map(|(_, reply)| reply))
    }
}

/// One event of a request for the command `C`.
pub enum Event<C: Command> {
    /// The command makes progress.
    Progress {
        /// For a person.
        message: String,
        /// The content; `None` if the response has none, or one that cannot be decoded.
        progress: Option<C::Progress>,
    },
    /// The command is done. It is the last event.
    Done {
        /// For a person; often empty.
        message: String,
        /// The content.
        reply: C::Reply,
    },
}

impl<C: Command> fmt::Debug for Event<C>
where
    C::Progress: fmt::Debug,
    C::Reply: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { message, progress } => f
                .debug_struct("Progress")
                .field("message", message)
                .field("progress", progress)
                .finish(),
            Self::Done { message, reply } => {
                f.debug_struct("Done").field("message", message).field("reply", reply).finish()
            }
        }
    }
}

/// The events of one request, as a stream that ends after [`Event::Done`] or an error. After a
/// timeout ([`Error::is_timeout`]) the stream goes on.
///
/// Keep-alives restart the timeout and are skipped.
///
/// # Drop
/// Dropping it before its end closes the connection, and so cancels the request.
#[must_use = "dropping it gives the request up"]
pub struct Events<'c, C: Command, S = UnixStream> {
    call: Call<'c, Request<Invocation<C>>, CommandResponse<C>, Json, S>,
}

impl<C: Command, S: ByteStream> Events<'_, C, S> {
    /// Returns the next event, within the request's timeout; `None` after the last one.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<Result<Event<C>, CommandError<C>>> {
        StreamExt::next(self).await
    }
}

impl<C: Command, S: ByteStream> Stream for Events<'_, C, S> {
    type Item = Result<Event<C>, CommandError<C>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let call = &mut self.get_mut().call;
        call.timers.use_own_timeout();
        let item = ready!(call.poll_shown(cx));
        let is_late = call.timers.is_past_deadline();
        Poll::Ready(item.map(|item| match item? {
            (Verdict::KeepAlive | Verdict::Progress, response) => Ok(progress(response)),
            (Verdict::Final(None), response) => {
                done(response).map(|(message, reply)| Event::Done { message, reply })
            }
            (Verdict::Final(Some(outcome)), response) => {
                Err(Error::from_answer(outcome, response, is_late))
            }
        }))
    }
}

impl<C: Command, S: ByteStream> FusedStream for Events<'_, C, S> {
    fn is_terminated(&self) -> bool {
        self.call.is_over()
    }
}

/// No field is pinned.
impl<C: Command, S> Unpin for Events<'_, C, S> {}

impl<C: Command> Error<CommandResponse<C>> {
    /// The content of the ERROR that the server answered, if there is one that can be decoded.
    #[must_use]
    pub fn fault(&self) -> Option<&C::Fault> {
        match &self.response()?.0.content {
            Some(CommandContent::Fault(fault)) => Some(fault),
            _ => None,
        }
    }
}

fn progress<C: Command>(CommandResponse(response): CommandResponse<C>) -> Event<C> {
    let progress = match response.content {
        Some(CommandContent::Progress(progress)) => Some(progress),
        _ => None,
    };
    Event::Progress { message: response.message, progress }
}

/// The message and the reply of an OK. Its decoder takes no OK without a reply.
fn done<C: Command>(
    CommandResponse(response): CommandResponse<C>,
) -> Result<(String, C::Reply), CommandError<C>> {
    match response {
        Response { message, content: Some(CommandContent::Reply(reply)), .. } => {
            Ok((message, reply))
        }
        response => {
            let error = Error::new(Outcome::Unknown, Kind::UnknownStatus);
            Err(error.with_response(CommandResponse(response)))
        }
    }
}

impl<C: Command, S> fmt::Debug for CommandRequest<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommandRequest").field(&C::NAME).finish()
    }
}

impl<C: Command, S> fmt::Debug for Reply<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&C::NAME).finish()
    }
}

impl<C: Command, S> fmt::Debug for Events<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&C::NAME).field(&self.call).finish()
    }
}
