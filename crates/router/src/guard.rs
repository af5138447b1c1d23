//! Guards decide whether a peer may run a command.

use std::{pin::Pin, sync::Arc};

use kakehi_channel::Refusal;
use kakehi_server::{Failure, IntoFailure, Peer};

/// Decides whether a peer may run a command: a function of the [`Peer`] that returns
/// `Result<(), E>`, or a future of it. `E` is a [`Failure`], or anything that implements `Display`.
///
/// A peer has only its primary group. To decide by its other groups, look them up by the name of
/// its user.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a guard",
    label = "not a guard",
    note = "a guard is a `fn(Peer) -> Result<(), E>` or an `async fn(Peer) -> Result<(), E>`"
)]
pub trait Guard<M>: Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    /// Why the peer may not.
    fn check(&self, peer: Peer) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Marks a guard that decides at once.
#[derive(Clone, Copy, Debug)]
pub enum Now {}

/// Marks a guard whose decision is awaited.
#[derive(Clone, Copy, Debug)]
pub enum Later {}

impl<G, E> Guard<Now> for G
where
    G: Fn(Peer) -> Result<(), E> + Send + Sync + 'static,
    E: IntoFailure<Content = ()>,
{
    fn check(&self, peer: Peer) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(self(peer).map_err(denied))
    }
}

impl<G, Fut, E> Guard<Later> for G
where
    G: Fn(Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: IntoFailure<Content = ()>,
{
    fn check(&self, peer: Peer) -> impl Future<Output = Result<(), Failure>> + Send {
        let decision = self(peer);
        async move { decision.await.map_err(denied) }
    }
}

fn denied(error: impl IntoFailure<Content = ()>) -> Failure {
    let mut failure = error.into_failure();
    failure.refused.get_or_insert(Refusal::Denied);
    failure
}

/// A guard of whatever type. Only guarded commands pay for the box.
pub(super) type Permission = Arc<dyn Fn(Peer) -> Decision + Send + Sync>;

pub(super) type Decision = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

pub(super) fn permission<M>(guard: impl Guard<M>) -> Permission {
    let guard = Arc::new(guard);
    Arc::new(move |peer| {
        let guard = Arc::clone(&guard);
        Box::pin(async move { guard.check(peer).await })
    })
}
