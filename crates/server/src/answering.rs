//! How one request is answered: the handler is polled, what it sends goes out, and it is stopped
//! when nobody wants its answer any more.

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use kakehi_channel::{Refusal, Request, Status};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tracing::{Level, Span, error, info, info_span, warn};

use crate::{
    Content, Context, Failure, Handler, IntoAnswer, IntoFailure, Wire,
    clocks::{Clocks, Stop},
    connection::Connection,
    hub::{End, Phase},
    outbox::Outbox,
    serve::{LAST_WORDS, Server},
};

/// How often a client is looked at whose end cannot be waited for: it has closed its sending
/// side, or has sent the next request already.
const WATCH: Duration = Duration::from_millis(500);

/// The longest id or command in the log, in characters.
const LOGGED: usize = 256;

/// How often a handler that only waited for room goes on before other tasks have their turn.
const TURNS: usize = 16;

impl<C, H, F, S> Connection<C, H, F, S>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Runs one request to its final answer, or until the client has left.
    pub(crate) async fn answer(&mut self, server: &Server<C, H>, request: Request<C>) {
        let running = server.hub().start_request();
        if server.hub().phase() != Phase::Running {
            return self.refuse(&request.id, Refusal::ShuttingDown, "the server is shutting down");
        }
        let allowed = guarded(|| server.authorize(&self.outbox.peer, &request));
        if let Err(why) = allowed.unwrap_or_else(|| Err("the decision panicked".into())) {
            return self.refuse(&request.id, Refusal::Denied, &why);
        }
        let logged = tracing::enabled!(Level::INFO).then(Instant::now);
        let span = match logged {
            Some(_) => {
                let command = guarded(|| server.handler.describe(&request)).unwrap_or_default();
                info_span!("request", id = ?cut(&request.id), command = ?cut(&command))
            }
            None => Span::none(),
        };
        let mut clocks = Clocks::new(&request, &server.limits);
        let serial = self.open(&request.id);
        let context = Context::new(Arc::clone(&self.outbox), serial, clocks.deadline);
        let end = {
            let mut handling = pin!(guarded(|| server.handler.handle(request, context)));
            let end = poll_fn(|cx| {
                self.poll_answer(cx, serial, &mut clocks, |outbox, cx| {
                    match handling.as_mut().as_pin_mut() {
                        Some(handling) => poll_handler::<F, _, _>(handling, outbox, &span, cx),
                        None => Poll::Ready(End::Panicked),
                    }
                })
            })
            .await;
            // A future's destructor is the handler's code too.
            let _ = guarded(|| handling.set(None));
            match (end, clocks.stopped) {
                // Its client was told otherwise.
                (End::Answered(_) | End::Refused, Some(_)) => End::Cancelled,
                (end, _) => end,
            }
        };
        self.attend();
        // Whoever has left does not want what waits, either.
        self.left |= self.early.is_some() && self.peer_has_left();
        match end {
            End::Panicked => self.say("the handler panicked"),
            End::Cancelled => self.say(clocks.stopped.map_or("cancelled", Stop::message)),
            End::Answered(_) | End::Refused => {}
        }
        server.hub().count_request(end);
        drop(running);
        if let Some(started) = logged {
            span.in_scope(|| info!(end = ?end, duration = ?started.elapsed(), "answered"));
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Task<'_>,
        serial: u64,
        clocks: &mut Clocks,
        mut poll_handler: impl FnMut(&Outbox, &mut Task<'_>) -> Poll<End>,
    ) -> Poll<End> {
        let mut turns = 0;
        loop {
            self.attend();
            if let Poll::Ready(end) = poll_handler(&self.outbox, cx) {
                return Poll::Ready(end);
            }
            let full = self.leave(cx);
            let written = !self.left && self.poll_write(cx).is_ready();
            if full && written && !self.left {
                turns += 1;
                if turns < TURNS {
                    continue;
                }
                // Clocks count for who always has something to say, too.
                turns = 0;
                cx.waker().wake_by_ref();
            }
            self.poll_early(cx);
            match self.poll_clocks(serial, clocks, cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Looks for the next request, and so for the client's end, while one is running.
    fn poll_early(&mut self, cx: &mut Task<'_>) {
        if self.left || self.early.is_some() {
            return;
        }
        if let Poll::Ready(incoming) = self.poll_incoming(cx) {
            self.early = Some(Box::new(incoming));
        }
    }

    /// Does what is due. `Ready(None)`: there is something new to poll for.
    fn poll_clocks(
        &mut self,
        serial: u64,
        clocks: &mut Clocks,
        cx: &mut Task<'_>,
    ) -> Poll<Option<End>> {
        let now = Instant::now();
        if let Some(why) = self.reason_to_stop(clocks, now) {
            return self.stop(clocks, why, now);
        }
        if clocks.stopped.is_some() && clocks.cleanup_until.is_some_and(|at| at <= now) {
            warn!("a handler did not end in its time to clean up, and is dropped");
            return Poll::Ready(Some(End::Cancelled));
        }
        if self.sent != clocks.seen_sent || clocks.quiet_since.is_none() {
            clocks.seen_sent = self.sent;
            clocks.quiet_since = Some(now);
        }
        let too_slow_at = self.too_slow_at(self.early.is_none());
        if too_slow_at.is_some_and(|at| at <= now) {
            self.early = Some(Box::new(self.too_slow()));
        }
        let keep_alive = clocks.keep_alive.filter(|_| !self.left);
        let keep_alive_at = clocks.quiet_since.zip(keep_alive).map(|(since, every)| since + every);
        if keep_alive_at.is_some_and(|at| at <= now) {
            clocks.quiet_since = Some(now);
            if !self.is_writing() && self.keep_alive(serial) {
                return Poll::Ready(None);
            }
        }
        let watched = !self.left && self.early.is_some();
        if watched && clocks.look_at.is_none_or(|at| at <= now) {
            self.left = self.peer_has_left();
            if self.left {
                return Poll::Ready(None);
            }
            clocks.look_at = Some(now + WATCH);
        }
        let times = [
            clocks.cleanup_until,
            clocks.deadline.filter(|_| clocks.stopped.is_none()),
            clocks.quiet_since.zip(keep_alive).map(|(since, every)| since + every),
            self.stalled_since
                .filter(|_| !self.left)
                .and_then(|t| t.checked_add(self.server.limits.write_time)),
            clocks.look_at.filter(|_| watched),
            too_slow_at.filter(|_| self.early.is_none()),
        ];
        self.alarm.poll(times, cx).map(|()| None)
    }

    fn reason_to_stop(&mut self, clocks: &Clocks, now: Instant) -> Option<Stop> {
        let closing = self.server.hub().phase() == Phase::Closing;
        let stalled = self.stalled_since.is_some_and(|since| {
            now.saturating_duration_since(since) >= self.server.limits.write_time
        });
        self.left |= stalled;
        match clocks.stopped {
            Some(Stop::ShuttingDown) => None,
            _ if closing => Some(Stop::ShuttingDown),
            None if self.left && !self.outbox.client_left() => Some(Stop::ClientLeft),
            None if clocks.deadline.is_some_and(|at| at <= now) => Some(Stop::Deadline),
            _ => None,
        }
    }

    /// Cancels the handler: at once, or if it listens, with some time to clean up. A client that
    /// is still there is told now.
    fn stop(&mut self, clocks: &mut Clocks, why: Stop, now: Instant) -> Poll<Option<End>> {
        clocks.stopped.get_or_insert(why);
        if !self.outbox.cancel() {
            return Poll::Ready(Some(End::Cancelled));
        }
        let cleanup = match why {
            Stop::ShuttingDown => self.server.limits.cleanup_time.min(LAST_WORDS),
            Stop::ClientLeft | Stop::Deadline => self.server.limits.cleanup_time,
        };
        // The end of the server does not prolong what has begun.
        let until = [clocks.cleanup_until, now.checked_add(cleanup)];
        clocks.cleanup_until = until.into_iter().flatten().min();
        if why == Stop::ShuttingDown {
            clocks.stopped = Some(why);
        }
        self.say(why.message());
        Poll::Ready(None)
    }

    fn keep_alive(&self, serial: u64) -> bool {
        self.outbox.keep_alive::<F>(serial).is_ok()
    }

    /// Ends the open request in ERROR, unless it has its answer already.
    fn say(&self, message: &str) {
        self.outbox.fail::<F>(message, None);
    }
}

/// Polls a handler, and encodes what it returns.
fn poll_handler<F, A, E>(
    handling: Pin<&mut impl Future<Output = Result<A, E>>>,
    outbox: &Outbox,
    span: &Span,
    cx: &mut Task<'_>,
) -> Poll<End>
where
    F: Default,
    A: IntoAnswer<Content: Content<F>>,
    E: IntoFailure<Content: Content<F>>,
    (): Content<F>,
{
    let polled = guarded(|| {
        let _entered = span.enter();
        handling.poll(cx).map(|result| match result.map(IntoAnswer::into_answer) {
            Ok(answer) => {
                let content = answer.content.as_ref();
                conclude::<F, _>(outbox, Status::Ok, &answer.message, content, None)
            }
            Err(error) => {
                let Failure { message, content, refused } = error.into_failure();
                conclude::<F, _>(outbox, Status::Error, &message, content.as_ref(), refused)
            }
        })
    });
    polled.unwrap_or(Poll::Ready(End::Panicked))
}

/// Runs the handler's code; `None`: it panicked, which is logged.
fn guarded<T>(code: impl FnOnce() -> T) -> Option<T> {
    // What it may leave half-done is its own, or the outbox's, which takes half a frame back.
    catch_unwind(AssertUnwindSafe(code))
        .inspect_err(|panic| error!(panic = ?panic_text(&**panic), "a handler panicked"))
        .ok()
}

/// Encodes the final answer; one that cannot be encoded becomes an ERROR that says so.
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
        return if refused.is_some() { End::Refused } else { End::Answered(status) };
    };
    warn!(%error, "the answer cannot be sent");
    outbox.fail::<F>(&format!("the answer cannot be sent: {error}"), None);
    End::Answered(Status::Error)
}

/// As much of what a client wrote as the log takes.
fn cut(text: &str) -> &str {
    text.char_indices().nth(LOGGED).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
