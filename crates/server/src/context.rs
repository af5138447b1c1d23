//! What a handler has besides its request.

use std::{fmt, future::poll_fn, marker::PhantomData, sync::Arc, time::Duration};

use kakehi_channel::{Error, Json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Content, Peer, outbox::Outbox};

/// A request's surroundings: where progress goes, who asks, and when to stop.
///
/// Clones may go to other tasks. Once the request has its final answer, what they send goes
/// nowhere. It is of the wire `F`: Kakehi's own, unless a handler names another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kakehi_channel::{Channel, Json, Request, Response};
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
///
/// async fn handle(_: Request, context: Context) -> Result<String, kakehi_channel::Error> {
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
pub struct Context<F = Json> {
    outbox: Arc<Outbox>,
    /// Which of the connection's requests this belongs to.
    serial: u64,
    deadline: Option<Instant>,
    wire: PhantomData<fn() -> F>,
}

impl<F: Default> Context<F> {
    pub(crate) fn new(outbox: Arc<Outbox>, serial: u64, deadline: Option<Instant>) -> Self {
        Self { outbox, serial, deadline, wire: PhantomData }
    }

    /// Sends progress: a PROCESSING with `message`. It goes out as soon as the handler waits for
    /// something; a handler that does not wait has its messages gathered. While too much waits for
    /// the client to read, this waits too.
    ///
    /// # Errors
    /// When the message is over the limit on responses. To a client that has left, or after the
    /// final answer, it is `Ok`, and nothing is sent.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it has not sent the message.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), kakehi_channel::Error> {
    ///     for step in 1..=3 {
    ///         context.progress(format!("step {step} of 3")).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn progress(&self, message: impl AsRef<str>) -> Result<(), Error>
    where
        (): Content<F>,
    {
        self.send(message.as_ref(), None::<&()>).await
    }

    /// Sends progress with content for a program. By convention, `done` and `total` in it let a
    /// command line draw a bar.
    ///
    /// # Errors
    /// As [`progress`](Self::progress), and when the content cannot be written on this wire.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it has not sent the message.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    /// use serde_json::json;
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), kakehi_channel::Error> {
    ///     context.progress_with("copying", &json!({ "done": 3, "total": 10 })).await
    /// }
    /// ```
    pub async fn progress_with<T: Content<F> + ?Sized>(
        &self,
        message: impl AsRef<str>,
        content: &T,
    ) -> Result<(), Error> {
        self.send(message.as_ref(), Some(content)).await
    }

    /// Who asks.
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
        self.outbox.peer
    }

    /// How long the client, or the server's own ceiling, still gives; `None`: without limit. Never
    /// zero, not even once it has passed: where it is handed on, as by
    /// `client.request(..).deadline(context.remaining())`, zero would mean without limit.
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

    /// Is cancelled when the request is: because the client left, the deadline passed or the
    /// server is ending.
    ///
    /// A handler that never calls this is simply dropped then. One that does is told by the token
    /// and has [`cleanup_time`](crate::Limits::cleanup_time) to end by itself. Its client has its
    /// ERROR at once: what the handler sends or returns from then on goes nowhere.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn copy() {}
    /// async fn remove_what_was_copied() {}
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), String> {
    ///     let cancelled = context.cancellation();
    ///     if cancelled.run_until_cancelled(copy()).await.is_none() {
    ///         remove_what_was_copied().await;
    ///         return Err("cancelled".into());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.outbox.cancellation(self.serial)
    }

    /// Is cancelled once the server begins to end, and drains: running requests may go on for
    /// [`Serve::drain`](crate::Serve::drain), then they are cancelled. A handler that would go on
    /// for ever, as one that follows something, ends here with an answer of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    /// use tokio::time::sleep;
    ///
    /// async fn follow(_: Request, context: Context) -> Result<&'static str, kakehi_channel::Error> {
    ///     let draining = context.draining();
    ///     while draining.run_until_cancelled(sleep(Duration::from_secs(1))).await.is_some() {
    ///         context.progress("tick").await?;
    ///     }
    ///     Ok("the server is ending")
    /// }
    /// ```
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        // Of its own: who cancels it does not end the server.
        self.outbox.ending.child_token()
    }

    /// From here on, the request is carried to its end even if the client leaves.
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::Context;
    ///
    /// async fn install() {}
    ///
    /// async fn handle(_: Request, context: Context) -> Result<(), String> {
    ///     context.outlive_client(); // half of it would be worse than none
    ///     install().await;
    ///     Ok(())
    /// }
    /// ```
    pub fn outlive_client(&self) {
        self.outbox.outlive_client(self.serial);
    }

    async fn send<T: Content<F> + ?Sized>(
        &self,
        message: &str,
        content: Option<&T>,
    ) -> Result<(), Error> {
        let sent = poll_fn(|cx| self.outbox.poll_push::<F, T>(self.serial, message, content, cx));
        if let Some(sent) = sent.await {
            return sent;
        }
        // Nobody holds up a handler that speaks to nobody: it is not to hold up others.
        tokio::task::coop::consume_budget().await;
        Ok(())
    }
}

impl<F> Clone for Context<F> {
    fn clone(&self) -> Self {
        let Self { outbox, serial, deadline, wire } = self;
        Self { outbox: Arc::clone(outbox), serial: *serial, deadline: *deadline, wire: *wire }
    }
}

impl<F> fmt::Debug for Context<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("peer", &self.outbox.peer)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
