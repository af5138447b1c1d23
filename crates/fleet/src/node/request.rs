//! One request on the node: between the broker and the server's stream.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_nats::{Message, StatusCode, Subject};
use bytes::{Buf, Bytes, BytesMut};
use kakehi_channel::Refusal;
use kakehi_server::Identity;
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    sync::{OwnedSemaphorePermit, mpsc},
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    exchange::{Exchange, OUTAGE},
    frames::{BATCH, Finality, last, refusal, take_batch, with_id},
    ids::{Key, Origin},
    largest,
    listener::ClientEnd,
    serving::Shared,
};
use crate::{
    life::GO_TIME,
    message::{Control, ControlKind, FromNode},
    names::{Accept, Asked},
    sign::{Purpose, signed_text},
};

/// The room for the first read of a request's output, in bytes. Few requests have more.
const FIRST_ROOM: usize = 4 * 1024;

/// The maximum number of reads of the server's stream after the client is gone. Each has up to
/// [`BATCH`] bytes, and by default a server holds 256 KiB.
const LAST_READS: usize = 64;

/// The maximum number of bytes that are read ahead of the credit. The server and its stream hold 384
/// KiB by default.
const AHEAD: usize = 4 * BATCH;

/// How long a request whose handler has ended waits for credit. Then its final response is kept for
/// `settle`.
const NO_CREDIT: Duration = Duration::from_secs(120);

/// A request that is accepted.
pub(super) struct Accepted {
    pub(super) shared: Arc<Shared>,
    pub(super) accept: Accept,
    pub(super) asked: Asked,
    pub(super) id: String,
    pub(super) payload: Bytes,
    /// Where the client listens.
    pub(super) inbox: Subject,
    /// Where the node listens to the client.
    pub(super) control_subject: Subject,
    pub(super) control: mpsc::Receiver<Box<Message>>,
    /// Held until the end.
    pub(super) place: OwnedSemaphorePermit,
    /// Held until GO.
    pub(super) unstarted: Option<OwnedSemaphorePermit>,
}

/// The next event of a request.
enum Event {
    Message(Box<Message>),
    /// So many bytes came from the server; 0: its stream has ended.
    Read(usize),
    Due,
}

/// A request that has GO.
struct Running {
    end: ClientEnd,
    key: Key,
    /// The part of the request that is not written yet.
    request: Bytes,
    buffer: BytesMut,
    /// The room that the buffer has for the next read.
    room: usize,
    finality: Finality,
    /// The final response was sent.
    is_answered: bool,
    /// The server's stream has ended.
    has_ended: bool,
}

impl Running {
    /// Writes the request, polls the server, and reads its output if `may_read`. Returns the number of
    /// bytes that were read; 0: the stream has ended.
    fn poll(&mut self, may_read: bool, cx: &mut Context<'_>) -> Poll<usize> {
        let Self { end, request, buffer, room, .. } = self;
        while !request.is_empty() {
            // A write fails when the server has closed the stream; the read reports it.
            match Pin::new(&mut end.stream).poll_write(cx, request) {
                Poll::Ready(written) => request.advance(written.unwrap_or(request.len())),
                Poll::Pending => break,
            }
        }
        // Before the read, whose waker would wake this task.
        end.poll_connection(cx);
        if !may_read || self.has_ended {
            return Poll::Pending;
        }
        buffer.reserve(*room);
        let read = ready!(pin!(end.stream.read_buf(buffer)).poll(cx)).unwrap_or(0);
        *room = if read < FIRST_ROOM { FIRST_ROOM } else { BATCH };
        Poll::Ready(read)
    }

    /// Whether no further output will come.
    fn is_over(&self) -> bool {
        let has_final = || self.finality.is_final(last(&self.buffer));
        self.has_ended || self.buffer.ends_with(b"\0") && has_final()
    }

    /// Reads the rest of the server's output. Returns the batch with the final response, if the handler
    /// has returned.
    async fn unsent_final(&mut self) -> Option<Bytes> {
        // Without the budget of the task: it must not be the reason that the response is not found.
        unconstrained(poll_fn(|cx| Poll::Ready(self.find_final(cx)))).await
    }

    fn find_final(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        // A handler that never returns may write for ever.
        for _ in 0..LAST_READS {
            while let Some(frames) = take_batch(&mut self.buffer, BATCH) {
                if self.finality.is_final(last(&frames)) {
                    return Some(frames);
                }
            }
            // The server writes what it holds.
            self.end.poll_connection(cx);
            self.buffer.reserve(BATCH);
            let read = pin!(self.end.stream.read_buf(&mut self.buffer)).poll(cx);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                return None;
            }
        }
        None
    }
}

/// The last of the frames, with the id of its request.
fn last_frame(frames: &Bytes, id: &str) -> Bytes {
    let mut response = last(frames).to_vec();
    response.push(0);
    with_id(response.into(), id)
}

/// Runs a request from its accept to its end.
pub(super) async fn run(mut accepted: Accepted) {
    let number = accepted.accept.number;
    if let Err(error) = accepted.accept().await {
        warn!(%error, "cannot accept a request");
        accepted.shared.routes().remove(&number);
        return;
    }
    let mut exchange = Exchange::new(Instant::now());
    // One for all waits: a new timer may wake the thread that waits for IO.
    let mut timer = pin!(sleep_until(Instant::now() + GO_TIME));
    // Kept after the final response, until the end: then the server closes its connection.
    let mut running = None;
    let mut last_credit = Instant::now();
    let end = loop {
        serving(&mut running, accepted.publish(&mut exchange)).await;
        let is_connected = accepted.shared.connection.is_connected();
        if let Some(end) = exchange.end(is_connected, Instant::now()) {
            break end;
        }
        // A probe may have become due.
        serving(&mut running, accepted.publish(&mut exchange)).await;
        if exchange.has_credit() {
            last_credit = Instant::now();
        } else if last_credit.elapsed() >= NO_CREDIT
            && running.as_ref().is_some_and(Running::is_over)
        {
            exchange.lose();
            continue;
        }
        match accepted.next(&exchange, last_credit, running.as_mut(), timer.as_mut()).await {
            Event::Message(message) => {
                accepted.message(&message, &mut exchange, &mut running).await;
                if running.is_some() {
                    accepted.unstarted = None;
                }
            }
            Event::Read(count) => {
                if let Some(running) = &mut running {
                    running.has_ended = count == 0;
                }
                accepted.send(&mut exchange, &mut running).await;
            }
            Event::Due => {}
        }
    };
    debug!(accept = %accepted.accept, ?end, "a request of the fleet ended");
    accepted.shared.routes().remove(&number);
    if let Some(mut running) = running {
        // The handler may have ended while its response waited for credit.
        let response = if running.is_answered { None } else { running.unsent_final().await };
        let response = response.map(|frames| last_frame(&frames, &accepted.id));
        let Running { end, key, is_answered, .. } = running;
        // Before the disk is waited for.
        end.close();
        if !is_answered {
            accepted.shared.ledger.end(&key, &accepted.origin(), response).await;
        }
    }
    drop(accepted.place);
}

/// Polls the server while `publish` waits for the broker, so that a deadline is kept meanwhile.
async fn serving(running: &mut Option<Running>, publish: impl Future<Output = ()>) {
    let mut publish = pin!(publish);
    poll_fn(|cx| {
        let published = publish.as_mut().poll(cx);
        if let (Poll::Pending, Some(running)) = (published, &mut *running) {
            running.end.poll_connection(cx);
        }
        published
    })
    .await;
}

impl Accepted {
    /// Waits for a message or a timer. Messages come first: a late timer must not overtake them.
    ///
    /// While the server drains, and if the client has given no credit for [`OUTAGE`], output is read
    /// ahead. Otherwise the server would drop the response of a handler that has returned.
    async fn next(
        &mut self,
        exchange: &Exchange,
        last_credit: Instant,
        mut running: Option<&mut Running>,
        mut timer: Pin<&mut Sleep>,
    ) -> Event {
        let due = exchange.wake_at().unwrap_or_else(Instant::now);
        // It may fire too early: then there is nothing to do.
        if timer.is_elapsed() || due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        let has_credit = exchange.has_credit();
        let is_starved = !has_credit && last_credit.elapsed() >= OUTAGE;
        let shared = &self.shared;
        let stream = poll_fn(|cx| {
            let Some(running) = &mut running else { return Poll::Pending };
            let is_ahead = !running.is_answered
                && running.buffer.len() < AHEAD
                && (is_starved || shared.is_draining());
            running.poll(has_credit || is_ahead, cx)
        });
        tokio::select! {
            biased;
            Some(message) = self.control.recv() => Event::Message(message),
            count = stream => Event::Read(count),
            () = timer => Event::Due,
        }
    }

    /// Publishes the accept.
    async fn accept(&self) -> Result<(), String> {
        let connection = &self.shared.connection;
        let (headers, nothing) = FromNode::Accept(self.accept.clone()).write();
        let reply = Some(self.control_subject.clone());
        connection.publish(self.inbox.clone(), reply, headers, nothing).await
    }

    /// Handles a message of the client.
    async fn message(
        &self,
        message: &Message,
        exchange: &mut Exchange,
        running: &mut Option<Running>,
    ) {
        let now = Instant::now();
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return exchange.unreachable(now);
        }
        let Some(control) = message.headers.as_ref().and_then(Control::read) else { return };
        if control.kind == ControlKind::Go && exchange.is_waiting() {
            return self.go(&control, exchange, running).await;
        }
        exchange.heard(&control, now);
        // The message may give credit for responses that were read before.
        self.send(exchange, running).await;
    }

    async fn go(&self, control: &Control, exchange: &mut Exchange, running: &mut Option<Running>) {
        let now = Instant::now();
        if !exchange.go(control, now) {
            return;
        }
        match self.start(control).await {
            Ok(started) => *running = Some(started),
            Err((why, message)) => {
                debug!(accept = %self.accept, message, "refused a GO");
                exchange.send(refusal(&self.id, why, &message), true, now);
            }
        }
    }

    /// Verifies a GO, takes the id, and gives the request to the server.
    async fn start(&self, control: &Control) -> Result<Running, (Refusal, String)> {
        let identity = self.verify(control).map_err(|why| (Refusal::Denied, why))?;
        let signer = control.signature.signer.clone().unwrap_or_default();
        let key = Key { signer, id: self.id.clone() };
        self.shared.ledger.start(&key, &self.origin()).await?;
        let Some(end) = self.shared.door.get().and_then(|door| door.connect(identity)) else {
            self.shared.ledger.end(&key, &self.origin(), None).await;
            return Err((Refusal::ShuttingDown, "the node is shutting down".to_owned()));
        };
        let finality = Finality::of(&self.id);
        let request = self.payload.clone();
        let (buffer, room) = (BytesMut::new(), FIRST_ROOM);
        let (is_answered, has_ended) = (false, false);
        Ok(Running { end, key, request, buffer, room, finality, is_answered, has_ended })
    }

    fn verify(&self, control: &Control) -> Result<Arc<Identity>, String> {
        let Control { signature, .. } = control;
        let text = |signer: &str| {
            let prefix = self.shared.connection.subjects.prefix();
            signed_text(Purpose::Go, prefix, signer, &self.asked, &self.accept, &self.payload)
        };
        let (signer, signature) = (signature.signer.as_deref(), signature.signature.as_deref());
        self.shared.keys.verify(signer, signature, text).map_err(|error| error.to_string())
    }

    /// Sends the responses that were read, while there is credit.
    async fn send(&self, exchange: &mut Exchange, running: &mut Option<Running>) {
        let Some(running) = running else { return };
        let most = largest(self.shared.connection.link.max_payload());
        while exchange.has_credit() {
            let Some(frames) = take_batch(&mut running.buffer, most) else {
                // The handler may have returned: its response did not fit into the buffers.
                if running.has_ended {
                    exchange.lose();
                }
                return;
            };
            let is_final = running.finality.is_final(last(&frames));
            let frames = if is_final { with_id(frames, &self.id) } else { frames };
            if is_final {
                running.is_answered = true;
                self.keep(&running.key, &frames).await;
            }
            exchange.send(frames, is_final, Instant::now());
        }
    }

    async fn keep(&self, key: &Key, frames: &Bytes) {
        let response = last_frame(frames, &self.id);
        self.shared.ledger.end(key, &self.origin(), Some(response)).await;
    }

    fn origin(&self) -> Origin {
        Origin { epoch: self.accept.epoch.clone(), number: self.accept.number }
    }

    async fn publish(&self, exchange: &mut Exchange) {
        let connection = &self.shared.connection;
        while let Some(message) = exchange.next_message() {
            let (headers, payload) = message.write();
            let reply = Some(self.control_subject.clone());
            let published = connection.publish(self.inbox.clone(), reply, headers, payload).await;
            if let Err(error) = published {
                debug!(%error, "cannot publish");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        task::Waker,
    };

    use kakehi_channel::{ChannelError, Request, Response};
    use kakehi_server::{Handler, Limits, serve};
    use tokio::time::timeout;

    use super::*;
    use crate::node::{bounded, frames::frame, listener::Door};

    /// More than the stream holds, and less than the stream and the server.
    const OUTPUT: usize = 300 * 1024;

    fn running(handler: impl Handler<String>) -> (Door, Running) {
        let limits = bounded(Limits::default(), 1024 * 1024);
        let serve = |requests| serve(requests, handler).limits(limits).into_future();
        let door = Door::new(|requests| Box::pin(serve(requests)));
        let end = door.connect(Arc::new(Identity { name: "anna".into(), groups: vec![] }));
        let running = Running {
            end: end.unwrap(),
            key: Key { signer: String::new(), id: "a".into() },
            request: frame(&Request::with_command("a", "work")),
            buffer: BytesMut::new(),
            room: FIRST_ROOM,
            finality: Finality::of("a"),
            is_answered: false,
            has_ended: false,
        };
        (door, running)
    }

    #[tokio::test(start_paused = true)]
    async fn the_final_response_is_found_behind_progress_that_the_server_holds() {
        let (_door, mut running) =
            running(async |_: Request<String>, context: kakehi_server::Context| {
                for _ in 0..3 {
                    context.progress("x".repeat(OUTPUT / 3)).await?;
                }
                Ok::<_, ChannelError>("done")
            });
        // The client gives no credit, so nothing is read.
        let mut cx = Context::from_waker(Waker::noop());
        assert!(running.poll(false, &mut cx).is_pending());
        let frames = running.unsent_final().await.expect("the handler has returned");
        let response: Response = serde_json::from_slice(last(&frames)).unwrap();
        assert_eq!(response.message, "done");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_writes_survives_60_s_without_a_broker() {
        struct Guard(Arc<AtomicBool>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let guard = Arc::clone(&is_over);
        let (_door, mut running) =
            running(async move |_: Request<String>, context: kakehi_server::Context| {
                let _guard = Guard(guard);
                loop {
                    context.progress("x".repeat(OUTPUT)).await?;
                }
                #[expect(unreachable_code, reason = "it says the type")]
                Ok::<_, ChannelError>("done")
            });
        for (seconds, expected) in [(85, false), (10, true)] {
            let wait = poll_fn(|cx| running.poll(false, cx));
            assert!(timeout(Duration::from_secs(seconds), wait).await.is_err(), "nothing is read");
            assert_eq!(is_over.load(Ordering::SeqCst), expected, "after {seconds} s");
        }
    }
}
