//! Answering one request: polls the handler, writes what it sends, and cancels it.

use std::{
    borrow::Cow,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use futures::future::Either;
use kakehi_channel::{ByteStream, Refusal, Status, TraceContext, low_level::LowLevel};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Connection, Deadlines};
use crate::{
    AnyContent, Content, Context, Failure, Handler, IntoAnswer, IntoFailure, Limits, Protocol,
    log::Log,
    metrics,
    outbox::Outbox,
    received::{Asked, Received},
    reserved::{self, Answered},
    shared::{End, FINAL_WRITE_TIME, Phase, Server},
};

/// How often the server checks for a disconnect that it cannot wait for: the client has closed its
/// sending side, or has already sent the next request.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The interval of keep-alives; a client can ask for any timeout.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(10);
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a handler that only waited for room in the outbox is polled again in one turn.
const POLLS_PER_TURN: usize = 16;

/// The running request.
struct Running {
    number: u64,
    /// The interval of keep-alives.
    keep_alive: Option<Duration>,
    cancelled: Option<CancelReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CancelReason {
    Disconnected,
    Deadline,
    ShuttingDown,
    /// By another request.
    Asked,
}

impl<C, H, F, S> Connection<C, H, F, S>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    S: ByteStream,
{
    /// Runs one request until its final response is in the outbox, or its handler is dropped.
    pub(super) async fn answer(&mut self, server: &Server<C, H>, received: Received<C>) {
        let _counted = server.shared().start_request();
        self.command = metrics::Command::named(received.label::<F>());
        self.command.received(received.bytes);
        let command = catch_panic(|| received.command(&server.handler)).unwrap_or_default();
        let log = Log::new(self.outbox.peer.uid, received.id(), &command);
        let trace = received.trace().cloned();
        #[cfg(feature = "opentelemetry")]
        let trace = TraceContext::join(&log.span, trace);
        let span = &log.span;
        if let Err((why, message)) = span.in_scope(|| self.admit(server, &received.request)) {
            return span.in_scope(|| self.refuse(received.id(), &command, why, &message));
        }
        let measured = self.command.start();
        let (deadline, keep_alive) = received.times(&server.limits);
        let number = self.outbox.open(received.id(), command);
        self.deadlines.request = deadline;
        let mut running = Running { number, keep_alive, cancelled: None };
        let context = Context::new(Arc::clone(&self.outbox), number, deadline, trace);
        let end = {
            let mut handling = pin!(catch_panic(|| received.handle(&server.handler, context)));
            let end = poll_fn(|cx| {
                self.poll_answer(cx, &mut running, |outbox, cx| {
                    match handling.as_mut().as_pin_mut() {
                        Some(handling) => match handling.as_pin_mut() {
                            Either::Left(command) => poll::<F, _, _>(command, outbox, &log, cx),
                            Either::Right(reserved) => poll::<F, _, _>(reserved, outbox, &log, cx),
                        },
                        None => Poll::Ready(End::Panicked),
                    }
                })
            })
            .await;
            // A destructor in the future can panic too.
            let _ = catch_panic(|| handling.set(None));
            end
        };
        self.deadlines.end_request();
        self.outbox.unpark();
        if self.early.is_some() && self.client_has_left() {
            self.disconnect();
        }
        let end = match (end, running.cancelled) {
            (End::Panicked, _) => {
                self.fail("the handler panicked");
                End::Panicked
            }
            (_, Some(reason)) => {
                self.fail(&reason.message(&self.outbox));
                End::Cancelled
            }
            (end, None) => end,
        };
        server.shared().count_request(end);
        measured.end(end, running.cancelled.map(CancelReason::name));
        log.answered(end);
    }

    /// Refuses the request if the server shuts down, or if `Serve::authorize` returns an error. The
    /// latter is for commands of the handler.
    fn admit(&self, server: &Server<C, H>, asked: &Asked<C>) -> Result<(), (Refusal, String)> {
        if server.shared().phase() != Phase::Running {
            return Err((Refusal::ShuttingDown, "the server is shutting down".into()));
        }
        let Asked::Command(request) = asked else { return Ok(()) };
        catch_panic(|| server.authorize(&self.outbox.peer, request))
            .unwrap_or_else(|| Err("the authorization panicked".into()))
            .map_err(|message| (Refusal::Denied, message))
    }

    fn poll_answer(
        &mut self,
        cx: &mut Task<'_>,
        running: &mut Running,
        mut poll_handler: impl FnMut(&Outbox, &mut Task<'_>) -> Poll<End>,
    ) -> Poll<End> {
        let mut polls = 0;
        loop {
            self.outbox.unpark();
            if let Poll::Ready(end) = poll_handler(&self.outbox, cx) {
                return Poll::Ready(end);
            }
            let was_full = self.outbox.park(cx.waker());
            let is_written = !self.disconnected && self.poll_write(cx).is_ready();
            if was_full && is_written && !self.disconnected {
                polls += 1;
                if polls < POLLS_PER_TURN {
                    continue;
                }
                // The deadlines apply to a handler that always sends, too.
                polls = 0;
                cx.waker().wake_by_ref();
            }
            self.poll_early(cx);
            match self.poll_deadlines(running, cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads the next request, and so detects a disconnect.
    fn poll_early(&mut self, cx: &mut Task<'_>) {
        if self.disconnected || self.early.is_some() {
            return;
        }
        if let Poll::Ready(incoming) = self.poll_read(cx) {
            self.early = Some(Box::new(incoming));
        }
    }

    /// Handles deadlines that have passed. `Ready(None)`: poll the handler and the channel again.
    fn poll_deadlines(&mut self, running: &mut Running, cx: &mut Task<'_>) -> Poll<Option<End>> {
        let now = Instant::now();
        if Deadlines::is_due(self.deadlines.write, now) {
            self.disconnect();
        }
        if let Some(reason) = self.reason_to_cancel(running, now) {
            return self.cancel(running, reason, now);
        }
        if Deadlines::is_due(self.deadlines.end, now) {
            warn!("dropped a handler that did not clean up in time");
            return Poll::Ready(Some(End::Cancelled));
        }
        self.limit_receive_time(self.early.is_none());
        if Deadlines::is_due(self.deadlines.receive, now) {
            self.early = Some(Box::new(self.too_slow()));
        }
        if self.keep_alive(running, now) || self.check_client(now) {
            return Poll::Ready(None);
        }
        self.deadlines.poll(cx).map(|()| None)
    }

    fn reason_to_cancel(&self, running: &Running, now: Instant) -> Option<CancelReason> {
        let is_closing = self.server.shared().phase() == Phase::Closing;
        match running.cancelled {
            Some(CancelReason::ShuttingDown) => None,
            _ if is_closing => Some(CancelReason::ShuttingDown),
            None if self.disconnected && !self.outbox.disconnect() => {
                Some(CancelReason::Disconnected)
            }
            None if Deadlines::is_due(self.deadlines.request, now) => Some(CancelReason::Deadline),
            None if self.outbox.is_cancelled(running.number) => Some(CancelReason::Asked),
            _ => None,
        }
    }

    /// Cancels the handler and sends the ERROR. A handler that took its cancellation token has some
    /// time to clean up.
    fn cancel(
        &mut self,
        running: &mut Running,
        reason: CancelReason,
        now: Instant,
    ) -> Poll<Option<End>> {
        running.cancelled = Some(reason);
        self.deadlines.request = None;
        if !self.outbox.cancel() {
            return Poll::Ready(Some(End::Cancelled));
        }
        let cleanup = match reason {
            CancelReason::ShuttingDown => self.server.limits.cleanup_time.min(FINAL_WRITE_TIME),
            CancelReason::Disconnected | CancelReason::Deadline | CancelReason::Asked => {
                self.server.limits.cleanup_time
            }
        };
        // A shutdown does not extend the time of a handler that is already cleaning up.
        let ends = [self.deadlines.end, now.checked_add(cleanup)];
        self.deadlines.end = ends.into_iter().flatten().min();
        self.fail(&reason.message(&self.outbox));
        Poll::Ready(None)
    }

    /// Sends a keep-alive if nothing was written for its interval. Returns whether it sent one.
    fn keep_alive(&mut self, running: &Running, now: Instant) -> bool {
        let Some(interval) = running.keep_alive.filter(|_| !self.disconnected) else {
            self.deadlines.keep_alive = None;
            return false;
        };
        let is_quiet = !std::mem::take(&mut self.wrote);
        let is_due = is_quiet && Deadlines::is_due(self.deadlines.keep_alive, now);
        if !is_quiet || is_due || self.deadlines.keep_alive.is_none() {
            self.deadlines.keep_alive = now.checked_add(interval);
        }
        let is_writing = self.channel.staged() > 0;
        is_due && !is_writing && self.outbox.keep_alive::<F>(running.number).is_ok()
    }

    /// Checks whether the client has disconnected, where a read cannot tell. Returns whether it has.
    fn check_client(&mut self, now: Instant) -> bool {
        if self.disconnected || self.early.is_none() {
            self.deadlines.check = None;
            return false;
        }
        if self.deadlines.check.is_none_or(|at| at <= now) {
            if self.client_has_left() {
                self.disconnect();
                return true;
            }
            self.deadlines.check = Some(now + CHECK_INTERVAL);
        }
        false
    }

    fn client_has_left(&self) -> bool {
        (self.has_left)(self.channel.get_ref().get_ref())
    }

    /// Ends the open request with an ERROR, unless it has its final response.
    fn fail(&self, message: &str) {
        self.outbox.fail::<F>(message, None);
    }
}

impl CancelReason {
    /// For the metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Deadline => "deadline",
            Self::ShuttingDown => "shutting_down",
            Self::Asked => "asked",
        }
    }

    fn message(self, outbox: &Outbox) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Disconnected => "cancelled: the client disconnected",
            Self::Deadline => "cancelled: the deadline has passed",
            Self::ShuttingDown => "cancelled: the server is shutting down",
            Self::Asked => return Cow::Owned(format!("cancelled by {}", outbox.canceller())),
        })
    }
}

impl<C> Received<C> {
    fn id(&self) -> &str {
        match &self.request {
            Asked::Command(request) => &request.id,
            Asked::Reserved(request) => &request.id,
        }
    }

    fn trace(&self) -> Option<&TraceContext> {
        match &self.request {
            Asked::Command(request) => request.trace.as_ref(),
            Asked::Reserved(request) => request.trace.as_ref(),
        }
    }

    /// The deadline of the request and the interval of its keep-alives.
    fn times(&self, limits: &Limits) -> (Option<Instant>, Option<Duration>) {
        let (timeout, deadline) = match &self.request {
            Asked::Command(request) => (request.timeout(), request.deadline()),
            Asked::Reserved(request) => (request.timeout(), request.deadline()),
        };
        let deadline = [deadline, limits.max_deadline].into_iter().flatten().min();
        let timeout = timeout.map(|time| time.min(limits.max_timeout.unwrap_or(time)));
        (
            // A deadline that the clock cannot express is none.
            deadline.and_then(|time| Instant::now().checked_add(time)),
            timeout.map(|time| (time / 2).clamp(MIN_KEEP_ALIVE, MAX_KEEP_ALIVE)),
        )
    }

    /// The label of the command in the metrics, if the server knows it. Clients choose a reserved
    /// name, so it is not a label.
    fn label<F: Protocol<C>>(&self) -> Option<&str> {
        match &self.request {
            Asked::Command(request) => self.command.as_deref().filter(|_| F::knows(request)),
            Asked::Reserved(_) => Some("kakehi"),
        }
    }

    /// The command for the log.
    fn command<H: Handler<C, F>, F>(&self, handler: &H) -> Cow<'static, str> {
        match &self.request {
            Asked::Reserved(request) => reserved::name(request.command.as_ref()),
            Asked::Command(request) => match (handler.describe(request), &self.command) {
                (described, Some(name)) if described.is_empty() => Cow::Owned(name.to_string()),
                (described, _) => described,
            },
        }
    }

    /// Runs the handler. The future of a command is not an `async` block, which would have room for
    /// the request as well. That of a reserved request is boxed, because such requests are rare.
    #[expect(clippy::type_complexity, reason = "futures without a name fit in no shorter type")]
    fn handle<H: Handler<C, F>, F: Send>(
        self,
        handler: &H,
        context: Context<AnyContent, F>,
    ) -> Either<
        impl Future<Output = Result<H::Answer, H::Error>>,
        impl Future<Output = Answered<H, C, F>>,
    > {
        match self.request {
            Asked::Command(request) => Either::Left(handler.handle(request, context)),
            Asked::Reserved(request) => Either::Right(Box::pin(async move {
                let name = reserved::name(request.command.as_ref());
                reserved::complete::<H, C, F>(&name, handler.reserved(*request, context).await)
            })),
        }
    }
}

/// Polls a handler and encodes its result as the final response.
fn poll<F, A, E>(
    handling: Pin<&mut impl Future<Output = Result<A, E>>>,
    outbox: &Outbox,
    log: &Log,
    cx: &mut Task<'_>,
) -> Poll<End>
where
    F: Default,
    A: IntoAnswer<Content: Content<F>>,
    E: IntoFailure<Content: Content<F>>,
    (): Content<F>,
{
    let polled = catch_panic(|| {
        let _entered = log.span.enter();
        handling.poll(cx).map(|result| match result.map(IntoAnswer::into_answer) {
            Ok(answer) => {
                let content = answer.content.as_ref();
                conclude::<F, _>(outbox, Status::Ok, &answer.message, content, None)
            }
            Err(error) => {
                let Failure { message, content, refused } = error.into_failure();
                if let Some(why) = refused {
                    log.refused(why, &message);
                }
                conclude::<F, _>(outbox, Status::Error, &message, content.as_ref(), refused)
            }
        })
    });
    polled.unwrap_or(Poll::Ready(End::Panicked))
}

/// Encodes the final response. A response that cannot be encoded becomes an ERROR that says so.
fn conclude<F: Default, T: Content<F>>(
    outbox: &Outbox,
    status: Status,
    message: &str,
    content: Option<&T>,
    refused: Option<Refusal>,
) -> End
where
    (): Content<F>,
{
    let Err(error) = outbox.close::<F, T>(status, message, content, refused) else {
        return refused.map_or(End::Answered(status), End::Refused);
    };
    warn!(%error, "cannot send the final response");
    outbox.fail::<F>(&format!("the answer cannot be sent: {error}"), None);
    End::Answered(Status::Error)
}

/// Runs code of the handler. Logs a panic and returns `None`.
fn catch_panic<T>(code: impl FnOnce() -> T) -> Option<T> {
    // Unwind safe: the outbox removes a half-encoded frame, and all other state is the handler's.
    catch_unwind(AssertUnwindSafe(code))
        .inspect_err(|panic| error!(panic = ?panic_text(&**panic), "a handler panicked"))
        .ok()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_contains_the_text_of_a_panic() {
        let text = |panics: fn()| {
            let panic = catch_unwind(panics).unwrap_err();
            panic_text(&*panic).to_owned()
        };
        assert_eq!(text(|| panic!("as it is")), "as it is");
        assert_eq!(text(|| panic!("{} things", 2)), "2 things");
        assert_eq!(text(|| std::panic::panic_any(2)), "no text");
    }
}
