//! How a client's request waits for a connection: for a place in the pool, then for the server.

use std::{future::Future, io, pin::Pin};

use kakehi_channel::{Channel, Format};
use rustix::net::RecvFlags;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout_at},
};
use tracing::debug;

use crate::{
    connect::Unconnected,
    kind::During,
    link::Link,
    pool::{Place, Pool},
};

/// Only where something has to be waited for: what is idle is taken without this box.
pub(crate) type Opening<L> = Pin<Box<dyn Future<Output = Result<Opened<L>, Unopened>> + Send>>;

/// What is waited for.
#[derive(Debug)]
pub(crate) struct Order {
    /// For how long.
    pub(crate) end: Option<Instant>,
    /// How often it has failed before, to back off, and why the last time.
    pub(crate) failures: u32,
    pub(crate) cause: Option<Unconnected>,
}

/// A connection, and the place in the pool in which it stands.
pub(crate) struct Opened<L> {
    pub(crate) link: L,
    pub(crate) place: Place<L>,
    /// It has been idle: it may have ended since.
    pub(crate) is_reused: bool,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Unopened {
    Failed(Unconnected),
    /// The end came; `cause` is why it had failed before that.
    Late {
        during: During,
        cause: Option<Unconnected>,
    },
}

/// Opens connections for a pool; it is one of those behind [`Pool`]'s function pointers, so that
/// only it must know that a pool's byte stream is a Unix socket.
pub(crate) fn open<Tx, Rx, F>(
    place: Place<Link<Tx, Rx, F, UnixStream>>,
    order: Order,
) -> Opening<Link<Tx, Rx, F, UnixStream>>
where
    Tx: 'static,
    Rx: 'static,
    F: Format + Default + Send + 'static,
{
    Box::pin(async move {
        let mut search =
            Search { place, failures: order.failures, during: During::Turn, cause: order.cause };
        let found = match order.end {
            None => Ok(search.run().await),
            Some(end) => timeout_at(end, search.run()).await,
        };
        match found {
            Ok(Ok((link, is_reused))) => Ok(Opened { link, place: search.place, is_reused }),
            Ok(Err(error)) => Err(Unopened::Failed(error)),
            Err(_) => Err(Unopened::Late { during: search.during, cause: search.cause }),
        }
    })
}

/// Whether nothing is to be read on an idle connection, neither bytes nor its end.
pub(crate) fn is_silent<Tx, Rx, F>(link: &Link<Tx, Rx, F, UnixStream>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = rustix::net::recv(link.channel.get_ref(), &mut [0_u8; 1], flags);
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

struct Search<L> {
    place: Place<L>,
    failures: u32,
    during: During,
    cause: Option<Unconnected>,
}

impl<Tx, Rx, F: Format + Default> Search<Link<Tx, Rx, F, UnixStream>> {
    async fn run(&mut self) -> Result<(Link<Tx, Rx, F, UnixStream>, bool), Unconnected> {
        self.place.hold().await;
        self.during = During::Connecting;
        let pool = &*self.place.pool;
        let connector = &pool.connector;
        if let Some(policy) = connector.reconnect.filter(|_| self.failures > 0) {
            sleep(policy.delay(self.failures)).await;
        }
        loop {
            if let Some(link) = pool.take(Instant::now()) {
                return Ok((link, true));
            }
            let error = match connector.connect().await {
                Ok(stream) => return Ok((wrap(pool, stream), false)),
                Err(error) => error,
            };
            self.failures = self.failures.saturating_add(1);
            let Some(delay) = connector.retry(&error, self.failures) else { return Err(error) };
            debug!(%error, ?delay, "trying again");
            self.cause = Some(error);
            sleep(delay).await;
        }
    }
}

fn wrap<Tx, Rx, F: Format + Default>(
    pool: &Pool<Link<Tx, Rx, F, UnixStream>>,
    stream: UnixStream,
) -> Link<Tx, Rx, F, UnixStream> {
    let connector = &pool.connector;
    debug!(path = %connector.path.display(), "connected");
    pool.counters.count_opened();
    let channel = Channel::with_limits(stream, connector.incoming, connector.outgoing);
    Link::new(channel.busy_poll(connector.busy_poll))
}
