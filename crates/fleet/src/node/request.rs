//! One request on the node: between the broker and the server's stream.

use std::{
    future::pending,
    pin::{Pin, pin},
    sync::Arc,
};

use async_nats::{Message, StatusCode};
use bytes::{Buf, Bytes, BytesMut};
use futures::{FutureExt, SinkExt};
use kakehi_channel::Refusal;
use kakehi_server::Identity;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    exchange::Exchange,
    frames::{BATCH, Finality, last, refusal, take_batch, with_id},
    ids::{Key, Origin},
    largest,
    listener::{ClientEnd, pair},
    serving::Shared,
};
use crate::{
    life::GO_TIME,
    message::{Control, ControlKind, FromNode},
    names::{Accept, Asked},
    sign::{Purpose, signed_text},
};

/// A request that is accepted.
pub(super) struct Accepted {
    pub(super) shared: Arc<Shared>,
    pub(super) accept: Accept,
    pub(super) asked: Asked,
    pub(super) id: String,
    pub(super) payload: Bytes,
    /// Where the client listens.
    pub(super) inbox: String,
    pub(super) control: mpsc::Receiver<Message>,
    /// Held until the end.
    pub(super) place: OwnedSemaphorePermit,
    /// Held until GO.
    pub(super) unstarted: Option<OwnedSemaphorePermit>,
}

/// The next event of a request.
enum Event {
    Message(Message),
    /// So many bytes came from the server; 0: its stream has ended.
    Read(usize),
    /// So many bytes of the request were written to the server.
    Written(usize),
    Due,
}

/// A request that has GO.
struct Running {
    end: ClientEnd,
    key: Key,
    /// The part of the request that is not written yet.
    request: Bytes,
    buffer: BytesMut,
    finality: Finality,
}

impl Running {
    /// Reads the output of the server. Returns the batch with the final response, if it was
    /// written.
    fn unsent_final(&mut self) -> Option<Bytes> {
        loop {
            while let Some(frames) = take_batch(&mut self.buffer, BATCH) {
                if self.finality.is_final(last(&frames)) {
                    return Some(frames);
                }
            }
            self.buffer.reserve(BATCH);
            let read = self.end.stream.read_buf(&mut self.buffer).now_or_never();
            if !matches!(read, Some(Ok(1..))) {
                return None;
            }
        }
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
    let mut running = None;
    // Kept until the end, so that the server closes its connection after the response is on its way.
    let mut answered = None;
    let end = loop {
        accepted.publish(&mut exchange).await;
        let is_connected = accepted.shared.connection.is_connected();
        if let Some(end) = exchange.end(is_connected, Instant::now()) {
            break end;
        }
        // A probe may have become due.
        accepted.publish(&mut exchange).await;
        match next(&mut accepted.control, &exchange, running.as_mut(), timer.as_mut()).await {
            Event::Message(message) => {
                if accepted.message(&message, &mut exchange, &mut running).await {
                    answered = running.take();
                }
                if running.is_some() {
                    accepted.unstarted = None;
                }
            }
            Event::Read(0) => {
                if let Some(running) = running.take() {
                    accepted.ended_without_answer(&running, &mut exchange).await;
                }
            }
            Event::Read(_) => {
                if accepted.send(&mut exchange, &mut running).await {
                    answered = running.take();
                }
            }
            Event::Written(count) => {
                if let Some(running) = &mut running {
                    running.request.advance(count);
                }
            }
            Event::Due => {}
        }
    };
    debug!(accept = %accepted.accept, ?end, "a request of the fleet ended");
    accepted.shared.routes().remove(&number);
    if let Some(mut running) = running {
        // The handler may have ended while its response waited for credit.
        let response = running.unsent_final().map(|frames| last_frame(&frames, &accepted.id));
        let Running { end, key, .. } = running;
        // The server cancels the handler, or detaches it, before the disk is waited for.
        drop(end);
        accepted.shared.ledger.end(&key, &accepted.origin(), response).await;
    }
    drop((answered, accepted.place));
}

/// Waits for a message or a timer. Messages come first: a late timer must not overtake them.
async fn next(
    control: &mut mpsc::Receiver<Message>,
    exchange: &Exchange,
    running: Option<&mut Running>,
    mut timer: Pin<&mut Sleep>,
) -> Event {
    let due = exchange.wake_at().unwrap_or_else(Instant::now);
    // It may fire too early: then there is nothing to do.
    if timer.is_elapsed() || due < timer.deadline() {
        timer.as_mut().reset(due);
    }
    let has_credit = exchange.has_credit();
    let stream = async {
        let Some(running) = running else { return pending().await };
        let Running { end, request, buffer, .. } = running;
        let (mut reader, mut writer) = tokio::io::split(&mut end.stream);
        tokio::select! {
            biased;
            // A write fails when the server has closed the stream; the read reports it.
            written = writer.write(request), if !request.is_empty() => {
                Event::Written(written.unwrap_or(request.len()))
            }
            read = async {
                buffer.reserve(BATCH);
                reader.read_buf(buffer).await
            }, if has_credit => Event::Read(read.unwrap_or(0)),
            else => pending().await,
        }
    };
    tokio::select! {
        biased;
        Some(message) = control.recv() => Event::Message(message),
        event = stream => event,
        () = timer => Event::Due,
    }
}

impl Accepted {
    /// Publishes the accept.
    async fn accept(&self) -> Result<(), String> {
        let connection = &self.shared.connection;
        let (headers, nothing) = FromNode::Accept(self.accept.clone()).write();
        let reply = connection.subjects.control(&self.accept);
        connection.publish(self.inbox.clone(), Some(reply), headers, nothing).await
    }

    /// Handles a message of the client. `true`: the final response was sent.
    async fn message(
        &self,
        message: &Message,
        exchange: &mut Exchange,
        running: &mut Option<Running>,
    ) -> bool {
        let now = Instant::now();
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            exchange.unreachable(now);
            return false;
        }
        let Some(control) = message.headers.as_ref().and_then(Control::read) else { return false };
        if control.kind == ControlKind::Go && exchange.is_waiting() {
            self.go(&control, exchange, running).await;
            return false;
        }
        exchange.heard(&control, now);
        // The message may give credit for responses that were read before.
        self.send(exchange, running).await
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
        let (end, stream) = pair(identity);
        if self.shared.streams.clone().send(stream).await.is_err() {
            self.shared.ledger.end(&key, &self.origin(), None).await;
            return Err((Refusal::ShuttingDown, "the node is shutting down".to_owned()));
        }
        let finality = Finality::of(&self.id);
        let request = self.payload.clone();
        Ok(Running { end, key, request, buffer: BytesMut::new(), finality })
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

    /// Sends the responses that were read, while there is credit. `true`: the final response was
    /// sent.
    async fn send(&self, exchange: &mut Exchange, running: &mut Option<Running>) -> bool {
        let Some(running) = running else { return false };
        let most = largest(self.shared.connection.link.max_payload());
        while exchange.has_credit() {
            let Some(frames) = take_batch(&mut running.buffer, most) else { return false };
            let is_final = running.finality.is_final(last(&frames));
            let frames = if is_final { with_id(frames, &self.id) } else { frames };
            if is_final {
                self.keep(&running.key, &frames).await;
            }
            exchange.send(frames, is_final, Instant::now());
            if is_final {
                return true;
            }
        }
        false
    }

    /// The server has closed the stream: it ended, or its handler's future was dropped.
    async fn ended_without_answer(&self, running: &Running, exchange: &mut Exchange) {
        let response = kakehi_channel::Response::<()>::error(&self.id, "the node shut down");
        let frame = super::frames::frame(&response);
        self.keep(&running.key, &frame).await;
        exchange.send(frame, true, Instant::now());
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
            let reply = connection.subjects.control(&self.accept);
            let published =
                connection.publish(self.inbox.clone(), Some(reply), headers, payload).await;
            if let Err(error) = published {
                debug!(%error, "cannot publish");
            }
        }
    }
}
