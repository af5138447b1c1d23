//! `Context`: progress, the peer, the deadline and the cancellation of a request.

use std::{fmt, future::poll_fn, marker::PhantomData, sync::Arc, time::Duration};

use kakehi_channel::{ChannelError, Json, TraceContext};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Content, Handle, Peer, outbox::Outbox};

/// The context of a running request: sends progress, and has the peer, the deadline and the
/// cancellation.
///
/// Other tasks can have clones. After the final response, progress from a clone is discarded. `P` is
/// the type of the progress content: any, or that of one typed command. `F` is
/// the format (default: [`Json`]).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kakehi_channel::{Channel, Json, Request, Response};
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
///
/// async fn handle(_: Request, context: Context) -> Result<String, kakehi_channel::ChannelError> {
///     context.progress("looking").await?;
///     Ok(format!("hello, process {:?}", context.peer().pid))
/// }
///
/// let (ours, theirs) = tokio::io::duplex(1024);
/// tokio::spawn(serve_stream(ours, Peer::own(), handle, Limits::default()));
/// let mut channel = Channel::<Request, Response, Json, _>::new(theirs);
/// channel.send(Request::new("ID-1")).await?;
/// assert_eq!(channel.next().await.expect("progress")?.message, "looking");
/// assert!(channel.next().await.expect("an answer")?.message.starts_with("hello"));
/// # Ok(()) }
/// ```
pub struct Context<P = AnyContent, F = Json> {
    outbox: Arc<Outbox>,
    /// Separates this request from later ones on the connection.
    number: u64,
    deadline: Option<Instant>,
    trace: Option<TraceContext>,
    types: PhantomData<fn(P) -> F>,
}

impl<P, F> Context<P, F> {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        number: u64,
        deadline: Option<Instant>,
        trace: Option<TraceContext>,
    ) -> Self {
        Self { outbox, number, deadline, trace, types: PhantomData }
    }

    /// Returns the context of the same request with other types. `G` must write the same frames as
    /// `F`.
    #[must_use]
    pub fn retyped<Q, G>(self) -> Context<Q, G> {
        let Self { outbox, number, deadline, trace, types: _ } = self;
        Context { outbox, number, deadline, trace, types: PhantomData }
    }
}

impl<P, F: Default> Context<P, F> {
    /// Sends a progress response with `message`. Progress is flushed whenever the handler's future is
    /// pending, and gathered until then. Waits while the client does not read and the outbox is full.
    ///
    /// # Errors
    /// The message is larger than [`Limits::response_bytes`](crate::Limits::response_bytes). If the
    /// client has disconnected or the request has its final response, the result is `Ok` and nothing
    /// is sent.
    ///
    /// # Cancel safety
    /// Cancel safe: a future that is dropped while pending has sent nothing.
    pub async fn progress(&self, message: impl AsRef<str>) -> Result<(), ChannelError>
    where
        (): Content<F>,
    {
        self.send(message.as_ref(), None::<&()>).await
    }

    /// Sends a progress response with content for programs. By convention, a client draws a progress
    /// bar from the fields `done` and `total`.
    ///
    /// # Errors
    /// Those of [`progress`](Self::progress). Or the content cannot be encoded in this format.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`progress`](Self::progress).
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    /// use serde_json::json;
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), kakehi_channel::ChannelError> {
    ///     context.progress("reading the list").await?;
    ///     for done in 0..10 {
    ///         context.progress_with("copying", &json!({ "done": done, "total": 10 })).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn progress_with<T>(
        &self,
        message: impl AsRef<str>,
        content: &T,
    ) -> Result<(), ChannelError>
    where
        T: Content<F> + ?Sized,
        P: Carries<T>,
    {
        self.send(message.as_ref(), Some(content)).await
    }

    /// The client's process or identity.
    ///
    /// ```
    /// use kakehi_channel::{Refusal, Request};
    /// use kakehi_server::{Context, Failure};
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), Failure> {
    ///     match context.peer().uid {
    ///         0 => Ok(()),
    ///         uid => Err(Failure::refused(Refusal::Denied, format!("uid {uid} may not do this"))),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.outbox.peer.clone()
    }

    /// The time until the deadline of the client or of
    /// [`Limits::max_deadline`](crate::Limits::max_deadline). `None`: no deadline. At least 1 ms, also
    /// after the deadline, because 0 means "no deadline" in a request to another server.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn handle(_: Request, context: Context) -> Result<&'static str, String> {
    ///     match context.remaining() {
    ///         Some(left) if left < Duration::from_secs(1) => Err("that takes a second".into()),
    ///         _ => Ok("done"),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        const LEAST: Duration = Duration::from_millis(1);
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()).max(LEAST))
    }

    /// The trace that the request belongs to, for requests to other servers and for the environment
    /// of processes. `None`: the client sent none, or a malformed one.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    /// use std::process::Command;
    ///
    /// async fn run(_: Request, context: Context) -> std::io::Result<()> {
    ///     let mut command = Command::new("true");
    ///     if let Some(trace) = context.trace() {
    ///         command.env("TRACEPARENT", trace.traceparent());
    ///     }
    ///     command.spawn().map(drop)
    /// }
    /// ```
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// Returns a token that is cancelled with the request: the client disconnected, the deadline
    /// passed, or the server shuts down.
    ///
    /// If a handler never calls this, its future is dropped at that time. If it does, it has
    /// [`cleanup_time`](crate::Limits::cleanup_time) to return. The client gets its ERROR at once, and
    /// the handler's later progress and result are discarded.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn copy() {}
    /// async fn remove_partial_copy() {}
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), String> {
    ///     let cancelled = context.cancellation();
    ///     if cancelled.run_until_cancelled(copy()).await.is_none() {
    ///         remove_partial_copy().await;
    ///         return Err("cancelled".into());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.outbox.cancellation(self.number)
    }

    /// The run id of this request: see [`RunningRequest::run`](crate::RunningRequest::run).
    #[must_use]
    pub fn run_id(&self) -> String {
        self.outbox.run_id(self.number).to_string()
    }

    /// The handle on the server: its counters and its running requests.
    #[must_use]
    pub fn server(&self) -> Handle {
        Handle { shared: Arc::clone(&self.outbox.shared) }
    }

    /// Lets the request continue if the client disconnects. The deadline still applies.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn install() {}
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), String> {
    ///     context.detach_from_client(); // a partial installation would be useless
    ///     install().await;
    ///     Ok(())
    /// }
    /// ```
    pub fn detach_from_client(&self) {
        self.outbox.detach_from_client(self.number);
    }

    /// Sets how long the client may read no response of this request before it counts as
    /// disconnected. Default: [`Limits::write_time`](crate::Limits::write_time). [`Duration::MAX`]: no
    /// limit. The time applies from the next write that has to wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn log(_: Request, context: Context) -> Result<(), kakehi_channel::ChannelError> {
    ///     context.set_write_time(Duration::MAX); // a pager may stop the client for hours
    ///     context.progress("a line").await
    /// }
    /// ```
    pub fn set_write_time(&self, time: Duration) {
        self.outbox.set_write_time(self.number, time);
    }

    async fn send<T: Content<F> + ?Sized>(
        &self,
        message: &str,
        content: Option<&T>,
    ) -> Result<(), ChannelError> {
        let sent = poll_fn(|cx| self.outbox.poll_push::<F, T>(self.number, message, content, cx));
        if let Some(sent) = sent.await {
            return sent;
        }
        // Without a client there is no backpressure, so yield to other tasks.
        tokio::task::coop::consume_budget().await;
        Ok(())
    }
}

/// The progress type of a handler without a typed command: any content.
#[derive(Clone, Copy, Debug)]
pub enum AnyContent {}

/// The progress type `Self` allows content of type `T`. [`AnyContent`] allows every type, another
/// type only itself.
#[diagnostic::on_unimplemented(
    message = "the progress of this command is `{Self}`, not `{T}`",
    label = "expected `&{Self}`",
    note = "`#[command(progress = ..)]` sets the type"
)]
pub trait Carries<T: ?Sized> {}

impl<T: ?Sized> Carries<T> for AnyContent {}

impl<P: Serialize> Carries<P> for P {}

impl<P, F> Clone for Context<P, F> {
    fn clone(&self) -> Self {
        let Self { outbox, number, deadline, trace, types } = self;
        let (outbox, trace) = (Arc::clone(outbox), trace.clone());
        Self { outbox, number: *number, deadline: *deadline, trace, types: *types }
    }
}

impl<P, F> fmt::Debug for Context<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("peer", &self.outbox.peer)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
