//! One connection: the bytes in transit in both directions, and the state of both ends.

use std::{collections::VecDeque, task::Waker};

use tokio::time::Instant;

use crate::referee::Referee;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

pub(crate) struct Link {
    pub(crate) uid: u32,
    /// The bytes that each side has written and the other has not read, by writer.
    ways: [Way; 2],
    pub(crate) referee: Referee,
    /// The server has accepted the connection and not closed it.
    pub(crate) is_served: bool,
}

pub(crate) struct Way {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) capacity: usize,
    /// The writer has closed this direction.
    pub(crate) is_closed: bool,
    /// When the writer closed both directions.
    pub(crate) left: Option<Instant>,
    /// The writer's next read fails, because the other side closed without reading all bytes.
    pub(crate) was_reset: bool,
    /// The number of bytes written.
    pub(crate) total: u64,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

impl Link {
    pub(crate) fn new(uid: u32, capacities: [usize; 2]) -> Self {
        Self { uid, ways: capacities.map(Way::new), referee: Referee::new(), is_served: false }
    }

    /// The direction in which `side` writes.
    pub(crate) fn way(&mut self, side: Side) -> &mut Way {
        &mut self.ways[side as usize]
    }

    pub(crate) fn left(&self, side: Side) -> Option<Instant> {
        self.ways[side as usize].left
    }

    /// Whether the client has closed its sending side and the server has read every byte.
    pub(crate) fn is_read_to_its_end(&self) -> bool {
        let way = &self.ways[Side::Client as usize];
        way.is_closed && way.bytes.is_empty()
    }

    /// Closes both directions for `side`, and returns the wakers to wake.
    pub(crate) fn leave(&mut self, side: Side) -> [Option<Waker>; 2] {
        let unread = !self.way(side.other()).bytes.is_empty();
        let own = self.way(side);
        own.is_closed = true;
        own.left = Some(Instant::now());
        let reader = own.reader.take();
        let theirs = self.way(side.other());
        theirs.was_reset |= unread;
        [reader, theirs.writer.take()]
    }
}

impl Way {
    fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            is_closed: false,
            left: None,
            was_reset: false,
            total: 0,
            reader: None,
            writer: None,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }
}
