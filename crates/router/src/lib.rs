//! Routes each typed command to its own handler.
//!
//! A [`Router`] is a handler for [`kakehi_server::serve`]. For each request it finds the command by
//! its name, decodes the arguments, checks the command's guard, and calls the command's handler. The
//! crate `kakehi` re-exports it together with `#[derive(Command)]`.

mod content;
mod control;
mod describe;
mod format;
mod guard;
mod job;
mod result;
mod route;

use std::{borrow::Cow, fmt, sync::Arc};

use kakehi_channel::{Refusal, Request};
use kakehi_command::{Called as Named, Command, Describe};
use kakehi_server::{Answer, AnyContent, Context, Failure, Handler, IntoFault};
use serde::Deserialize;

pub use self::{
    content::AnyReply,
    format::Routes,
    guard::{Guard, Later, Now},
    job::Call,
    result::IntoReply,
    route::Called,
};
use self::{
    guard::{Permission, permission},
    job::Working,
    route::{MAX_NAME, Route, Table, Typed},
};

/// Answers typed commands, each by its own handler. It is a [`Handler`] for [`serve`](kakehi_server::serve).
///
/// A handler is an `async fn` or a closure that takes the state, the command and the
/// [`Context`] of the command's progress. It returns the command's reply, or an [`Answer`] with a
/// message and the reply. Its error is a [`Failure`] or anything that implements `Display`. The
/// router clones a closure for each request: keep shared state in an `Arc`.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use kakehi_channel::{Request, Response};
/// use kakehi_command::{Command, Invocation};
/// use kakehi_router::Router;
/// use kakehi_server::{Context, Failure, Limits, Peer, serve_stream};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add {
///     number: u64,
/// }
///
/// impl Command for Add {
///     const NAME: &'static str = "add";
///     type Progress = ();
///     type Reply = u64;
///     type Fault = ();
/// }
///
/// async fn add(sum: Arc<AtomicU64>, add: Add, _: Context<()>) -> Result<u64, Failure> {
///     Ok(sum.fetch_add(add.number, Ordering::Relaxed) + add.number)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use kakehi_channel::{Channel, Json};
/// let router = Router::new(Arc::new(AtomicU64::new(1))).command(add);
/// let (ours, theirs) = tokio::io::duplex(1024);
/// tokio::spawn(serve_stream(ours, Peer::own(), router, Limits::default()));
///
/// let mut channel = Channel::<_, Response<u64>, Json, _>::new(theirs);
/// channel.send(Request::with_command("ID-1", Invocation(Add { number: 2 }))).await?;
/// assert_eq!(channel.next().await.expect("a response")?.content, Some(3));
/// # Ok(()) }
/// ```
///
/// # Refusals
/// - A command that is not in the table is refused with [`Refusal::Unsupported`].
/// - Arguments that do not match the command's type are refused with [`Refusal::Malformed`]. The
///   message names the command and the field.
/// - If a guard returns an error, the request is refused with [`Refusal::Denied`], unless the error
///   is a [`Failure`] with another refusal.
///
/// Every router answers [`Describe`] with its name, version and commands.
#[must_use = "a router answers nothing before it is served"]
pub struct Router<S> {
    state: S,
    table: Arc<Table<S>>,
    name: String,
    version: String,
    /// The guard of the requests of other users. `None`: the control commands are refused.
    control: Option<Permission>,
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// A router without commands. Each request gets a clone of `state`.
    pub fn new(state: S) -> Self {
        let table = Arc::new(Table::default());
        Self { state, table, name: String::new(), version: String::new(), control: None }
    }

    /// Adds a command and its handler.
    ///
    /// # Panics
    /// If there is a command of this name already, or if the name is not valid.
    pub fn command<C, H, Fut, T, E>(self, handler: H) -> Self
    where
        C: Command,
        H: FnOnce(S, C, Context<C::Progress>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoReply<C::Reply>,
        E: IntoFault<C::Fault>,
    {
        self.add(C::NAME, Box::new(Typed::new(handler, None)))
    }

    /// Adds a command, its handler, and a guard that decides whether a peer may run it.
    ///
    /// The guard is a function or a closure that takes the [`Peer`](kakehi_server::Peer) and returns
    /// `Result<(), E>`, or a future of it. It runs before the handler, inside of the request's
    /// deadline, and when the server describes itself.
    ///
    /// ```
    /// use kakehi_command::Command;
    /// use kakehi_router::Router;
    /// use kakehi_server::{Context, Peer};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Purge;
    /// # impl Command for Purge {
    /// #     const NAME: &'static str = "purge";
    /// #     const UNIT: bool = true;
    /// #     type Progress = ();
    /// #     type Reply = ();
    /// #     type Fault = ();
    /// # }
    ///
    /// fn root(peer: Peer) -> Result<(), String> {
    ///     match peer.uid {
    ///         0 => Ok(()),
    ///         uid => Err(format!("uid {uid} is not root")),
    ///     }
    /// }
    ///
    /// async fn purge(_: (), _: Purge, _: Context<()>) -> Result<(), String> {
    ///     Ok(())
    /// }
    ///
    /// let router = Router::new(()).command_if(root, purge);
    /// # let _ = router;
    /// ```
    ///
    /// # Panics
    /// If there is a command of this name already, or if the name is not valid.
    pub fn command_if<M, G, C, H, Fut, T, E>(self, guard: G, handler: H) -> Self
    where
        G: Guard<M>,
        C: Command,
        H: FnOnce(S, C, Context<C::Progress>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoReply<C::Reply>,
        E: IntoFault<C::Fault>,
    {
        self.add(C::NAME, Box::new(Typed::new(handler, Some(permission(guard)))))
    }

    /// Sets the name and the version in the server's description.
    pub fn describe(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        (self.name, self.version) = (name.into(), version.into());
        self
    }

    /// Answers the commands of [`kakehi_command::control`], `kakehi.running`, `kakehi.cancel` and
    /// `kakehi.attach`: each caller may list, cancel and follow its own running requests. Default: the
    /// server refuses these commands.
    ///
    /// A caller that `others` admits may do so for the requests of all users.
    ///
    /// ```
    /// use kakehi_router::Router;
    /// use kakehi_server::Peer;
    ///
    /// fn root(peer: Peer) -> Result<(), &'static str> {
    ///     if peer.uid == 0 { Ok(()) } else { Err("only root may see the requests of others") }
    /// }
    ///
    /// let router = Router::new(()).control(root);
    /// # let _ = router;
    /// ```
    pub fn control<M>(mut self, others: impl Guard<M>) -> Self {
        self.control = Some(permission(others));
        self
    }

    fn add(mut self, name: &'static str, route: Box<dyn Route<S>>) -> Self {
        assert!(is_valid(name), "{name:?} is not a valid name of a command");
        // No clone of the table exists before the router is served.
        let table = Arc::get_mut(&mut self.table);
        let is_new = table.is_some_and(|table| table.add(name, route));
        assert!(is_new, "there is a command {name:?} already");
        self
    }
}

fn is_valid(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-.".contains(&c);
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with("kakehi.")
}

impl<S: Clone + Send + Sync + 'static> Handler<Called<S>, Routes<S>> for Router<S> {
    type Answer = Answer<AnyReply>;
    type Error = Failure<AnyReply>;

    fn handle(
        &self,
        request: Request<Called<S>>,
        context: Context<AnyContent, Routes<S>>,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send {
        let call = match request.command {
            Some(Called::Known(call)) => call,
            Some(Called::Unknown(name)) => {
                unsupported(format!("there is no command `{}`", name.escape_debug()))
            }
            None => unsupported("the request names no command".to_owned()),
        };
        Working::new(call, self.state.clone(), context.retyped())
    }

    fn format(&self) -> Routes<S> {
        Routes::new(Arc::clone(&self.table))
    }

    fn describe(&self, request: &Request<Called<S>>) -> Cow<'static, str> {
        match &request.command {
            Some(Called::Known(call)) => Cow::Borrowed(call.name()),
            Some(Called::Unknown(name)) => Cow::Owned(name.clone()),
            None => Cow::Borrowed(""),
        }
    }

    async fn reserved(
        &self,
        request: Request,
        context: Context<AnyContent, Routes<S>>,
    ) -> Result<Option<Self::Answer>, Self::Error> {
        let Some(command) = request.command else { return Ok(None) };
        let Ok(Named(name)) = Named::deserialize(&command) else { return Ok(None) };
        if name == Describe::NAME {
            let (name, version) = (self.name.clone(), self.version.clone());
            return describe::answer(&self.table, name, version, &context.retyped())
                .await
                .map(Some);
        }
        let Some(others) = &self.control else { return Ok(None) };
        control::answer(&name, &command, others, context.retyped()).await.transpose()
    }
}

#[cold]
fn unsupported<S: 'static>(message: String) -> Call<S> {
    Call::refused(message, Refusal::Unsupported)
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("commands", &self.table)
            .finish_non_exhaustive()
    }
}
