//! What a connection and its handler share: the responses that wait to be written, and the word
//! to stop.

#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use kakehi_channel::{Buffer, Error, Refusal, Response, Status, VERSION};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Content, Limits, Peer,
    sync::{Mutex, MutexGuard},
};

/// What makes the first burst after a wait full, in bytes: the client has the first messages
/// early and works while more are made.
const LOW_WATER: u16 = 1024;
/// What makes any burst full, in bytes.
const HIGH_WATER: u16 = 16 * 1024;

/// Encoded responses on their way to the connection's channel, at most one water mark, one message
/// and the final one of them.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) peer: Peer,
    /// Cancelled once the server begins to end.
    pub(crate) ending: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    frames: Buffer,
    /// How many requests there were.
    serial: u64,
    /// The one that still wants responses; a context of another one has come too late.
    open: Option<u64>,
    id: String,
    /// Whether the client still reads.
    deaf: bool,
    outlives_client: bool,
    cancellation: Option<CancellationToken>,
    /// How much makes it full.
    mark: u16,
    high_water: u16,
    max_frame: usize,
    /// The connection is looking after the outbox by itself just now.
    attended: bool,
    connection: Option<Waker>,
    /// Those who wait for room; no more than the handler has tasks.
    senders: Vec<Waker>,
}

impl Outbox {
    pub(crate) fn new(peer: Peer, limits: &Limits, ending: CancellationToken) -> Self {
        // As much again may be in the channel, on its way into the socket.
        let half = u16::try_from(limits.outgoing_bytes / 2).unwrap_or(u16::MAX);
        let high_water = half.clamp(1, HIGH_WATER);
        let state = State {
            // What makes it full, a message that found it not yet full, and the final one.
            frames: Buffer::new(
                LOW_WATER.into(),
                usize::from(high_water).saturating_add(limits.response_bytes.saturating_mul(2)),
            ),
            serial: 0,
            open: None,
            id: String::new(),
            deaf: false,
            outlives_client: false,
            cancellation: None,
            mark: LOW_WATER.min(high_water),
            high_water,
            max_frame: limits.response_bytes,
            attended: true,
            connection: None,
            senders: Vec::new(),
        };
        Self { peer, ending, state: Mutex::new(state) }
    }

    /// Starts answering the next request; the number is for its context. The connection has the
    /// floor from here on.
    pub(crate) fn open(&self, id: &str) -> u64 {
        let state = &mut *self.lock();
        state.serial += 1;
        state.id.clear();
        state.id.push_str(id);
        state.open = Some(state.serial);
        state.outlives_client = false;
        state.cancellation = None;
        state.attended = true;
        if state.frames.is_empty() {
            // What is sent from here on is a new burst.
            state.mark = LOW_WATER.min(state.high_water);
        }
        state.serial
    }

    /// Appends progress once there is room for one more message; ready with `None` when nobody
    /// wants it.
    #[inline]
    pub(crate) fn poll_push<F: Default, T: Content<F> + ?Sized>(
        &self,
        serial: u64,
        message: &str,
        content: Option<&T>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(), Error>>> {
        let state = &mut *self.lock();
        if !state.takes(serial) {
            return Poll::Ready(None);
        }
        if state.frames.len() < state.mark.into() {
            return Poll::Ready(Some(state.push::<F, T>(message, content)));
        }
        if !state.senders.iter().any(|sender| sender.will_wake(cx.waker())) {
            state.senders.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Tells the client that the request `serial` is still worked on, whether there is room or not.
    pub(crate) fn keep_alive<F: Default>(&self, serial: u64) -> Result<(), Error>
    where
        (): Content<F>,
    {
        let state = &mut *self.lock();
        if state.takes(serial) { state.push::<F, ()>("", None) } else { Ok(()) }
    }

    /// Appends the final response to the open request, if it still wants one.
    pub(crate) fn close<F: Default, T: Content<F> + ?Sized>(
        &self,
        status: Status,
        message: &str,
        content: Option<&T>,
        refused: Option<Refusal>,
    ) -> Result<(), Error> {
        let state = &mut *self.lock();
        if !state.open.is_some_and(|serial| state.takes(serial)) {
            return Ok(());
        }
        state.append::<F, T>(status, message, content, refused)?;
        state.open = None;
        Ok(())
    }

    /// Ends the open request in ERROR. If that is too large, it is for the id, which then is not
    /// told: a request must not go without an answer.
    pub(crate) fn fail<F: Default>(&self, message: &str, refused: Option<Refusal>)
    where
        (): Content<F>,
    {
        // In one step: no progress may come between with another id, or with none.
        let state = &mut *self.lock();
        if !state.open.is_some_and(|serial| state.takes(serial)) {
            return;
        }
        state.open = None;
        let Err(error) = state.append::<F, ()>(Status::Error, message, None, refused) else {
            return;
        };
        debug!(%error, "an ERROR is too large with its id");
        state.id.clear();
        if let Err(error) = state.append::<F, ()>(Status::Error, message, None, refused) {
            warn!(%error, "a final answer could not be sent");
        }
    }

    /// The open request's token, cancelled if the request is over.
    pub(crate) fn cancellation(&self, serial: u64) -> CancellationToken {
        let state = &mut *self.lock();
        if state.open != Some(serial) {
            let over = CancellationToken::new();
            over.cancel();
            return over;
        }
        state.cancellation.get_or_insert_default().clone()
    }

    /// Cancels the open request. `false`: its handler does not listen to that.
    pub(crate) fn cancel(&self) -> bool {
        let token = self.lock().cancellation.clone();
        token.inspect(CancellationToken::cancel).is_some()
    }

    pub(crate) fn outlive_client(&self, serial: u64) {
        let state = &mut *self.lock();
        state.outlives_client |= state.open == Some(serial);
    }

    /// The client reads no more. Says whether the open request goes on nevertheless.
    pub(crate) fn client_left(&self) -> bool {
        let state = &mut *self.lock();
        state.deaf = true;
        state.frames.reset();
        state.wake_senders();
        state.outlives_client
    }

    /// The connection is gone: nobody writes what waits, or makes room for more.
    pub(crate) fn abandon(&self) {
        self.client_left();
        self.cancel();
        let state = &mut *self.lock();
        state.frames.shrink();
        state.connection = None;
    }

    /// The connection takes the floor: nobody needs to wake it.
    pub(crate) fn attend(&self) {
        self.lock().attended = true;
    }

    /// The connection is about to wait: gives memory back that nothing is in. Says whether a
    /// sender waits for room.
    pub(crate) fn leave(&self, waker: &Waker) -> bool {
        let state = &mut *self.lock();
        state.attended = false;
        state.frames.shrink();
        state.id.shrink_to(LOW_WATER.into());
        match &mut state.connection {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        state.open.is_some() && state.frames.len() >= state.mark.into()
    }

    /// Wakes the connection, for it to look at the server's phase.
    pub(crate) fn wake(&self) {
        if let Some(connection) = self.lock().connection.take() {
            connection.wake();
        }
    }

    /// Whether so much waits that no more is to be asked for.
    pub(crate) fn is_full(&self) -> bool {
        let state = &*self.lock();
        state.frames.len() >= state.high_water.into()
    }

    /// Hands all that waits to `write`, and makes room for senders.
    pub(crate) fn drain(&self, write: impl FnOnce(&mut Buffer)) {
        let state = &mut *self.lock();
        if state.frames.is_empty() {
            return;
        }
        if state.frames.len() >= state.mark.into() {
            state.mark = state.mark.saturating_mul(2).min(state.high_water);
        }
        write(&mut state.frames);
        state.wake_senders();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn takes(&self, serial: u64) -> bool {
        self.open == Some(serial) && !self.deaf
    }

    /// Appends progress, and has it written.
    #[inline]
    fn push<F: Default, T: Content<F> + ?Sized>(
        &mut self,
        message: &str,
        content: Option<&T>,
    ) -> Result<(), Error> {
        self.append::<F, T>(Status::Processing, message, content, None)?;
        if !self.attended
            && let Some(connection) = self.connection.take()
        {
            connection.wake();
        }
        Ok(())
    }

    #[inline]
    fn append<F: Default, T: Content<F> + ?Sized>(
        &mut self,
        status: Status,
        message: &str,
        content: Option<&T>,
        refused: Option<Refusal>,
    ) -> Result<(), Error> {
        let id = self.id.as_str();
        let response = Response { id, version: VERSION, status, message, content, refused };
        let before = self.frames.len();
        // The content's serialization is the handler's code: it may panic half-way.
        catch_unwind(AssertUnwindSafe(|| {
            T::encode_frame(&mut F::default(), &response, &mut self.frames, self.max_frame)
        }))
        .unwrap_or_else(|panic| {
            self.frames.truncate(before);
            resume_unwind(panic)
        })
    }

    fn wake_senders(&mut self) {
        self.senders.drain(..).for_each(Waker::wake);
    }
}
