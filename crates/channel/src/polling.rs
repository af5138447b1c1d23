//! Polling on for a moment before going to sleep.
//!
//! An idle core takes 15 to 20 µs to wake up, twice a call: far longer than a small request takes.
//! So who expects a message looks for it for a moment, past the runtime, and gives the other tasks
//! their turn in between.

#[cfg(test)]
mod tests;

use std::{
    io, mem,
    num::NonZeroU64,
    pin::pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Context,
    thread,
    time::{Duration, Instant},
};

use tokio::{io::ReadBuf, task::yield_now};

/// How long a client and a server poll for the next message, before they sleep, by default.
///
/// ```
/// assert_eq!(kakehi_channel::BUSY_POLL.as_micros(), 50);
/// ```
pub const BUSY_POLL: Duration = Duration::from_micros(50);

/// Reads what has come into the bytes, at once and past the runtime; how many they were. 0 is the
/// end of the stream, [`io::ErrorKind::WouldBlock`] is that there is nothing.
///
/// ```
/// use kakehi_channel::TryRead;
/// use tokio::net::UnixStream;
///
/// let never: TryRead<UnixStream> = |_, _| Err(std::io::ErrorKind::WouldBlock.into());
/// # let _ = never;
/// ```
pub type TryRead<S> = fn(&S, &mut [u8]) -> io::Result<usize>;

/// How long a turn is, in µs: then others have theirs. It is twice as long each time that nobody
/// had anything to do, since to ask for the others takes a system call.
const TURN: u8 = 4;
const LONGEST_TURN: u8 = 16;
/// Who comes back so many µs after giving up its turn has others beside it that have work.
const CROWDED: u32 = 10;
/// What is looked for at first, in bytes: mostly a message is small.
const FIRST: usize = 1024;

/// Decides when to poll, for one connection. It starts asleep, and polls while that pays: where
/// messages come soon, and nobody else wants the core.
///
/// Small, since most connections are idle: times are in µs.
pub(crate) struct Poller<S> {
    try_read: TryRead<S>,
    patience: u32,
    /// Since when a message is expected.
    since: Option<Instant>,
    /// How long after that it gave up its turn; 0 if it did not.
    away_since: u32,
    lease: Option<Lease>,
    /// How long its next turn is.
    turn: u8,
    /// Whether the last message came soon.
    pays: bool,
    /// For how many messages it sleeps, after polling in vain.
    penalty: u8,
    skip: u8,
}

/// How one turn of polling ended.
pub(crate) enum Turn {
    /// With bytes.
    Read,
    /// The task is woken once the others had their turn.
    Later,
    /// The stream itself is to be asked, and to be waited for.
    Over,
}

impl<S> Poller<S> {
    pub(crate) fn new(patience: Duration, try_read: TryRead<S>) -> Self {
        Self {
            try_read,
            patience: micros(patience),
            since: None,
            away_since: 0,
            lease: None,
            turn: TURN,
            pays: false,
            penalty: 0,
            skip: 0,
        }
    }

    /// A message may come soon. Says whether it is polled for.
    pub(crate) fn expect(&mut self) -> bool {
        (self.since, self.away_since, self.lease) = (None, 0, None);
        let sleeps = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        if sleeps && self.pays {
            // Nothing is to be learnt: not even a look at the clock.
            return false;
        }
        let now = Instant::now();
        self.since = Some(now);
        if self.pays {
            self.lease = Lease::take(now, 2 * self.patience());
        }
        self.lease.is_some()
    }

    /// Looks for the message that is expected.
    pub(crate) fn turn(
        &mut self,
        stream: &S,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Turn {
        let (Some(since), Some(_)) = (self.since, &self.lease) else { return Turn::Over };
        let start = Instant::now();
        let is_crowded = self.came_back(micros(start - since));
        loop {
            match self.read(stream, buffer) {
                Ok(0) => {}
                Ok(_) => {
                    self.end(!is_crowded);
                    return Turn::Read;
                }
                // The end, and what goes wrong, is the stream's to tell.
                Err(_) => {
                    self.lease = None;
                    return Turn::Over;
                }
            }
            let now = Instant::now();
            if is_crowded || now - since >= self.patience() {
                self.end(false);
                self.since = Some(since);
                return Turn::Over;
            }
            if micros(now - start) >= self.turn.into() {
                self.away_since = micros(now - since);
                // Once polled, it has the task woken after the others.
                let _ = pin!(yield_now()).poll(cx);
                return Turn::Later;
            }
            std::hint::spin_loop();
        }
    }

    /// Whether others had work when it gave up its turn, `now` after it began to expect a message.
    fn came_back(&mut self, now: u32) -> bool {
        let away_since = mem::take(&mut self.away_since);
        if away_since == 0 {
            return false;
        }
        let is_crowded = now - away_since >= CROWDED;
        self.turn = if is_crowded { TURN } else { LONGEST_TURN.min(2 * self.turn) };
        is_crowded
    }

    /// The stream itself had something: whether that came soon is worth knowing.
    pub(crate) fn came(&mut self) {
        if let Some(since) = self.since.take() {
            // Being asleep takes its time too.
            self.pays = since.elapsed() < 2 * self.patience();
            self.lease = None;
        }
    }

    /// Reads all that there is; 0 if there is nothing.
    fn read(&self, stream: &S, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut all = 0;
        loop {
            let size = buffer.remaining().min(FIRST.max(4 * all));
            if size == 0 {
                return Ok(all);
            }
            match (self.try_read)(stream, buffer.initialize_unfilled_to(size)) {
                Ok(0) if all == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer.advance(read);
                    all += read;
                    if read < size {
                        return Ok(all);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(_) if all > 0 => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_micros(self.patience.into())
    }

    fn end(&mut self, paid: bool) {
        self.since = None;
        self.lease = None;
        self.penalty = if paid { 0 } else { self.penalty.saturating_mul(2).saturating_add(1) };
        self.skip = self.penalty;
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// So many connections of a process may poll at once: half of the cores that it may use, and none
/// if there is but one. A lease ends by itself, since a future may be left alone for ever. It is
/// known by its end, in ns: each byte of a connection counts, and of two with one end, either is as
/// good.
struct Lease(NonZeroU64);

const MOST: usize = 16;
static LEASES: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
static START: LazyLock<(Instant, usize)> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (Instant::now(), cores / 2)
});

/// Whether any connection of this process ever polls.
pub(crate) fn is_possible() -> bool {
    START.1 > 0
}

impl Lease {
    fn take(now: Instant, time: Duration) -> Option<Self> {
        let (start, count) = *START;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(start));
        let end = NonZeroU64::MIN.saturating_add(now.saturating_add(nanos(time)));
        LEASES.iter().take(count).find_map(|place| {
            let held_until = place.load(Ordering::Relaxed);
            let is_free = held_until == 0 || held_until < now;
            (is_free && change(place, held_until, end.get())).then_some(Self(end))
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Once it has ended, its place may be another's.
        let end = self.0.get();
        let place = LEASES.iter().find(|place| place.load(Ordering::Relaxed) == end);
        if let Some(place) = place {
            change(place, end, 0);
        }
    }
}

fn change(place: &AtomicU64, from: u64, to: u64) -> bool {
    place.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
