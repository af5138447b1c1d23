//! A server that does nothing by itself: what it answers is up to each test.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use kakehi_channel::{Channel, Request, Response};
use tokio::{
    net::UnixListener,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::programs::PATIENCE;

/// One connection as the server sees it.
pub type Peer = Channel<Response, Request>;

/// Accepts connections on a path, and leaves each to a handler with a task of its own.
#[derive(Debug)]
pub struct RawServer {
    path: PathBuf,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl RawServer {
    /// Listens on `path`, over what may be there. The handler gets each connection with its
    /// number, from 0 on.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start<H, Fut>(path: &Path, handler: H) -> Self
    where
        H: Fn(Peer, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("it can listen");
        let (open, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, number) = (Arc::clone(&open), Arc::clone(&accepted));
        let accepting = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while peers.try_join_next().is_some() {}
                let seat = Seat::take(&count);
                let handling = handler(Channel::new(stream), number.fetch_add(1, SeqCst));
                peers.spawn(async move {
                    handling.await;
                    drop(seat);
                });
            }
        });
        Self { path: path.to_owned(), open, accepted, accepting }
    }

    /// Answers each request by OK with its command as the content.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn echo(path: &Path) -> Self {
        Self::start(path, |peer, _| echo(peer))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many connections are open now, as it sees them.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Waits until no more than `count` connections are open.
    ///
    /// # Panics
    /// When they stay open.
    pub async fn until_open(&self, count: usize) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.open() <= count {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        panic!("{} connections are open, expected were {count}", self.open());
    }

    /// Closes the socket and all connections at once, in the midst of whatever they do. The file
    /// stays.
    pub async fn kill(self) {
        self.accepting.abort();
        let open = Arc::clone(&self.open);
        let _ = self.accepting.await;
        while open.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Answers each request by OK with its command as the content.
pub async fn echo(mut peer: Peer) {
    while let Some(Ok(Request { id, command, .. })) = peer.next().await {
        let response = Response { content: command, ..Response::ok(id, "done") };
        if peer.send(response).await.is_err() {
            return;
        }
    }
}

/// Reads until the client has left, and never answers.
pub async fn listen(mut peer: Peer) {
    while let Some(Ok(_)) = peer.next().await {}
}

struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
