//! `Handler`: the trait that answers requests.

use std::borrow::Cow;

use kakehi_channel::{Json, Request};

use crate::{AnyContent, Content, Context, IntoAnswer, IntoFailure};

/// Answers requests with a command of type `C`, in the protocol `F` (default: [`Json`]).
///
/// An async function or closure is a handler. So is a type that implements this trait.
///
/// The result becomes the final response: `Ok` becomes OK, `Err` becomes ERROR. A panic becomes an
/// ERROR without the panic's text. [`Context::progress`] sends progress responses before that. So
/// a handler cannot forget the final response, and cannot send two.
///
/// # State
/// The server clones a closure for each request. A closure therefore owns what it captures, and may
/// move it into an `async move` block. Keep shared state in an [`Arc`](std::sync::Arc):
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use kakehi_channel::Request;
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
///
/// let count = Arc::new(AtomicU64::new(0));
/// let handler = async move |_: Request<String>, _: Context| {
///     Ok::<_, String>(format!("request {}", count.fetch_add(1, Ordering::Relaxed)))
/// };
/// # let (stream, _) = tokio::io::duplex(1);
/// let serving = serve_stream(stream, Peer::own(), handler, Limits::default());
/// # drop(serving);
/// ```
///
/// # Cancellation
/// The future is polled inside the connection's task. The server drops it at its current `.await`
/// when the client disconnects, the deadline passes or the server shuts down. A handler that must
/// clean up first takes [`Context::cancellation`].
///
/// # Example
/// ```
/// use kakehi_channel::Request;
/// use kakehi_server::{Context, Handler};
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum Command {
///     Reload,
///     Echo(String),
/// }
///
/// struct Daemon;
///
/// impl Handler<Command> for Daemon {
///     type Answer = String;
///     type Error = Box<dyn std::error::Error + Send + Sync>;
///
///     async fn handle(
///         &self,
///         request: Request<Command>,
///         context: Context,
///     ) -> Result<String, Self::Error> {
///         match request.command.ok_or("the command is missing")? {
///             Command::Reload => {
///                 context.progress("reading the configuration").await?;
///                 Ok("reloaded".into())
///             }
///             Command::Echo(text) => Ok(text),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of requests with the command `{C}`",
    label = "not a handler",
    note = "a handler is `async |request: Request<{C}>, context: Context| {{ .. }}`, or a type that \
            implements `Handler<{C}>`",
    note = "the server clones a closure for each request: keep shared state in an `Arc`"
)]
pub trait Handler<C, F = Json>: Send + Sync + 'static {
    /// The content of the OK response.
    type Answer: IntoAnswer<Content: Content<F>> + Send;
    /// The content of the ERROR response.
    type Error: IntoFailure<Content: Content<F>> + Send;

    /// Answers one request.
    ///
    /// # Cancel safety
    /// The server may drop the future at any `.await`. See [`Context::cancellation`] and
    /// [`Context::detach_from_client`].
    fn handle(
        &self,
        request: Request<C>,
        context: Context<AnyContent, F>,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;

    /// The format of a new connection. Default: `F::default()`.
    fn format(&self) -> F
    where
        F: Default,
    {
        F::default()
    }

    /// The name of the request's command, for the log and for the list of running requests. Leave
    /// secrets out. Default: empty.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use kakehi_channel::Request;
    /// use kakehi_server::{Context, Handler};
    ///
    /// struct Daemon;
    ///
    /// impl Handler<String> for Daemon {
    ///     type Answer = ();
    ///     type Error = String;
    ///
    ///     async fn handle(&self, _: Request<String>, _: Context) -> Result<(), String> {
    ///         Ok(())
    ///     }
    ///
    ///     fn describe(&self, request: &Request<String>) -> Cow<'static, str> {
    ///         request.command.clone().unwrap_or_default().into()
    ///     }
    /// }
    ///
    /// let request = Request::with_command("ID-1", "reload".to_owned());
    /// assert_eq!(Daemon.describe(&request), "reload");
    /// ```
    fn describe(&self, request: &Request<C>) -> Cow<'static, str> {
        let _ = request;
        Cow::Borrowed("")
    }

    /// Answers a request whose command has a reserved name, which starts with `kakehi.`:
    /// [`handle`](Self::handle) gets none of them.
    ///
    /// `None`, the default, leaves it to the server. The server answers `kakehi.describe` with OK
    /// without a content, which means that it does not list its commands. It refuses other reserved
    /// names as [`Unsupported`](kakehi_channel::Refusal::Unsupported).
    ///
    /// # Cancel safety
    /// As [`handle`](Self::handle).
    ///
    /// ```
    /// use kakehi_channel::Request;
    /// use kakehi_server::{Answer, Context, Handler};
    /// use serde_json::{Value, json};
    ///
    /// struct Daemon;
    ///
    /// impl Handler<String> for Daemon {
    ///     type Answer = Answer<Value>;
    ///     type Error = String;
    ///
    ///     async fn handle(&self, _: Request<String>, _: Context) -> Result<Self::Answer, String> {
    ///         Err("no such command".to_owned())
    ///     }
    ///
    ///     async fn reserved(&self, request: Request, _: Context) -> Result<Option<Self::Answer>, String> {
    ///         if request.command != Some("kakehi.describe".into()) {
    ///             return Ok(None);
    ///         }
    ///         let content = json!({ "name": "d", "version": "1.0", "commands": [] });
    ///         Ok(Some(Answer::new("no commands").with_content(content)))
    ///     }
    /// }
    /// ```
    fn reserved(
        &self,
        request: Request,
        context: Context<AnyContent, F>,
    ) -> impl Future<Output = Result<Option<Self::Answer>, Self::Error>> + Send {
        let _ = (request, context);
        std::future::ready(Ok(None))
    }
}

// `FnOnce + Clone` rather than `Fn`: the future of an `Fn` cannot own what the closure captures.
impl<C, F, H, Fut, A, E> Handler<C, F> for H
where
    H: FnOnce(Request<C>, Context<AnyContent, F>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, E>> + Send,
    A: IntoAnswer<Content: Content<F>> + Send,
    E: IntoFailure<Content: Content<F>> + Send,
{
    type Answer = A;
    type Error = E;

    fn handle(
        &self,
        request: Request<C>,
        context: Context<AnyContent, F>,
    ) -> impl Future<Output = Result<A, E>> + Send {
        self.clone()(request, context)
    }
}
