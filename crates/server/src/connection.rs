//! One client: its requests in, their answers out, in order, in one task.

mod incoming;
mod outgoing;

use std::{
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::StreamExt;
use kakehi_channel::{Channel, Limits as Memory, Refusal, Request, Response, TryRead};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tracing::{Instrument, Span, debug};

pub(crate) use self::incoming::Incoming;
use crate::{
    Handler, Wire,
    alarm::Alarm,
    hub::Phase,
    outbox::Outbox,
    serve::{LAST_WORDS, Server},
};

/// The sole owner of a client's channel.
///
/// ```text
///            next()                    answer()
/// channel ──► request ──► handler ──► outbox ──► channel
///             (early: the one          (progress, final)
///              that came while
///              another ran)
/// ```
pub(crate) struct Connection<C, H, F, S> {
    pub(crate) server: Arc<Server<C, H>>,
    pub(crate) outbox: Arc<Outbox>,
    /// Responses of any content come to it as frames; this type only says how it is flushed.
    channel: Channel<Response<&'static (), &'static str>, Request<C>, F, S>,
    /// Whether the peer has closed both directions.
    has_left: fn(&S) -> bool,
    /// What came while a request was running; nothing is read behind it. Boxed, since an idle
    /// connection has none.
    pub(crate) early: Option<Box<Incoming<C>>>,
    /// Nobody reads what is written.
    pub(crate) left: bool,
    /// Who has something for it to do wakes it. The outbox knows it too; here it needs no lock.
    away: bool,
    pub(crate) alarm: Alarm,
    pub(crate) sent: u64,
    pub(crate) stalled_since: Option<Instant>,
    unfinished_since: Option<Instant>,
    unfinished: usize,
    /// The server closes: when its last words must be out.
    last_words_until: Option<Instant>,
    /// How many requests came since nothing was left to be read.
    burst: u32,
}

/// What a stream can tell past the runtime: whether the peer has closed both directions, and what
/// has come.
pub(crate) type PastTheRuntime<S> = (fn(&S) -> bool, Option<TryRead<S>>);

impl<C, H, F, S> Connection<C, H, F, S>
where
    C: Send + 'static,
    H: Handler<C, F>,
    F: Wire<C>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) fn new(
        stream: S,
        (has_left, try_read): PastTheRuntime<S>,
        outbox: Arc<Outbox>,
        server: Arc<Server<C, H>>,
    ) -> Self {
        let incoming = Memory { max: server.limits.request_bytes, ..Memory::DEFAULT };
        let outgoing = Memory { max: server.limits.response_bytes, ..Memory::DEFAULT };
        let channel = Channel::with_limits(stream, incoming, outgoing);
        let channel = match try_read {
            Some(try_read) => channel.busy_poll_by(server.busy_poll, try_read),
            None => channel,
        };
        Self {
            server,
            outbox,
            channel,
            has_left,
            early: None,
            left: false,
            away: false,
            alarm: Alarm::default(),
            sent: 0,
            stalled_since: None,
            unfinished_since: None,
            unfinished: 0,
            last_words_until: None,
            burst: 0,
        }
    }

    /// Answers requests until the client has no more, or the server ends; in a span from the first
    /// one on.
    pub(crate) async fn run(&mut self, span: impl FnOnce() -> Span) {
        // What a span takes, a subscriber may keep: who asks for nothing has none.
        let first = self.next().await;
        let span = if matches!(first, Incoming::End) { Span::none() } else { span() };
        self.early = Some(Box::new(first));
        self.answer_all().instrument(span).await;
    }

    async fn answer_all(&mut self) {
        let server = Arc::clone(&self.server);
        loop {
            let incoming = self.next().await;
            match self.begin(&server, incoming) {
                ControlFlow::Continue(Some(answer)) => answer.await,
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(()) => break,
            }
            if self.left {
                break;
            }
            // Requests that have come already are no reason to wait: others have their turn.
            tokio::task::coop::consume_budget().await;
        }
        self.finish().await;
    }

    /// Refuses what came, or begins to answer it; breaks off behind the last.
    ///
    /// What is awaited is boxed, and what came is gone by then: a connection without a request has
    /// no room for either.
    fn begin<'s>(
        &'s mut self,
        server: &'s Server<C, H>,
        incoming: Incoming<C>,
    ) -> ControlFlow<(), Option<Pin<Box<impl Future<Output = ()> + use<'s, C, H, F, S>>>>> {
        match incoming {
            Incoming::Request(request) => {
                ControlFlow::Continue(Some(Box::pin(self.answer(server, request))))
            }
            Incoming::Unusable { id, why, message, last } => {
                self.refuse(&id, why, &message);
                if last { ControlFlow::Break(()) } else { ControlFlow::Continue(None) }
            }
            Incoming::End => ControlFlow::Break(()),
        }
    }

    /// The next thing from the client. All answers go out before this waits; while too many wait
    /// to be read, nothing more is taken.
    async fn next(&mut self) -> Incoming<C> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        let has_room = loop {
            // Requests wait for who does not read.
            let has_room = !self.outbox.is_full();
            if has_room && let Poll::Ready(incoming) = self.poll_one(cx) {
                return Poll::Ready(incoming);
            }
            let sent = self.sent;
            if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                return Poll::Ready(Incoming::End);
            }
            // Who asks one thing at a time may ask the next at once.
            let is_single = has_room && std::mem::take(&mut self.burst) == 1 && self.sent != sent;
            if is_single && self.channel.expect_soon() {
                continue;
            }
            if has_room || self.outbox.is_full() {
                break has_room;
            }
        };
        self.leave(cx);
        if self.is_closing() && has_room {
            return Poll::Ready(Incoming::End);
        }
        // Nothing is read meanwhile if there is no room.
        let too_slow = self.too_slow_at(has_room);
        let write_time = self.server.limits.write_time;
        let stalled = self.stalled_since.and_then(|t| t.checked_add(write_time));
        if self.alarm.poll([too_slow, stalled, self.last_words_until], cx).is_pending() {
            return Poll::Pending;
        }
        if too_slow.is_some_and(|at| at <= Instant::now()) {
            return Poll::Ready(self.too_slow());
        }
        debug!("the client reads nothing");
        self.left = true;
        Poll::Ready(Incoming::End)
    }

    /// When the request that has begun to come must have come, if one has and is read on.
    pub(crate) fn too_slow_at(&mut self, is_read: bool) -> Option<Instant> {
        self.unfinished_since = match self.unfinished {
            0 => None,
            _ if !is_read => None,
            _ => self.unfinished_since.or_else(|| Some(Instant::now())),
        };
        self.unfinished_since.and_then(|t| t.checked_add(self.server.limits.request_time))
    }

    /// The refusal of a request that has not come in time. Nothing more is read.
    pub(crate) fn too_slow(&mut self) -> Incoming<C> {
        self.stop_reading();
        let time = self.server.limits.request_time;
        Incoming::last(Refusal::TooSlow, format!("the request did not end within {time:?}"))
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        match self.early.take() {
            Some(early) => Poll::Ready(*early),
            None => self.poll_incoming(cx),
        }
    }

    /// Reads one more thing, under this connection's and the server's limits.
    pub(crate) fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming<C>> {
        let before = self.channel.received();
        let polled = self.channel.poll_next_unpin(cx);
        let unfinished = if polled.is_pending() { self.channel.unfinished() } else { 0 };
        let limit = self.server.limits.unfinished_bytes;
        if !self.server.hub().hold_unfinished(&mut self.unfinished, unfinished, limit) {
            self.stop_reading();
            let message = format!("over {limit} bytes of unfinished requests in the server");
            return Poll::Ready(Incoming::last(Refusal::Busy, message));
        }
        if polled.is_ready() {
            self.unfinished_since = None;
            self.burst = self.burst.saturating_add(1);
            self.server.hub().count_received(self.channel.received() - before);
        }
        polled.map(|item| match item {
            Some(Ok(request)) => Incoming::Request(request),
            None => Incoming::End,
            Some(Err(error)) => {
                self.left |= error.io_kind().is_some();
                Incoming::error(&error, F::id_of)
            }
        })
    }

    /// Takes the floor, and starts answering the next request; the number is for its context.
    pub(crate) fn open(&mut self, id: &str) -> u64 {
        self.away = false;
        self.outbox.open(id)
    }

    /// Takes the floor, if it was left: nobody needs to wake this connection.
    pub(crate) fn attend(&mut self) {
        if std::mem::take(&mut self.away) {
            self.outbox.attend();
        }
    }

    /// This connection is about to wait. Says whether a sender waits for room.
    pub(crate) fn leave(&mut self, cx: &Context<'_>) -> bool {
        self.away = true;
        self.outbox.leave(cx.waker())
    }

    /// Whether the client closed both directions, as far as the stream can tell.
    pub(crate) fn peer_has_left(&self) -> bool {
        (self.has_left)(self.channel.get_ref())
    }

    /// Gives back what an unfinished request takes, however long its client takes to read why.
    fn stop_reading(&mut self) {
        self.channel.stop_reading();
        self.server.hub().hold_unfinished(&mut self.unfinished, 0, 0);
    }

    /// From the first time that this is seen on, the client has so long to read the last words.
    fn is_closing(&mut self) -> bool {
        let is_closing = self.server.hub().phase() == Phase::Closing;
        if is_closing && self.last_words_until.is_none() {
            self.last_words_until = Instant::now().checked_add(LAST_WORDS);
        }
        is_closing
    }
}

/// Also where the future of all this is dropped: clones of a handler's context may live on.
impl<C, H, F, S> Drop for Connection<C, H, F, S> {
    fn drop(&mut self) {
        self.server.hub().hold_unfinished(&mut self.unfinished, 0, 0);
        self.outbox.abandon();
    }
}
