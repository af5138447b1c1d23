//! One client connection: a task that reads requests and answers them in order.

mod request;

use std::{
    borrow::Cow,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, Sink, StreamExt};
use kakehi_channel::{
    BufferLimits, BusyPoll, ByteStream, Channel, ChannelError, ErrorKind, Refusal, Response,
    low_level::LowLevel,
};
use kakehi_time::Timer;
use tokio::time::Instant;
use tracing::{Level, Span, debug, info_span};

use crate::{
    Handler, Protocol, log, metrics,
    outbox::Outbox,
    received::{Asked, Received},
    reserved::Reserving,
    shared::{End, FINAL_WRITE_TIME, Phase, Server},
};

/// The outbox contains encoded frames. The type of the response only selects how to flush.
type Frames<C, F, S> =
    Channel<Response<&'static (), &'static str>, Received<C>, Reserving<F, C>, S>;

/// One client connection. It alone owns the channel.
///
/// ```text
///           poll_next()                answer()
/// channel ──► request ──► handler ──► outbox ──► channel
///             (early: arrived          (progress, final)
///              during another)
/// ```
pub(crate) struct Connection<C, H, F, S> {
    server: Arc<Server<C, H>>,
    outbox: Arc<Outbox>,
    channel: Frames<C, F, BusyPoll<S>>,
    /// Returns whether the client has closed both directions.
    has_left: fn(&S) -> bool,
    /// A message that arrived during a request. The connection reads no further one before it is
    /// taken. Boxed, because an idle connection has none.
    early: Option<Box<Incoming<C>>>,
    /// The client has stopped reading.
    disconnected: bool,
    deadlines: Deadlines,
    /// Set by each write.
    wrote: bool,
    /// The bytes of the partial request that the server's total includes.
    unfinished: usize,
    /// The command of the last request, for the metrics.
    command: metrics::Command,
    /// How many requests were read since the connection last had to wait.
    burst: u32,
}

/// A message from the client, or the end of the stream.
enum Incoming<C> {
    Request(Received<C>),
    /// A message that gets a refusal as its response. After the `last` one, nothing can be read.
    Unusable {
        id: String,
        command: Option<String>,
        why: Refusal,
        message: String,
        last: bool,
    },
    End,
}

impl<C, H, F, S> Connection<C, H, F, S>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Protocol<C>,
    S: ByteStream,
{
    pub(crate) fn new(
        stream: S,
        wrap: impl FnOnce(S) -> BusyPoll<S>,
        has_left: fn(&S) -> bool,
        outbox: Arc<Outbox>,
        server: Arc<Server<C, H>>,
    ) -> Self {
        let incoming = BufferLimits { max: server.limits.request_bytes, ..BufferLimits::default() };
        let outgoing =
            BufferLimits { max: server.limits.response_bytes, ..BufferLimits::default() };
        let format = server.handler.format();
        let looks =
            *server.decodes_reserved.get_or_init(|| server.handler.format().decodes_reserved());
        let mut channel = Frames::<C, F, S>::with_limits(stream, incoming, outgoing);
        *channel.format_mut() = Reserving::new(format, looks);
        Self {
            server,
            outbox,
            channel: channel.busy_poll(wrap),
            has_left,
            early: None,
            disconnected: false,
            deadlines: Deadlines::default(),
            wrote: false,
            unfinished: 0,
            command: metrics::Command::other(),
            burst: 0,
        }
    }

    /// Answers requests until the client disconnects or the server shuts down. With `needs_span`, its
    /// requests are logged in a span of their connection.
    pub(crate) async fn run(&mut self, mut needs_span: bool) {
        let server = Arc::clone(&self.server);
        // A subscriber may keep memory for a span, so a connection has none before its first
        // request.
        let mut span = Span::none();
        while !self.disconnected {
            let incoming = poll_fn(|cx| span.in_scope(|| self.poll_next(cx))).await;
            if needs_span && !matches!(incoming, Incoming::End) {
                needs_span = false;
                span = self.span();
            }
            let begun = span.in_scope(|| self.begin(&server, incoming));
            let ControlFlow::Continue(answer) = begun else { break };
            if let Some(mut answer) = answer {
                poll_fn(|cx| span.in_scope(|| answer.poll_unpin(cx))).await;
            }
            // Requests may have arrived already, so this loop may never wait. Yield to other tasks.
            tokio::task::coop::consume_budget().await;
        }
        self.stop_reading();
        if !self.disconnected {
            poll_fn(|cx| span.in_scope(|| self.poll_finish(cx))).await;
        }
    }

    fn span(&self) -> Span {
        let (number, peer) = (self.outbox.connection(), &self.outbox.peer);
        if let Some(identity) = &peer.identity {
            info_span!("connection", number, identity = ?identity.name)
        } else {
            info_span!("connection", number, uid = peer.uid, pid = peer.pid)
        }
    }

    /// Refuses a message or starts to answer a request; breaks after the last message.
    ///
    /// The future is boxed and the message is moved out of the caller, so the task of an idle
    /// connection has no room for either.
    fn begin<'s>(
        &'s mut self,
        server: &'s Server<C, H>,
        incoming: Incoming<C>,
    ) -> ControlFlow<(), Option<impl Future<Output = ()> + Unpin + use<'s, C, H, F, S>>> {
        ControlFlow::Continue(match incoming {
            Incoming::Request(received) => Some(Box::pin(self.answer(server, received))),
            Incoming::Unusable { id, command, why, message, last } => {
                self.command = metrics::Command::other();
                self.refuse(&id, command.as_deref().unwrap_or_default(), why, &message);
                if last {
                    return ControlFlow::Break(());
                }
                None
            }
            Incoming::End => return ControlFlow::Break(()),
        })
    }

    /// The next message. Flushes all responses before it waits. Reads nothing while the outbox is
    /// full.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        let has_room = loop {
            let has_room = !self.outbox.is_full();
            if has_room && let Poll::Ready(incoming) = self.poll_one(cx) {
                return Poll::Ready(incoming);
            }
            self.wrote = false;
            if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                return Poll::Ready(Incoming::End);
            }
            // A client that sends one request at a time may send the next at once.
            let is_single = has_room && std::mem::take(&mut self.burst) == 1 && self.wrote;
            if is_single && self.channel.stream_mut().expect_soon() {
                continue;
            }
            if has_room || self.outbox.is_full() {
                break has_room;
            }
        };
        self.outbox.park(cx.waker());
        if self.is_closing() && has_room {
            return Poll::Ready(Incoming::End);
        }
        self.limit_receive_time(has_room);
        if self.deadlines.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if Deadlines::is_due(self.deadlines.receive, Instant::now()) {
            return Poll::Ready(self.too_slow());
        }
        debug!("the client reads nothing");
        self.disconnect();
        Poll::Ready(Incoming::End)
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        match self.early.take() {
            Some(early) => Poll::Ready(*early),
            None => self.poll_read(cx),
        }
    }

    /// Reads one message, under the limits of the connection and the server.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        let before = self.channel.received();
        let polled = self.channel.poll_next_unpin(cx);
        let unfinished = if polled.is_pending() { self.channel.unfinished() } else { 0 };
        let limit = self.server.limits.unfinished_bytes;
        if !self.server.shared().hold_unfinished(&mut self.unfinished, unfinished, limit) {
            self.stop_reading();
            let message = format!("the server holds over {limit} bytes of partial requests");
            return Poll::Ready(Incoming::last(Refusal::Busy, message));
        }
        let bytes = self.channel.received() - before;
        if polled.is_ready() {
            self.deadlines.receive = None;
            self.burst = self.burst.saturating_add(1);
            self.server.shared().count_received(bytes);
        }
        polled.map(|item| match item {
            Some(Ok(received)) => Incoming::Request(Received { bytes, ..received }),
            None => Incoming::End,
            Some(Err(error)) if error.io_kind().is_some() => {
                debug!(%error, "the connection failed");
                self.disconnect();
                Incoming::End
            }
            Some(Err(error)) => Self::undecoded(&error, bytes),
        })
    }

    /// Handles a message that is not a request for the handler's commands. `bytes` is its size.
    fn undecoded(error: &ChannelError, bytes: u64) -> Incoming<C> {
        if let Some(request) = error.payload().and_then(|payload| F::reserved(payload)) {
            let request = Asked::Reserved(Box::new(request));
            return Incoming::Request(Received { request, command: None, bytes });
        }
        metrics::Command::other().received(bytes);
        Incoming::unusable(error, F::id_of, F::command_of)
    }

    /// Writes all responses. Ready when the kernel has all of them.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        loop {
            let is_all = self.channel.staged() == 0;
            if is_all {
                self.outbox.drain(|frames| self.channel.stage_frames(frames));
            }
            let before = self.channel.staged();
            if before == 0 {
                self.deadlines.write = None;
                return Poll::Ready(Ok(()));
            }
            let flushed = Pin::new(&mut self.channel).poll_flush(cx);
            let written = before - self.channel.staged();
            if written > 0 {
                self.wrote = true;
                self.server.shared().count_sent(written as u64);
                self.command.sent(written as u64);
            }
            match flushed {
                Poll::Ready(Ok(())) => {
                    self.deadlines.write = None;
                    if is_all {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.disconnect();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    if written > 0 || self.deadlines.write.is_none() {
                        let limit = self.server.limits.write_time;
                        let time = self.outbox.write_time().unwrap_or(limit);
                        self.deadlines.write = Instant::now().checked_add(time);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes the last responses, until the client stops reading or the server's time is over.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        self.outbox.park(cx.waker());
        self.is_closing();
        self.deadlines.poll(cx).map(|()| debug!("the client does not read its last response"))
    }

    /// Answers a request that was not started with an ERROR that says why.
    fn refuse(&mut self, id: &str, command: &str, why: Refusal, message: &str) {
        let end = End::Refused(why);
        log::refused(self.outbox.peer.uid, id, command, why, message);
        self.server.shared().count_request(end);
        self.command.count(end);
        self.outbox.open(id, Cow::Borrowed(""));
        self.outbox.fail::<F>(message, Some(why));
    }

    /// Sets the deadline of a partial request, if there is one and the connection reads on.
    fn limit_receive_time(&mut self, is_reading: bool) {
        let request_time = self.server.limits.request_time;
        let receive = &mut self.deadlines.receive;
        if self.unfinished == 0 || !is_reading {
            *receive = None;
        } else if receive.is_none() {
            *receive = Instant::now().checked_add(request_time);
        }
    }

    /// Refuses a request that did not arrive in time, and stops reading.
    fn too_slow(&mut self) -> Incoming<C> {
        self.stop_reading();
        let time = self.server.limits.request_time;
        Incoming::last(Refusal::TooSlow, format!("the request did not arrive within {time:?}"))
    }

    /// Releases the memory of a partial request, before its refusal is written.
    fn stop_reading(&mut self) {
        self.channel.stop_reading();
        self.server.shared().hold_unfinished(&mut self.unfinished, 0, 0);
        self.deadlines.receive = None;
    }

    /// Returns whether the server closes. From the first time on, the client has
    /// [`FINAL_WRITE_TIME`] to read its last response.
    fn is_closing(&mut self) -> bool {
        let is_closing = self.server.shared().phase() == Phase::Closing;
        if is_closing && self.deadlines.end.is_none() {
            self.deadlines.end = Instant::now().checked_add(FINAL_WRITE_TIME);
        }
        is_closing
    }

    /// Marks the client as disconnected.
    fn disconnect(&mut self) {
        self.disconnected = true;
        self.deadlines.write = None;
    }
}

impl<C> Incoming<C> {
    fn last(why: Refusal, message: String) -> Self {
        Self::Unusable { id: String::new(), command: None, why, message, last: true }
    }

    fn unusable(
        error: &ChannelError,
        id_of: fn(&[u8]) -> Option<String>,
        command_of: fn(&[u8]) -> Option<String>,
    ) -> Self {
        let why = if error.kind() == ErrorKind::TooLarge {
            Refusal::TooLarge
        } else {
            Refusal::Malformed
        };
        let id = error.payload().and_then(|payload| id_of(payload)).unwrap_or_default();
        let is_logged = tracing::enabled!(Level::INFO);
        let command = error.payload().filter(|_| is_logged).and_then(|payload| command_of(payload));
        Self::Unusable { id, command, why, message: error.to_string(), last: error.is_fatal() }
    }
}

/// The task may be dropped at any time, while clones of a handler's context live on.
impl<C, H, F, S> Drop for Connection<C, H, F, S> {
    fn drop(&mut self) {
        self.server.shared().hold_unfinished(&mut self.unfinished, 0, 0);
        self.outbox.abandon();
    }
}

/// The deadlines of a connection and of its running request.
#[derive(Default)]
struct Deadlines {
    /// The partial request must be complete.
    receive: Option<Instant>,
    /// The client must have read some bytes of a response.
    write: Option<Instant>,
    /// The running request must have its final response.
    request: Option<Instant>,
    /// The cancelled handler must return, or the last response of a closing server be written.
    end: Option<Instant>,
    /// The client gets a keep-alive.
    keep_alive: Option<Instant>,
    /// The server checks whether the client has disconnected.
    check: Option<Instant>,
    timer: Timer,
}

impl Deadlines {
    fn is_due(deadline: Option<Instant>, now: Instant) -> bool {
        deadline.is_some_and(|at| at <= now)
    }

    /// Ready once the earliest deadline has passed; pending forever if there is none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { receive, write, request, end, keep_alive, check, timer } = self;
        let all = [*receive, *write, *request, *end, *keep_alive, *check];
        let Some(first) = all.into_iter().flatten().min() else {
            // An idle connection keeps no timer.
            *timer = Timer::default();
            return Poll::Pending;
        };
        timer.poll(first, cx)
    }

    /// Forgets the deadlines of the request that has ended.
    fn end_request(&mut self) {
        (self.request, self.end, self.keep_alive, self.check) = (None, None, None, None);
    }
}
