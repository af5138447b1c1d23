//! The connections of a client: at most as many as there are slots, each used by one request at a
//! time.
//!
//! No task runs in the background. Connections that were idle for too long are closed when a
//! connection is taken or given back.

#[cfg(all(test, shuttle))]
mod model;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    io, mem,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use kakehi_channel::{
    BusyPoll, Channel, ChannelError, Decode, Encode, ErrorKind, Format, low_level::LowLevel,
};
use kakehi_time::Timer;
use rustix::net::RecvFlags;
// Under `--cfg shuttle`, a scheduler tries how threads may interleave: see `model.rs`.
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(shuttle))]
use std::sync::{Mutex, MutexGuard};
use tokio::{
    io::AsyncWrite,
    net::UnixStream,
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tracing::debug;

use crate::{
    connect::{Connector, Unconnected},
    error::{Kind, WaitingFor},
    stats::{ClientStats, Counters},
    timers::limit,
};

/// How long the pool takes a connection that was given back as alive without a system call. A
/// write finds a connection that the server closed in that time before anything is sent.
const TRUSTED: Duration = Duration::from_millis(1);

/// An open connection: a channel, and the timer of the requests on it. It carries messages of any
/// types that its format can encode and decode.
pub(crate) struct Transport<F, S> {
    /// Boxed, so that moving it between a pool and a request costs next to nothing.
    pub(crate) channel: Box<Channel<(), (), F, BusyPoll<S>>>,
    pub(crate) timer: Timer,
    /// A request was staged on it.
    is_used: bool,
    /// The next request is the first one.
    is_fresh: bool,
}

impl<F, S> Transport<F, S> {
    pub(crate) fn new<Tx, Rx>(channel: Channel<Tx, Rx, F, BusyPoll<S>>) -> Self {
        let channel = Box::new(channel.with_messages());
        Self { channel, timer: Timer::default(), is_used: false, is_fresh: true }
    }

    pub(crate) fn stage<Tx>(&mut self, message: &Tx) -> Result<(), ChannelError>
    where
        F: Encode<Tx>,
        S: AsyncWrite + Unpin,
    {
        let staged = self.channel.stage(message);
        self.is_used |= staged.is_ok();
        // A message that cannot be encoded does not use the connection.
        self.is_fresh = !self.is_used;
        staged
    }

    /// After a final response: whether nothing follows it, as far as was read.
    pub(crate) fn is_clean(&self) -> bool {
        // A channel that has written all and has nothing left to decode holds no memory.
        self.channel.memory() == 0
    }

    /// Before a request: whether the connection is open, with nothing to be read.
    ///
    /// It does not see events that the runtime has not yet received. The write finds a connection
    /// that has ended.
    pub(crate) fn check<Rx>(&mut self) -> Result<(), Kind>
    where
        F: Decode<Rx>,
        S: tokio::io::AsyncRead + Unpin,
    {
        // A response before any request is a refusal, which answers the first request.
        if mem::take(&mut self.is_fresh) {
            return Ok(());
        }
        match self.channel.poll_message::<Rx>(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending if self.is_clean() => Ok(()),
            Poll::Ready(None) => Err(ChannelError::disconnected().into()),
            Poll::Ready(Some(Err(error))) if error.kind() == ErrorKind::Disconnected => {
                Err(error.into())
            }
            Poll::Pending | Poll::Ready(Some(_)) => Err(Kind::Unexpected),
        }
    }
}

impl<F, S: fmt::Debug> fmt::Debug for Transport<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.fmt(f)
    }
}

/// Makes and checks the connections `T` of a pool. A trait object, because a request may be on any
/// byte stream, and only a pool knows that its own are Unix sockets.
pub(crate) trait Dial<T>: Send + Sync {
    /// Connects once.
    fn dial(&self) -> Dialing<T>;

    /// Whether an idle connection is open, with nothing to be read.
    fn is_silent(&self, transport: &T) -> bool;
}

type Dialing<T> = Pin<Box<dyn Future<Output = Result<T, Unconnected>> + Send>>;

impl<F: Format + Default + Send + 'static> Dial<Transport<F, UnixStream>> for Connector {
    fn dial(&self) -> Dialing<Transport<F, UnixStream>> {
        let connector = self.clone();
        Box::pin(async move { connector.connect::<(), (), F>().await.map(Transport::new) })
    }

    fn is_silent(&self, transport: &Transport<F, UnixStream>) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(transport.channel.get_ref(), &mut [0_u8; 1], flags);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The state that all requests of one client share. `T` is a connection.
pub(crate) struct Pool<T> {
    pub(crate) connector: Connector,
    pub(crate) counters: Counters,
    dial: Box<dyn Dial<T>>,
    size: usize,
    idle_time: Option<Duration>,
    /// One permit for each connection that may be open.
    slots: Arc<Semaphore>,
    /// The last one used is at the back and taken first, so that the others can expire.
    idle: Mutex<Idle<T>>,
}

struct Idle<T> {
    transports: VecDeque<(T, Instant)>,
    /// No request will take one any more.
    is_closed: bool,
}

impl<T> Pool<T> {
    pub(crate) fn new(connector: Connector, dial: impl Dial<T> + 'static) -> Self {
        let size = connector.settings.pool_size.clamp(1, Semaphore::MAX_PERMITS);
        let idle_time = limit(connector.settings.idle_time);
        Self {
            connector,
            counters: Counters::default(),
            dial: Box::new(dial),
            size,
            idle_time,
            slots: Arc::new(Semaphore::new(size)),
            idle: Mutex::new(Idle { transports: VecDeque::new(), is_closed: false }),
        }
    }

    pub(crate) fn stats(&self) -> ClientStats {
        let idle = self.idle().transports.len();
        let busy = self.size - self.slots.available_permits();
        ClientStats { idle, busy, ..self.counters.stats() }
    }

    /// Closes the idle connections, and each other one when it is given back.
    pub(crate) fn close(&self) {
        let mut idle = self.idle();
        idle.is_closed = true;
        let transports = mem::take(&mut idle.transports);
        // Connections are always closed after the lock is released.
        drop(idle);
        drop(transports);
    }

    /// An idle connection that is alive.
    fn take(&self, now: Instant) -> Option<T> {
        loop {
            let (transport, since) = self.pop(now)?;
            // `now` may be when the request was made, and that may be earlier.
            let idle = now.checked_duration_since(since);
            if idle.is_some_and(|idle| idle < TRUSTED) || self.dial.is_silent(&transport) {
                return Some(transport);
            }
            debug!("an idle connection has ended, or has something to be read");
        }
    }

    fn put(&self, transport: T, now: Instant) {
        let mut idle = self.idle();
        idle.transports.push_back((transport, now));
        let expired = self.expired(&mut idle, now);
        drop(idle);
        drop(expired);
    }

    fn pop(&self, now: Instant) -> Option<(T, Instant)> {
        let mut idle = self.idle();
        let expired = self.expired(&mut idle, now);
        let transport = idle.transports.pop_back();
        drop(idle);
        drop(expired);
        transport
    }

    /// Removes connections that have been idle for too long.
    fn expired(&self, idle: &mut Idle<T>, now: Instant) -> Vec<(T, Instant)> {
        if idle.is_closed {
            return mem::take(&mut idle.transports).into();
        }
        let is_old = |(_, since): &(T, Instant)| {
            self.idle_time.is_some_and(|limit| now.duration_since(*since) > limit)
        };
        // Mostly none is: this keeps the drain off the way of each request.
        if !idle.transports.front().is_some_and(is_old) {
            return Vec::new();
        }
        let count = idle.transports.iter().take_while(|transport| is_old(transport)).count();
        idle.transports.drain(..count).collect()
    }

    /// Never held while waiting, and nothing under it can panic.
    fn idle(&self) -> MutexGuard<'_, Idle<T>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of one request in a pool. Dropping it frees the slot.
pub(crate) struct Slot<T> {
    pub(crate) pool: Arc<Pool<T>>,
    is_held: bool,
    step: Step<T>,
    /// How often the request could not be sent or was refused, and the last cause.
    failures: u32,
    cause: Option<Box<Unconnected>>,
}

/// The next step on the way to a connection.
enum Step<T> {
    Hold,
    Holding(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>),
    Backoff(Pin<Box<Sleep>>),
    Take,
    Dialing(Dialing<T>),
}

impl<T> Slot<T> {
    pub(crate) fn new(pool: &Arc<Pool<T>>) -> Self {
        let pool = Arc::clone(pool);
        Self { pool, is_held: false, step: Step::Hold, failures: 0, cause: None }
    }

    /// An idle connection that is alive, if there is one and a slot is free. `None` after a failure,
    /// because the next attempt backs off first.
    pub(crate) fn try_take(&mut self, now: Instant) -> Option<T> {
        if self.failures > 0 {
            return None;
        }
        if !self.is_held {
            self.pool.slots.try_acquire().ok()?.forget();
            self.is_held = true;
        }
        self.pool.take(now)
    }

    /// Waits for a free slot in FIFO order, then for a connection. `true`: it was idle, and may
    /// have ended since.
    pub(crate) fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(T, bool), Unconnected>> {
        loop {
            self.step = match &mut self.step {
                Step::Hold if self.is_held => self.back_off(),
                Step::Hold => Step::Holding(Box::pin(Arc::clone(&self.pool.slots).acquire_owned())),
                Step::Holding(permit) => {
                    // The semaphore is never closed.
                    if let Ok(permit) = ready!(permit.as_mut().poll(cx)) {
                        permit.forget();
                        self.is_held = true;
                    }
                    Step::Hold
                }
                Step::Backoff(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    Step::Take
                }
                Step::Take => match self.pool.take(Instant::now()) {
                    Some(transport) => {
                        self.step = Step::Hold;
                        return Poll::Ready(Ok((transport, true)));
                    }
                    None => Step::Dialing(self.pool.dial.dial()),
                },
                Step::Dialing(dialing) => {
                    let dialed = ready!(dialing.as_mut().poll(cx));
                    self.step = Step::Hold;
                    match dialed {
                        Ok(transport) => {
                            debug!(path = %self.pool.connector.path.display(), "connected");
                            self.pool.counters.count_opened();
                            return Poll::Ready(Ok((transport, false)));
                        }
                        Err(error) if self.reconnects() && error.may_pass() => {
                            debug!(%error, "trying again");
                            self.retry(Some(error));
                            Step::Hold
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            };
        }
    }

    fn back_off(&self) -> Step<T> {
        match self.pool.connector.settings.reconnect.filter(|_| self.failures > 0) {
            Some(policy) => Step::Backoff(Box::pin(sleep(policy.delay(self.failures)))),
            None => Step::Take,
        }
    }

    /// Whether the client reconnects.
    pub(crate) fn reconnects(&self) -> bool {
        self.pool.connector.settings.reconnect.is_some()
    }

    /// An attempt failed: backs off before the next one.
    pub(crate) fn retry(&mut self, cause: Option<Unconnected>) {
        self.failures = self.failures.saturating_add(1);
        if let Some(cause) = cause {
            self.cause = Some(Box::new(cause));
        }
    }

    /// The present wait, and why the last attempt failed.
    pub(crate) fn waiting_for(&mut self) -> (WaitingFor, Option<Box<Unconnected>>) {
        let waiting_for = if self.is_held { WaitingFor::Connection } else { WaitingFor::Slot };
        (waiting_for, self.cause.take())
    }

    /// Makes the connection idle, for the next request.
    pub(crate) fn give_back(&mut self, transport: T, now: Instant) {
        self.pool.put(transport, now);
        self.release();
    }

    /// Frees the slot: its connection is closed or was given back.
    pub(crate) fn release(&mut self) {
        self.step = Step::Hold;
        if mem::take(&mut self.is_held) {
            self.pool.slots.add_permits(1);
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.release();
    }
}

/// Where a request gets its connection from, and gives it back to.
pub(crate) enum Source<'c, T> {
    /// A [`Connection`](crate::Connection).
    Own(&'c mut Option<T>),
    Pool(Slot<T>),
}

impl<T> Source<'_, T> {
    pub(crate) fn give_back(&mut self, transport: T, now: Instant) {
        match self {
            Self::Own(own) => **own = Some(transport),
            Self::Pool(slot) => slot.give_back(transport, now),
        }
    }

    /// The slot, if the connection is of a pool.
    pub(crate) fn slot(&mut self) -> Option<&mut Slot<T>> {
        match self {
            Self::Own(_) => None,
            Self::Pool(slot) => Some(slot),
        }
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("path", &self.connector.path)
            .field("size", &self.size)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
