//! What a daemon does with a request.

use kakehi_channel::{Json, Request};

use crate::{Content, Context, IntoAnswer, IntoFailure};

/// Answers requests whose command is a `C`, on the wire `F`. Implemented by types, and by async
/// closures that capture nothing. A closure with state of its own gives each request a part of it:
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use kakehi_channel::Request;
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
///
/// let count = Arc::new(AtomicU64::new(0));
/// let handler = move |_: Request<String>, _: Context| {
///     let count = Arc::clone(&count);
///     async move { Ok::<_, String>(format!("request {}", count.fetch_add(1, Ordering::Relaxed))) }
/// };
/// # let (ours, _) = tokio::io::duplex(1);
/// # drop(serve_stream::<String, _, kakehi_channel::Json, _>(ours, Peer::own(), handler, Limits::default()));
/// ```
///
/// **Returning is answering**: `Ok` becomes the final OK, `Err` the final ERROR, a panic an ERROR
/// that does not tell its text. On the way, [`Context::progress`] sends PROCESSING. So neither no
/// final answer nor two can be written.
///
/// The future is polled inside the connection's own task: what it has sent goes out each time it
/// waits. It is dropped when its request is cancelled: because the client left, the deadline
/// passed, or the server is ending. A handler that must clean up takes
/// [`Context::cancellation`] and is given time for it.
///
/// ```
/// use kakehi_channel::{Json, Request};
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
///         match request.command.ok_or("a command is missing")? {
///             Command::Reload => {
///                 context.progress("reading the configuration").await?;
///                 Ok("reloaded".into())
///             }
///             Command::Echo(text) => Ok(text),
///         }
///     }
/// }
/// ```
pub trait Handler<C, F = Json>: Send + Sync + 'static {
    /// What OK carries.
    type Answer: IntoAnswer<Content: Content<F>> + Send;
    /// What ERROR carries.
    type Error: IntoFailure<Content: Content<F>> + Send;

    /// Does what is asked for.
    fn handle(
        &self,
        request: Request<C>,
        context: Context<F>,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;

    /// What the log calls this request; asked only if it is logged. Leave secrets out.
    ///
    /// ```
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
    ///     fn describe(&self, request: &Request<String>) -> String {
    ///         request.command.clone().unwrap_or_default()
    ///     }
    /// }
    ///
    /// let request = Request::with_command("ID-1", "reload".to_owned());
    /// assert_eq!(Daemon.describe(&request), "reload");
    /// ```
    fn describe(&self, request: &Request<C>) -> String {
        let _ = request;
        String::new()
    }
}

impl<C, F, H, Fut, A, E> Handler<C, F> for H
where
    H: Fn(Request<C>, Context<F>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<A, E>> + Send,
    A: IntoAnswer<Content: Content<F>> + Send,
    E: IntoFailure<Content: Content<F>> + Send,
{
    type Answer = A;
    type Error = E;

    fn handle(
        &self,
        request: Request<C>,
        context: Context<F>,
    ) -> impl Future<Output = Result<A, E>> + Send {
        self(request, context)
    }
}
