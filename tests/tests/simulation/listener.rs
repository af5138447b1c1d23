//! A listener without a socket, whose accepts sometimes fail.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex},
};

use fastrand::Rng;
use kakehi_server::{Access, Listener, Peer};
use tokio::sync::Notify;

use crate::{
    link::{Link, Side},
    stream::Stream,
    world::World,
};

const GUEST: u32 = 1_000;
const STRANGER: u32 = 6_666;

/// The users that the server admits.
pub(crate) fn access() -> Access {
    let mut access = Access::default();
    access.uids.insert(GUEST);
    access
}

pub(crate) fn is_denied(uid: u32) -> bool {
    uid == STRANGER
}

/// The server's side of the listener.
pub(crate) struct Door {
    rng: Mutex<Rng>,
    queue: Queue,
}

/// The clients' side of the listener.
#[derive(Clone)]
pub(crate) struct Port {
    world: World,
    queue: Queue,
}

#[derive(Clone)]
struct Queue {
    /// `None` once the server has stopped listening.
    streams: Arc<Mutex<Option<VecDeque<Stream>>>>,
    came: Arc<Notify>,
}

pub(crate) fn listen(world: &World) -> (Door, Port) {
    let queue = Queue {
        streams: Arc::new(Mutex::new(Some(VecDeque::new()))),
        came: Arc::new(Notify::new()),
    };
    let door = Door { rng: Mutex::new(world.rng()), queue: queue.clone() };
    (door, Port { world: world.clone(), queue })
}

impl Port {
    pub(crate) fn connect(&self, rng: &mut Rng) -> io::Result<Stream> {
        let uid = match rng.u32(..20) {
            0 => STRANGER,
            1..8 => GUEST,
            _ => Peer::own().uid,
        };
        let capacities = [rng.usize(1..5000), rng.usize(1..5000)];
        let mut streams = self.queue.streams.lock().unwrap();
        let streams = streams.as_mut().ok_or(io::ErrorKind::ConnectionRefused)?;
        let number = {
            let links = &mut self.world.lock().links;
            links.push(Link::new(uid, capacities));
            links.len() - 1
        };
        let end = |side, seed| Stream::new(self.world.clone(), number, side, Rng::with_seed(seed));
        streams.push_back(end(Side::Server, rng.u64(..)));
        self.queue.came.notify_one();
        Ok(end(Side::Client, rng.u64(..)))
    }
}

impl Door {
    fn next(&self) -> Option<io::Result<Stream>> {
        let mut streams = self.queue.streams.lock().unwrap();
        let streams = streams.as_mut()?;
        streams.front()?;
        match self.rng.lock().unwrap().u32(..100) {
            0..4 => {
                self.queue.came.notify_one();
                // EMFILE
                return Some(Err(io::Error::from_raw_os_error(24)));
            }
            4..7 => {
                self.queue.came.notify_one();
                return Some(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            _ => {}
        }
        let stream = streams.pop_front()?;
        if !streams.is_empty() {
            self.queue.came.notify_one();
        }
        stream.is_accepted();
        Some(Ok(stream))
    }
}

impl Listener for Door {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<Stream> {
        loop {
            if let Some(next) = self.next() {
                return next;
            }
            self.queue.came.notified().await;
        }
    }

    fn peer(stream: &Stream) -> io::Result<Peer> {
        Ok(Peer { uid: stream.uid(), ..Peer::own() })
    }

    fn has_left(stream: &Stream) -> bool {
        stream.is_alone()
    }

    fn try_write(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        stream.write_at_once(bytes);
        Ok(bytes.len())
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let streams = self.queue.streams.lock().unwrap().take();
        drop(streams);
    }
}
