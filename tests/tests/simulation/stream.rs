//! One end of a link: a byte stream that moves random amounts of bytes at random times.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    link::Side,
    plan::milliseconds,
    world::{State, World},
};

pub(crate) struct Stream {
    world: World,
    pub(crate) number: usize,
    side: Side,
    rng: Rng,
    manner: Manner,
    pieces: u32,
    /// The timers that delay a read or a write that could proceed.
    lags: [Option<Pin<Box<Sleep>>>; 2],
}

/// How a stream moves bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The largest piece.
    most: usize,
    /// The probability of a delay, in percent.
    idles: u32,
    /// The longest delay, in milliseconds.
    lag: u64,
}

impl Manner {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let most = [1 + rng.usize(..8), 1 + rng.usize(..100), 500, 4096][rng.usize(..4)];
        let lag = rng.u64(0..=10);
        Self { most, idles: [0, 0, 10, 50][rng.usize(..4)], lag }
    }
}

impl Stream {
    pub(crate) fn new(world: World, number: usize, side: Side, mut rng: Rng) -> Self {
        let manner = Manner::draw(&mut rng);
        Self { world, number, side, rng, manner, pieces: 0, lags: [None, None] }
    }

    /// Whether the other side has closed both directions.
    pub(crate) fn is_alone(&self) -> bool {
        self.world.lock().links[self.number].left(self.side.other()).is_some()
    }

    pub(crate) fn uid(&self) -> u32 {
        self.world.lock().links[self.number].uid
    }

    /// Records that the server has accepted the connection.
    pub(crate) fn is_accepted(&self) {
        let state = &mut *self.world.lock();
        state.court.journal.note("accepted", self.number as u64, 0);
        state.links[self.number].is_served = true;
    }

    /// Writes all bytes at once, as a new socket accepts them.
    pub(crate) fn write_at_once(&self, bytes: &[u8]) {
        let state = &mut *self.world.lock();
        let way = state.links[self.number].way(self.side);
        way.bytes.extend(bytes);
        let reader = way.reader.take();
        server_has_written(state, self.number, bytes);
        wake([reader]);
    }

    /// The size of the next piece. After 100 pieces they are larger, so that the run ends soon.
    fn most(&mut self) -> usize {
        self.pieces += 1;
        let most = if self.pieces < 100 { self.manner.most } else { 4096 };
        1 + self.rng.usize(..most)
    }

    fn lags(&mut self, of: usize, cx: &mut Context<'_>) -> bool {
        if self.lags[of].is_none() {
            if self.rng.u32(..100) >= self.manner.idles {
                return false;
            }
            let most = self.manner.lag;
            self.lags[of] = Some(Box::pin(sleep(milliseconds(&mut self.rng, 0..=most))));
        }
        let lag = self.lags[of].as_mut().expect("it is there");
        if lag.as_mut().poll(cx).is_pending() {
            return true;
        }
        self.lags[of] = None;
        false
    }
}

/// Wakes the tasks. A waker can poll at once, so call this without the world's lock.
fn wake(wakers: impl IntoIterator<Item = Option<Waker>>) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (number, side) = (self.number, self.side);
        {
            let state = &mut *self.world.lock();
            let link = &mut state.links[number];
            let was_reset = link.way(side).was_reset;
            let way = link.way(side.other());
            if way.bytes.is_empty() && !way.is_closed {
                way.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if way.bytes.is_empty() {
                link.way(side).was_reset = false;
                state.court.journal.note("end", number as u64, side as u64);
                return Poll::Ready(if was_reset { Err(reset()) } else { Ok(()) });
            }
        }
        if self.lags(0, cx) {
            return Poll::Pending;
        }
        let most = self.most();
        let state = &mut *self.world.lock();
        let way = state.links[number].way(side.other());
        let count = most.min(way.bytes.len()).min(buffer.remaining());
        let bytes: Vec<u8> = way.bytes.drain(..count).collect();
        let writer = way.writer.take();
        buffer.put_slice(&bytes);
        if side == Side::Server {
            server_has_read(state, number, &bytes);
        }
        wake([writer]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (number, side) = (self.number, self.side);
        {
            let link = &mut self.world.lock().links[number];
            if link.left(side.other()).is_some() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if link.way(side).room() == 0 {
                link.way(side).writer = Some(cx.waker().clone());
                if side == Side::Server {
                    link.referee.is_held_up = true;
                }
                return Poll::Pending;
            }
        }
        if self.lags(1, cx) {
            return Poll::Pending;
        }
        let most = self.most();
        let state = &mut *self.world.lock();
        let way = state.links[number].way(side);
        let count = most.min(way.room()).min(bytes.len());
        let bytes = &bytes[..count];
        way.bytes.extend(bytes);
        way.total += count as u64;
        let reader = way.reader.take();
        if side == Side::Server {
            server_has_written(state, number, bytes);
        }
        wake([reader]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.world.lock();
        state.court.journal.note("half-close", self.number as u64, self.side as u64);
        let way = state.links[self.number].way(self.side);
        way.is_closed = true;
        let reader = way.reader.take();
        wake([reader]);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = &mut *self.world.lock();
        state.court.journal.note("left", self.number as u64, self.side as u64);
        let woken = state.links[self.number].leave(self.side);
        if self.side == Side::Server {
            let link = &mut state.links[self.number];
            link.is_served = false;
            let client_left = link.left(Side::Client).is_some();
            let verdict = link.referee.server_left(client_left, &mut state.court);
            state.court.journal.judge(verdict);
        }
        wake(woken);
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn server_has_read(state: &mut State, number: usize, bytes: &[u8]) {
    state.court.journal.note("read", number as u64, bytes.len() as u64);
    let referee = &mut state.links[number].referee;
    let verdict = referee.server_has_read(number, bytes, &mut state.court);
    state.court.journal.judge(verdict);
    let verdict = crate::bounds::check(state, number);
    state.court.journal.judge(verdict);
}

fn server_has_written(state: &mut State, number: usize, bytes: &[u8]) {
    state.court.journal.note("written", number as u64, bytes.len() as u64);
    let referee = &mut state.links[number].referee;
    let verdict = referee.server_has_written(bytes, &mut state.court);
    state.court.journal.judge(verdict);
}
