//! When a stream polls, and for how long.

use std::{
    io, mem,
    pin::pin,
    task::Context,
    time::{Duration, Instant},
};

use tokio::{io::ReadBuf, task::yield_now};

use crate::{ReadNow, lease::Lease};

/// The shortest turn, in µs. Other tasks run between two turns. A turn doubles each time that no
/// other task was ready, since yielding takes a system call.
pub(crate) const TURN: u8 = 4;
pub(crate) const LONGEST_TURN: u8 = 16;
/// If the task runs again only after so many µs, other tasks have work.
pub(crate) const CROWDED: u32 = 10;
/// The size of the first read, in bytes: most messages are small.
const FIRST: usize = 1024;

/// Decides when one stream polls. It starts asleep, and polls while bytes arrive soon and no other
/// task needs the core.
///
/// All times are in µs, to keep idle connections small.
pub(crate) struct Poller {
    time: u32,
    /// When bytes were first expected.
    since: Option<Instant>,
    /// How long after `since` the last turn ended; 0 if none did.
    pub(crate) away_since: u32,
    lease: Option<Lease>,
    /// The length of the next turn.
    pub(crate) turn: u8,
    /// The last bytes arrived soon.
    pays: bool,
    /// How many expected reads are not polled for after the last fruitless poll.
    penalty: u8,
    skip: u8,
}

/// How one turn ended.
pub(crate) enum Turn {
    /// Bytes were read.
    Read,
    /// The task is woken after other tasks ran.
    Later,
    /// Polling is over: the stream is to be read, and to be waited for.
    Over,
}

impl Poller {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            time: micros(time),
            since: None,
            away_since: 0,
            lease: None,
            turn: TURN,
            pays: false,
            penalty: 0,
            skip: 0,
        }
    }

    /// Bytes may arrive soon. Returns whether they are polled for.
    pub(crate) fn expect(&mut self) -> bool {
        (self.since, self.away_since, self.lease) = (None, 0, None);
        let sleeps = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        if sleeps && self.pays {
            // Saves the system call for the time.
            return false;
        }
        let now = Instant::now();
        self.since = Some(now);
        if self.pays {
            self.lease = Lease::take(now, 2 * self.time());
        }
        self.lease.is_some()
    }

    /// Polls for the expected bytes, for one turn.
    pub(crate) fn turn<S>(
        &mut self,
        read_now: ReadNow<S>,
        stream: &S,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Turn {
        let (Some(since), Some(_)) = (self.since, &self.lease) else { return Turn::Over };
        let start = Instant::now();
        let is_crowded = self.came_back(micros(start - since));
        loop {
            match read(read_now, stream, buffer) {
                Ok(0) => {}
                Ok(_) => {
                    self.end(!is_crowded);
                    return Turn::Read;
                }
                // The stream itself reports its end and its errors.
                Err(_) => {
                    self.lease = None;
                    return Turn::Over;
                }
            }
            let now = Instant::now();
            if is_crowded || now - since >= self.time() {
                self.end(false);
                self.since = Some(since);
                return Turn::Over;
            }
            if micros(now - start) >= self.turn.into() {
                self.away_since = micros(now - since);
                // One poll is enough: the runtime wakes the task after the others.
                let _ = pin!(yield_now()).poll(cx);
                return Turn::Later;
            }
            std::hint::spin_loop();
        }
    }

    /// Whether other tasks had work since the last turn ended. `now` is the time after `since`.
    pub(crate) fn came_back(&mut self, now: u32) -> bool {
        let away_since = mem::take(&mut self.away_since);
        if away_since == 0 {
            return false;
        }
        let is_crowded = now - away_since >= CROWDED;
        self.turn = if is_crowded { TURN } else { LONGEST_TURN.min(2 * self.turn) };
        is_crowded
    }

    /// The stream itself had bytes. Records whether they arrived soon.
    pub(crate) fn came(&mut self) {
        if let Some(since) = self.since.take() {
            // Twice the time, because waking up takes time too.
            self.pays = since.elapsed() < 2 * self.time();
            self.lease = None;
        }
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.time.into())
    }

    fn end(&mut self, paid: bool) {
        self.since = None;
        self.lease = None;
        self.penalty = if paid { 0 } else { self.penalty.saturating_mul(2).saturating_add(1) };
        self.skip = self.penalty;
    }
}

/// Reads all that is there; 0 if nothing is. The end of the stream is an error.
pub(crate) fn read<S>(
    read_now: ReadNow<S>,
    stream: &S,
    buffer: &mut ReadBuf<'_>,
) -> io::Result<usize> {
    let mut all = 0;
    loop {
        let size = buffer.remaining().min(FIRST.max(4 * all));
        if size == 0 {
            return Ok(all);
        }
        match read_now(stream, buffer.initialize_unfilled_to(size)) {
            Ok(0) if all == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.advance(count);
                all += count;
                if count < size {
                    return Ok(all);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
            Err(_) if all > 0 => return Ok(all),
            Err(error) => return Err(error),
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
