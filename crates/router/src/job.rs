//! One request for a typed command: its arguments, its handler's future and its result, all in one
//! allocation, since only the table knows their types.

use std::{
    any::TypeId,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
};

use kakehi_channel::{ChannelError, Json, Refusal, Response, low_level::Buffer};
use kakehi_command::Command;
use kakehi_server::{Answer, Context, Failure, IntoFault};
use pin_project_lite::pin_project;

use crate::{
    AnyReply, IntoReply,
    content::{Content, with_content},
    guard::{Decision, Permission},
};

/// A decoded command that waits to be run.
pub struct Call<S>(Pin<Box<dyn Run<S>>>);

impl<S> fmt::Debug for Call<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.0.name()).finish()
    }
}

impl<S> Call<S> {
    #[inline]
    pub(super) fn new<C, H, Fut, T, E>(command: C, handler: H, guard: Option<&Permission>) -> Self
    where
        C: Command,
        H: FnOnce(S, C, Context<C::Progress>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoReply<C::Reply>,
        E: IntoFault<C::Fault>,
        S: Send + 'static,
    {
        let job = Box::pin(Job::Asked { handler, command });
        match guard {
            None => Self(job),
            Some(guard) => Self(Guarded::boxed(job, Arc::clone(guard))),
        }
    }

    /// A command that is refused instead of run.
    pub(super) fn refused(message: String, why: Refusal) -> Self
    where
        S: 'static,
    {
        Self(Box::pin(Refused { message, why }))
    }

    pub(super) fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// The work of a handler.
pub(super) struct Working<S> {
    /// `None`: it has ended.
    job: Option<Pin<Box<dyn Run<S>>>>,
    /// The state and the context, until the handler is called. The context is retyped to the command's
    /// own progress.
    input: Option<(S, Context<()>)>,
}

impl<S> Working<S> {
    #[inline]
    pub(super) fn new(Call(job): Call<S>, state: S, context: Context<()>) -> Self {
        Self { job: Some(job), input: Some((state, context)) }
    }
}

/// No field is pinned.
impl<S> Unpin for Working<S> {}

impl<S: 'static> Future for Working<S> {
    type Output = Result<Answer<AnyReply>, Failure<AnyReply>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Self::Output> {
        let Self { job, input } = &mut *self;
        let Some(running) = job else { return Poll::Pending };
        let ended = ready!(running.as_mut().poll(input, cx));
        // The job encodes its content, if it has one.
        let content = job.take().map(|job| AnyReply::of_job(job));
        Poll::Ready(match ended {
            Ok(message) => Ok(Answer { message, content }),
            Err((message, refused)) => Err(Failure { message, content, refused }),
        })
    }
}

/// How a job ended: the message, and the reason of a refusal. Its content stays in the job.
type Ended = Result<String, (String, Option<Refusal>)>;

trait Run<S>: Content {
    fn name(&self) -> &'static str;

    /// Takes the input when it calls the handler.
    fn poll(
        self: Pin<&mut Self>,
        input: &mut Option<(S, Context<()>)>,
        cx: &mut Task<'_>,
    ) -> Poll<Ended>;
}

pin_project! {
    #[project = JobPhase]
    #[project_replace = JobBefore]
    enum Job<C, H, Fut>
    where
        C: Command,
    {
        Asked { handler: H, command: C },
        Working { #[pin] work: Fut },
        Replied { reply: C::Reply },
        Failed { fault: C::Fault },
        Over,
    }
}

impl<S, C, H, Fut, T, E> Run<S> for Job<C, H, Fut>
where
    S: Send + 'static,
    C: Command,
    H: FnOnce(S, C, Context<C::Progress>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: IntoReply<C::Reply>,
    E: IntoFault<C::Fault>,
{
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn poll(
        mut self: Pin<&mut Self>,
        input: &mut Option<(S, Context<()>)>,
        cx: &mut Task<'_>,
    ) -> Poll<Ended> {
        if matches!(*self, Self::Asked { .. })
            && let JobBefore::Asked { handler, command } = self.as_mut().project_replace(Self::Over)
            && let Some((state, context)) = input.take()
        {
            self.set(Self::Working { work: handler(state, command, context.retyped()) });
        }
        let JobPhase::Working { work } = self.as_mut().project() else { return Poll::Pending };
        let result = ready!(work.poll(cx));
        Poll::Ready(self.end(result))
    }
}

impl<C: Command, H, Fut> Job<C, H, Fut> {
    #[inline]
    fn end<T, E>(mut self: Pin<&mut Self>, result: Result<T, E>) -> Ended
    where
        T: IntoReply<C::Reply>,
        E: IntoFault<C::Fault>,
    {
        match result {
            Ok(reply) => {
                let Answer { message, content } = reply.into_reply();
                self.set(content.map_or(Self::Over, |reply| Self::Replied { reply }));
                Ok(message)
            }
            Err(error) => {
                let Failure { message, content, refused } = error.into_fault();
                self.set(content.map_or(Self::Over, |fault| Self::Failed { fault }));
                Err((message, refused))
            }
        }
    }
}

impl<C, H, Fut> Content for Job<C, H, Fut>
where
    C: Command,
    H: Send,
    Fut: Send,
{
    fn encode(
        &self,
        response: &Response<&AnyReply, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        match self {
            Self::Replied { reply } => with_content(response, content(reply), format, out),
            Self::Failed { fault } => with_content(response, content(fault), format, out),
            _ => with_content(response, None::<&()>, format, out),
        }
    }
}

/// `()` is written as no content.
fn content<T: 'static>(value: &T) -> Option<&T> {
    (TypeId::of::<T>() != TypeId::of::<()>()).then_some(value)
}

/// A job that waits for its guard. Only guarded commands have a second box.
struct Guarded<S> {
    guard: Permission,
    decision: Option<Decision>,
    is_allowed: bool,
    job: Pin<Box<dyn Run<S>>>,
}

impl<S: Send + 'static> Guarded<S> {
    #[cold]
    fn boxed(job: Pin<Box<dyn Run<S>>>, guard: Permission) -> Pin<Box<dyn Run<S>>> {
        Box::pin(Self { guard, decision: None, is_allowed: false, job })
    }
}

impl<S: Send + 'static> Run<S> for Guarded<S> {
    fn name(&self) -> &'static str {
        self.job.name()
    }

    fn poll(
        self: Pin<&mut Self>,
        input: &mut Option<(S, Context<()>)>,
        cx: &mut Task<'_>,
    ) -> Poll<Ended> {
        let Self { guard, decision, is_allowed, job } = self.get_mut();
        if !*is_allowed {
            let Some((_, context)) = input else { return Poll::Pending };
            let decision = decision.get_or_insert_with(|| guard(context.peer()));
            if let Err(Failure { message, refused, .. }) = ready!(decision.as_mut().poll(cx)) {
                return Poll::Ready(Err((message, refused)));
            }
            *is_allowed = true;
        }
        job.as_mut().poll(input, cx)
    }
}

impl<S: Send + 'static> Content for Guarded<S> {
    fn encode(
        &self,
        response: &Response<&AnyReply, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        self.job.encode(response, format, out)
    }
}

/// A command that is not in the table.
struct Refused {
    message: String,
    why: Refusal,
}

impl<S: 'static> Run<S> for Refused {
    fn name(&self) -> &'static str {
        ""
    }

    fn poll(
        mut self: Pin<&mut Self>,
        _: &mut Option<(S, Context<()>)>,
        _: &mut Task<'_>,
    ) -> Poll<Ended> {
        Poll::Ready(Err((mem::take(&mut self.message), Some(self.why))))
    }
}

impl Content for Refused {
    fn encode(
        &self,
        response: &Response<&AnyReply, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        with_content(response, None::<&()>, format, out)
    }
}
