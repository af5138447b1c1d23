//! A server whose behaviour each test defines.

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

/// The server's side of one connection.
pub type Peer = Channel<Response, Request>;

/// Accepts connections on a path. A handler runs for each, in a task of its own.
#[derive(Debug)]
pub struct RawServer {
    path: PathBuf,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl RawServer {
    /// Replaces the file at `path` and listens. The handler receives each connection with its
    /// number, from 0.
    ///
    /// # Panics
    /// If it cannot listen.
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

    /// Starts a server that answers each request with OK and the command as content.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn echo(path: &Path) -> Self {
        Self::start(path, |peer, _| echo(peer))
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of connections that are open on the server's side.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Returns the number of accepted connections.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Waits until at most `count` connections are open.
    ///
    /// # Panics
    /// If more stay open.
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

    /// Closes the socket and all connections at once. The file stays.
    pub async fn kill(self) {
        self.accepting.abort();
        let open = Arc::clone(&self.open);
        let _ = self.accepting.await;
        while open.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Answers each request with OK and the command as content.
pub async fn echo(mut peer: Peer) {
    while let Some(Ok(Request { id, command, .. })) = peer.next().await {
        let response = Response { content: command, ..Response::ok(id, "done") };
        if peer.send(response).await.is_err() {
            return;
        }
    }
}

/// Reads until the client disconnects, and never answers.
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
