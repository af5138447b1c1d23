//! The outbox of a connection: encoded responses, shared by the connection and the handler.

#[cfg(test)]
mod tests;
mod watch;

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use kakehi_channel::{ChannelError, Refusal, Response, Status, VERSION, low_level::Buffer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::watch::Watch;
use crate::{
    Content, Limits, Peer, RunningRequest,
    running::{RunId, listed},
    shared::Shared,
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering},
};

/// The outbox is full at this size at first, in bytes. So the client gets the first messages of a
/// burst early.
const LOW_WATER: u16 = 1024;
/// The largest size at which the outbox is full, in bytes.
const HIGH_WATER: u16 = 16 * 1024;

/// How many other readers a request may have.
const MAX_WATCHES: usize = 16;

/// A request has as many other readers as it may have.
#[derive(Debug)]
pub(crate) struct TooManyReaders;

/// Encoded responses for one connection. It contains at most `mark` bytes, one more message and the
/// final response.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) peer: Peer,
    pub(crate) shared: Arc<Shared>,
    /// The number of the connection.
    connection: AtomicU64,
    /// The number of the last request that another request has cancelled.
    cancelled: AtomicU64,
    /// Whether progress must wake the connection. It is set under the lock of `state`, and cleared
    /// without the lock, because an unnecessary wake-up does no harm.
    parked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    frames: Buffer,
    /// The number of the last request.
    number: u64,
    /// The request without a final response. Progress of any other request is discarded.
    open: Option<u64>,
    id: String,
    /// The name of its command.
    command: Cow<'static, str>,
    /// The time when the request first had to wait. `None`: it has not waited yet.
    since: Option<Instant>,
    /// The caller that cancelled it, as text for the response.
    canceller: String,
    /// The readers of its responses, apart from its client.
    watches: Vec<Weak<Watch>>,
    /// The client reads nothing more.
    disconnected: bool,
    detached: bool,
    cancellation: Option<CancellationToken>,
    /// Replaces the server's limit for the last request.
    write_time: Option<Duration>,
    /// The size at which the outbox is full, in bytes. It doubles with each burst.
    mark: u16,
    high_water: u16,
    max_frame: usize,
    connection: Option<Waker>,
    /// The tasks that wait for room. They all belong to the handler.
    senders: Vec<Waker>,
}

impl Outbox {
    pub(crate) fn new(peer: Peer, limits: &Limits, shared: Arc<Shared>) -> Self {
        // The channel can hold the other half.
        let half = u16::try_from(limits.outgoing_bytes / 2).unwrap_or(u16::MAX);
        let high_water = half.clamp(1, HIGH_WATER);
        let state = State {
            // A full outbox, one message that was added before it was full, and the final response.
            frames: Buffer::new(
                LOW_WATER.into(),
                usize::from(high_water).saturating_add(limits.response_bytes.saturating_mul(2)),
            ),
            number: 0,
            open: None,
            id: String::new(),
            command: Cow::Borrowed(""),
            since: None,
            canceller: String::new(),
            watches: Vec::new(),
            disconnected: false,
            detached: false,
            cancellation: None,
            write_time: None,
            mark: LOW_WATER.min(high_water),
            high_water,
            max_frame: limits.response_bytes,
            connection: None,
            senders: Vec::new(),
        };
        Self {
            peer,
            shared,
            connection: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn set_connection(&self, number: u64) {
        self.connection.store(number, Ordering::Relaxed);
    }

    pub(crate) fn connection(&self) -> u64 {
        self.connection.load(Ordering::Relaxed)
    }

    /// Opens the outbox for the next request and returns its number.
    pub(crate) fn open(&self, id: &str, command: Cow<'static, str>) -> u64 {
        self.unpark();
        let state = &mut *self.lock();
        state.number += 1;
        state.id.clear();
        state.id.push_str(id);
        state.command = listed(command);
        state.since = None;
        state.open = Some(state.number);
        state.detached = false;
        state.cancellation = None;
        state.write_time = None;
        if state.frames.is_empty() {
            // A new burst starts.
            state.mark = LOW_WATER.min(state.high_water);
        }
        state.number
    }

    /// Appends progress when there is room. `None`: the request has its final response, or the client
    /// has disconnected.
    #[inline]
    pub(crate) fn poll_push<F: Default, T: Content<F> + ?Sized>(
        &self,
        number: u64,
        message: &str,
        content: Option<&T>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(), ChannelError>>> {
        let state = &mut *self.lock();
        if !state.takes(number) {
            return Poll::Ready(None);
        }
        if state.frames.len() < state.mark.into() {
            let pushed = self.push::<F, T>(state, message, content);
            // Readers other than the client do not slow the request down.
            return Poll::Ready(
                Some(pushed).filter(|pushed| !state.disconnected || pushed.is_err()),
            );
        }
        if !state.senders.iter().any(|sender| sender.will_wake(cx.waker())) {
            state.senders.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Appends a keep-alive for the request `number`, also to a full outbox.
    pub(crate) fn keep_alive<F: Default>(&self, number: u64) -> Result<(), ChannelError>
    where
        (): Content<F>,
    {
        let state = &mut *self.lock();
        if state.takes(number) { self.push::<F, ()>(state, "", None) } else { Ok(()) }
    }

    /// Appends the final response of the open request, unless it has one.
    pub(crate) fn close<F: Default, T: Content<F> + ?Sized>(
        &self,
        status: Status,
        message: &str,
        content: Option<&T>,
        refused: Option<Refusal>,
    ) -> Result<(), ChannelError> {
        let state = &mut *self.lock();
        if !state.open.is_some_and(|number| state.takes(number)) {
            return Ok(());
        }
        state.append::<F, T>(status, message, content, refused)?;
        state.open = None;
        Ok(())
    }

    /// Ends the open request with an ERROR. If the id makes the response too large, it is left out,
    /// because each request must get a final response.
    pub(crate) fn fail<F: Default>(&self, message: &str, refused: Option<Refusal>)
    where
        (): Content<F>,
    {
        // Under one lock, so that no progress is added with the changed id.
        let state = &mut *self.lock();
        if !state.open.is_some_and(|number| state.takes(number)) {
            return;
        }
        state.open = None;
        let Err(error) = state.append::<F, ()>(Status::Error, message, None, refused) else {
            return;
        };
        debug!(%error, "an ERROR is too large with its id");
        state.id.clear();
        if let Err(error) = state.append::<F, ()>(Status::Error, message, None, refused) {
            warn!(%error, "cannot send a final response");
        }
    }

    /// The token of the request. It is already cancelled if the request is not open.
    pub(crate) fn cancellation(&self, number: u64) -> CancellationToken {
        let state = &mut *self.lock();
        if state.open != Some(number) {
            let over = CancellationToken::new();
            over.cancel();
            return over;
        }
        state.cancellation.get_or_insert_default().clone()
    }

    /// Cancels the open request. Returns whether its handler has taken the token.
    pub(crate) fn cancel(&self) -> bool {
        let token = self.lock().cancellation.clone();
        token.inspect(CancellationToken::cancel).is_some()
    }

    pub(crate) fn detach_from_client(&self, number: u64) {
        let state = &mut *self.lock();
        state.detached |= state.open == Some(number);
    }

    pub(crate) fn set_write_time(&self, number: u64, time: Duration) {
        let state = &mut *self.lock();
        if state.open == Some(number) {
            state.write_time = Some(time);
        }
    }

    /// The write time of the last request, if its handler has set one.
    pub(crate) fn write_time(&self) -> Option<Duration> {
        self.lock().write_time
    }

    /// Cancels the request `number` on behalf of `by`. Returns whether it is the open one.
    pub(crate) fn cancel_by(&self, number: u64, by: &str) -> bool {
        let state = &mut *self.lock();
        if state.open != Some(number) {
            return false;
        }
        by.clone_into(&mut state.canceller);
        self.cancelled.store(number, Ordering::Relaxed);
        if let Some(connection) = state.connection.take() {
            connection.wake();
        }
        true
    }

    /// Whether another request has cancelled the request `number`.
    pub(crate) fn is_cancelled(&self, number: u64) -> bool {
        self.cancelled.load(Ordering::Relaxed) == number
    }

    /// Returns the caller that cancelled the last request, as text for the response.
    pub(crate) fn canceller(&self) -> String {
        self.lock().canceller.clone()
    }

    /// The running request, if there is one.
    pub(crate) fn running(&self) -> Option<RunningRequest> {
        let state = &*self.lock();
        let number = state.open?;
        Some(RunningRequest {
            run: self.run_id(number).to_string(),
            id: listed(state.id.as_str()).into_owned(),
            command: state.command.clone(),
            peer: self.peer.clone(),
            age: state.since.map(|since| since.elapsed()).unwrap_or_default(),
        })
    }

    /// The run id of the request `number`.
    pub(crate) fn run_id(&self, number: u64) -> RunId {
        RunId { connection: self.connection(), number }
    }

    /// Lets another reader see the responses of the request `number`. `None`: it is over.
    pub(crate) fn watch(&self, number: u64) -> Option<Result<Arc<Watch>, TooManyReaders>> {
        let state = &mut *self.lock();
        if state.open != Some(number) {
            return None;
        }
        state.watches.retain(|watch| watch.strong_count() > 0);
        if state.watches.len() >= MAX_WATCHES {
            return Some(Err(TooManyReaders));
        }
        let watch = Arc::new(Watch::default());
        state.watches.push(Arc::downgrade(&watch));
        Some(Ok(watch))
    }

    /// Discards all responses, because the client reads nothing more. Returns whether the open request
    /// is detached from the client.
    pub(crate) fn disconnect(&self) -> bool {
        let state = &mut *self.lock();
        state.disconnected = true;
        state.frames.reset();
        state.wake_senders();
        state.detached
    }

    /// Discards all responses and cancels the open request, because the connection has ended.
    pub(crate) fn abandon(&self) {
        self.disconnect();
        self.cancel();
        let state = &mut *self.lock();
        state.end_watches();
        state.frames.shrink();
        state.connection = None;
    }

    /// The connection will read the outbox before it waits, so progress need not wake it.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// The connection is about to wait: progress wakes it from now on. Releases unused memory. Returns
    /// whether the outbox is full.
    pub(crate) fn park(&self, waker: &Waker) -> bool {
        let state = &mut *self.lock();
        self.parked.store(true, Ordering::Relaxed);
        if state.open.is_some() && state.since.is_none() {
            state.since = Some(Instant::now());
        }
        state.frames.shrink();
        state.id.shrink_to(LOW_WATER.into());
        match &mut state.connection {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        state.open.is_some() && state.frames.len() >= state.mark.into()
    }

    /// Wakes the connection, because the server's phase has changed.
    pub(crate) fn wake(&self) {
        if let Some(connection) = self.lock().connection.take() {
            connection.wake();
        }
    }

    /// Whether the outbox is too full for the connection to read a further request.
    pub(crate) fn is_full(&self) -> bool {
        let state = &*self.lock();
        state.frames.len() >= state.high_water.into()
    }

    /// Passes all responses to `write` and wakes the tasks that wait for room.
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

    /// Appends progress and wakes the connection if it is parked.
    #[inline]
    fn push<F: Default, T: Content<F> + ?Sized>(
        &self,
        state: &mut State,
        message: &str,
        content: Option<&T>,
    ) -> Result<(), ChannelError> {
        state.append::<F, T>(Status::Processing, message, content, None)?;
        if self.parked.load(Ordering::Relaxed)
            && let Some(connection) = state.connection.take()
        {
            connection.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn takes(&self, number: u64) -> bool {
        self.open == Some(number) && (!self.disconnected || !self.watches.is_empty())
    }

    #[inline]
    fn append<F: Default, T: Content<F> + ?Sized>(
        &mut self,
        status: Status,
        message: &str,
        content: Option<&T>,
        refused: Option<Refusal>,
    ) -> Result<(), ChannelError> {
        let id = self.id.as_str();
        let response = Response { id, version: VERSION, status, message, content, refused };
        let before = self.frames.len();
        // The handler's `Serialize` may panic in the middle of a frame.
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            T::encode_frame(&mut F::default(), &response, &mut self.frames, self.max_frame)
        }));
        if !self.watches.is_empty() && matches!(encoded, Ok(Ok(()))) {
            self.show(before, status);
        }
        encoded.unwrap_or_else(|panic| {
            self.frames.truncate(before);
            resume_unwind(panic)
        })
    }

    /// Passes the response that starts at `before` to the readers.
    #[cold]
    fn show(&mut self, before: usize, status: Status) {
        let frame: Arc<[u8]> = self.frames.data().get(before..).unwrap_or_default().into();
        self.watches.retain(|watch| {
            let watch = watch.upgrade();
            watch.inspect(|watch| watch.push(&frame, status.is_final())).is_some()
        });
        if status.is_final() {
            self.watches.clear();
        }
        if self.disconnected {
            self.frames.truncate(before);
        }
    }

    /// The request has ended without a final response.
    fn end_watches(&mut self) {
        for watch in self.watches.drain(..).filter_map(|watch| watch.upgrade()) {
            watch.end();
        }
    }

    fn wake_senders(&mut self) {
        self.senders.drain(..).for_each(Waker::wake);
    }
}
