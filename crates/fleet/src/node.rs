//! A node: it answers requests that come over NATS by a handler of `kakehi-server`.

pub(crate) mod exchange;
mod frames;
mod ids;
mod journal;
mod ledger;
mod listener;
mod merged;
mod numbers;
mod presence;
mod request;
mod serving;

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use futures::FutureExt;
use kakehi_server::{Handle, Handler, Limits, Protocol, serve};
use tokio::time::timeout;
use tracing::{info, warn};

#[cfg(test)]
pub(crate) use self::exchange::{End as NodeEnd, Exchange};
pub(crate) use self::{frames::frame, presence::SERVICE};
use self::{
    ids::Ids,
    journal::Journal,
    ledger::Ledger,
    listener::Door,
    numbers::Numbers,
    presence::Presence,
    serving::{Shared, Subscriptions},
};
use crate::{Broker, FleetError, Keys, Labels, Name, message::HEADERS};

/// How long a node waits for the acknowledgement of final responses when it ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A node of the fleet. Set it up, then [`serve`](Self::serve) a handler.
///
/// ```no_run
/// use kakehi_channel::Request;
/// use kakehi_fleet::{Keys, Node};
/// use kakehi_server::Context;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = Keys::default().with_key("UAB…", "anna", ["sre"])?;
/// Node::connect("nats://127.0.0.1:4222", "web-1")
///     .labels("role=web,dc=fra".parse()?)
///     .keys(keys)
///     .serve(async |_: Request<String>, context: Context| {
///         let who = context.peer().identity.map_or_else(String::new, |who| who.name.clone());
///         Ok::<_, String>(format!("hello {who}"))
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a node does nothing before `serve`"]
pub struct Node {
    broker: Broker,
    name: String,
    labels: Labels,
    keys: Keys,
    description: String,
    limits: Limits,
    handle: Handle,
    journal: Option<PathBuf>,
    drain: Duration,
    leave: Signal,
    shutdown: Signal,
}

type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Node {
    /// A node called `name`. It connects once it serves, and again whenever the connection ends;
    /// the broker need not be there yet.
    pub fn connect(broker: impl Into<Broker>, name: impl Into<String>) -> Self {
        Self {
            broker: broker.into(),
            name: name.into(),
            labels: Labels::default(),
            keys: Keys::default(),
            description: String::new(),
            limits: Limits::default(),
            handle: Handle::default(),
            journal: None,
            drain: Duration::from_secs(5),
            leave: Box::pin(std::future::pending()),
            shutdown: Box::pin(std::future::pending()),
        }
    }

    /// The labels by which the node is selected; none by default.
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// The callers that the node knows. Default: none, so that each request is refused.
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// A description for people, in the answer to INFO. Default: empty.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Instead of [`Limits::default`]. `connections` is how many requests the node accepts at once.
    /// `response_bytes` is bounded by the largest message of the broker. `write_time` is 60 s longer,
    /// so that a request survives as long an outage of the broker.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes `handle` this node's. A server on a socket may have the same: both count together and
    /// end together.
    pub fn handle(mut self, handle: &Handle) -> Self {
        self.handle = handle.clone();
        self
    }

    /// Keeps a journal in the file `path`, which is created if it does not exist. Default: none.
    ///
    /// With a journal, a restart of the node loses no outcome: the start of a request is on the disk
    /// before the handler runs, and its final response before it is sent. Each is one `fdatasync`,
    /// shared by the requests that wait for it. The journal keeps ids for 7 days after their end, at
    /// most 16,384, and final responses of 16 MiB together; all of them are in memory, too. Without
    /// a journal, ids are kept for 10 minutes. A journal belongs to one node, and keeps its file
    /// open.
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// How long running requests may go on after the shutdown. Default: 5 s.
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Leaves the groups of the labels when `signal` completes, so that requests to any node of a label
    /// go to the others. The node still takes requests that name it. Default: at the shutdown.
    pub fn leave<S>(mut self, signal: S) -> Self
    where
        S: Future<Output: Send> + Send + 'static,
    {
        self.leave = Box::pin(async {
            signal.await;
        });
        self
    }

    /// Shuts the node down when `signal` completes: it leaves its groups, and running requests
    /// drain. Default: never.
    pub fn shutdown<S>(mut self, signal: S) -> Self
    where
        S: Future<Output: Send> + Send + 'static,
    {
        self.shutdown = Box::pin(async {
            signal.await;
        });
        self
    }

    /// Serves `handler` until the shutdown. Its format `F` is JSON ended by NUL, as that of a closure
    /// or of a `Router`.
    ///
    /// # Errors
    /// The name is not valid, the broker refuses the login, a file cannot be read, or the journal
    /// cannot be used. If the broker cannot be reached, the node tries again.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the running requests, without a drain.
    pub fn serve<C, H, F>(
        self,
        handler: H,
    ) -> impl Future<Output = Result<(), FleetError>> + Send + use<C, H, F>
    where
        C: Send + 'static,
        H: Handler<C, F>,
        F: Protocol<C>,
    {
        // Boxed, so that the future of a running node has no room for what is only its start.
        let open = Box::pin(self.open(handler));
        async {
            open.await?.run().await;
            Ok(())
        }
    }

    /// Connects, subscribes, and makes the server of the requests.
    async fn open<C, H, F>(self, handler: H) -> Result<Open, FleetError>
    where
        C: Send + 'static,
        H: Handler<C, F>,
        F: Protocol<C>,
    {
        let name: Name = self.name.parse().map_err(|error| FleetError::name(&error))?;
        // Boxed, so that its memory is free for the subscriptions.
        let connection = Box::pin(self.broker.connect(name.as_str(), true)).await?;
        let epoch: Name = connection.unique().parse().map_err(|error| FleetError::name(&error))?;
        let ledger = ledger(self.journal, epoch.clone()).await?;
        let presence = Presence::new(name.clone(), epoch.clone(), self.labels, self.description);
        let places = self.limits.connections;
        let shared = Shared::new(
            connection.clone(),
            (name.clone(), epoch),
            Numbers::new()?,
            (self.keys, ledger),
            places,
            presence,
            self.handle.draining(),
        );
        let shared = Arc::new(shared);
        let subscriptions = shared.subscribe().await?;
        // An error by now says that no connection was made yet.
        let _ = timeout(Duration::from_secs(1), connection.link.flush()).await;
        if connection.is_connected() {
            info!(node = %name, "a node of the fleet is ready");
        } else {
            warn!(node = %name, "the broker cannot be reached: the node will be ready once it can be");
        }

        let limits = bounded(self.limits, connection.link.max_payload());
        let draining = Box::pin(self.handle.draining().cancelled_owned());
        shared.door.get_or_init(|| {
            Door::new(|requests| {
                serve(requests, handler)
                    .limits(Limits { drain_time: self.drain, ..limits })
                    .handle(&self.handle)
                    .shutdown(self.shutdown)
                    .into_future()
            })
        });
        Ok(Open { shared, subscriptions, leave: self.leave, draining })
    }
}

/// A node that is subscribed.
struct Open {
    shared: Arc<Shared>,
    subscriptions: Subscriptions,
    leave: Signal,
    draining: Signal,
}

impl Open {
    async fn run(self) {
        let Self { shared, subscriptions, leave, draining } = self;
        let dispatching = Box::pin(shared.dispatch(subscriptions, leave, draining));
        let acknowledged = async {
            while !shared.routes().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let server = async {
            if let Some(door) = shared.door.get() {
                door.run().await;
            }
        };
        finish(server, dispatching, acknowledged).await;
        let flushing = async {
            let _ = timeout(LAST_WORDS, shared.connection.link.flush()).await;
            shared.ledger.flush().await;
        };
        Box::pin(flushing).await;
    }
}

async fn ledger(journal: Option<PathBuf>, epoch: Name) -> Result<Ledger, FleetError> {
    let Some(path) = journal else { return Ok(Ledger::new(Ids::new(epoch), None)) };
    let opened = tokio::task::spawn_blocking(move || Journal::open(&path, &epoch)).await;
    let opened = opened.map_err(|error| FleetError::journal(&error))?;
    let (journal, ids) = opened.map_err(|error| FleetError::journal(&error))?;
    Ok(Ledger::new(ids, Some(journal)))
}

/// Runs `server` to its end, and `dispatching` until the last responses are acknowledged, or for
/// [`LAST_WORDS`].
async fn finish(
    server: impl Future<Output = ()>,
    dispatching: impl Future<Output = ()> + Unpin,
    acknowledged: impl Future<Output = ()>,
) {
    // It may end in the first wait, and must not be polled after that.
    let mut dispatching = dispatching.fuse();
    tokio::select! {
        () = server => {}
        () = &mut dispatching => warn!("the connection to the broker is closed"),
    }
    tokio::select! {
        () = &mut dispatching => {}
        _ = Box::pin(timeout(LAST_WORDS, acknowledged)) => {}
    }
}

/// A response is one message of the broker at most. While the broker is away, the client can read
/// nothing.
fn bounded(mut limits: Limits, max_payload: usize) -> Limits {
    limits.response_bytes = limits.response_bytes.min(largest(max_payload));
    limits.write_time = limits.write_time.saturating_add(exchange::OUTAGE);
    limits
}

/// The most bytes of frames in a message of a broker with this `max_payload`, which is 0 before the
/// first connection.
fn largest(max_payload: usize) -> usize {
    // The default of brokers.
    let max_payload = if max_payload <= HEADERS { 1024 * 1024 } else { max_payload };
    max_payload - HEADERS
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use bytes::Bytes;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        message::{Control, ControlKind, FromNode, Signature, ToNode},
        scripted::{Link, Outgoing},
    };

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_ends_the_node_once() {
        let acknowledged = sleep(Duration::from_millis(20));
        finish(std::future::pending(), std::future::ready(()), acknowledged).await;
    }

    /// The log of a node whose link is connected, or not.
    async fn log(is_connected: bool) -> String {
        let lines = Arc::new(std::sync::Mutex::new(vec![]));
        let writer = {
            let lines = Arc::clone(&lines);
            move || Lines(Arc::clone(&lines))
        };
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let link = Link::new("p1");
        link.connect(is_connected);
        let handler =
            async |_: kakehi_channel::Request, _: kakehi_server::Context| Ok::<_, String>("");
        let node = Node::connect(Broker::scripted(link), "web-1").shutdown(async {}).serve(handler);
        node.await.unwrap();
        drop(logging);
        let lines = lines.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    /// Sends a message of the client to the node.
    fn say(link: &Link, to: &str, headers: HeaderMap, payload: Bytes) {
        let reply = Some("inbox".to_owned());
        let message = crate::scripted::message(to.to_owned(), reply, headers, payload);
        // Control has the first subscription, and requests to the node have the last.
        let number = if to.contains(".ctl.") { 1 } else { 5 };
        assert!(link.deliver(number, message));
    }

    /// The accept, and the final responses and settled outcomes that the node has sent.
    fn heard(link: &Link) -> (Option<String>, Vec<String>) {
        let (mut accept, mut ends) = (None, vec![]);
        while let Some(outgoing) = link.next_outgoing() {
            let Outgoing::Publish { message, .. } = outgoing else { continue };
            match FromNode::read(&message) {
                Some(FromNode::Accept(_)) => accept = message.reply.map(|reply| reply.to_string()),
                Some(
                    FromNode::Batch { is_final: true, frames, .. } | FromNode::Settled(frames),
                ) => {
                    ends.push(String::from_utf8(frames.to_vec()).unwrap());
                }
                _ => {}
            }
        }
        (accept, ends)
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_without_credit_is_kept_for_settle_and_its_place_is_free() {
        let (link, handle) = (Link::new("p1"), Handle::default());
        let handler = async |_: kakehi_channel::Request, context: kakehi_server::Context| {
            for _ in 0..3 {
                context.progress("x".repeat(100_000)).await?;
            }
            Ok::<_, kakehi_channel::ChannelError>("done")
        };
        let node = Node::connect(Broker::scripted(link.clone()), "web-1").handle(&handle);
        tokio::spawn(node.keys(Keys::default().unsigned(true)).serve(handler).into_future());
        sleep(Duration::from_secs(1)).await;
        let request = frame(&kakehi_channel::Request::with_command("ID-1", "work"));
        say(&link, "kakehi.node.web-1", HeaderMap::new(), request);
        sleep(Duration::from_millis(10)).await;
        let control = heard(&link).0.expect("the node accepts");
        let mut said =
            Control { kind: ControlKind::Go, credit: Some(1), next: Some(1), ..Control::default() };
        for second in 0..130 {
            say(&link, &control, said.write(), Bytes::new());
            sleep(Duration::from_secs(1)).await;
            assert_eq!(heard(&link).1, [""; 0], "after {second} s");
            said.kind = ControlKind::Alive;
            if !(119..124).contains(&second) {
                let is_open = usize::from(second < 120);
                assert_eq!(handle.stats().connections, is_open, "after {second} s");
            }
        }
        let accept = control.strip_prefix("kakehi.ctl.").unwrap().parse().unwrap();
        let settle = ToNode::Settle { accept, signature: Signature::default() };
        let query = frame(&kakehi_channel::Request::with_command("ID-1", "settle"));
        say(&link, "kakehi.node.web-1", settle.write(), query);
        sleep(Duration::from_secs(1)).await;
        let ends = heard(&link).1;
        assert!(ends.len() == 1 && ends[0].contains("\"done\""), "{ends:?}");
    }

    #[derive(Clone)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_reports_that_it_is_ready_only_if_it_is_connected() {
        let (connected, disconnected) = (log(true).await, log(false).await);
        assert!(connected.contains("a node of the fleet is ready"), "{connected}");
        assert!(!disconnected.contains("is ready"), "{disconnected}");
        assert!(disconnected.contains("the broker cannot be reached"), "{disconnected}");
    }

    #[test]
    fn a_message_leaves_room_for_headers() {
        assert_eq!(largest(64 * 1024), 64 * 1024 - HEADERS);
        assert_eq!(largest(0), 1024 * 1024 - HEADERS);
    }
}
