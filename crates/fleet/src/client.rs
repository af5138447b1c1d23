//! The client's side: requests to one node, to any node with a label, or to all of them.

mod all;
mod driver;
pub(crate) mod exchange;
mod failure;
mod inbox;
mod nodes;
mod request;
mod responses;

use std::{fmt, sync::Arc, time::Duration};

use kakehi_client::Timeouts;
use tokio::time::{Instant, timeout_at};

#[cfg(test)]
pub(crate) use self::exchange::{Action, End, Exchange};
pub use self::{
    all::{All, Ended, Event, Receipt, Summary},
    nodes::NodeInfo,
    request::RequestBuilder,
    responses::Responses,
};
use self::{
    driver::{fate, settle_message, settle_subjects},
    exchange::Fate,
    inbox::Inbox,
};
use crate::{
    Broker, FleetError, Name, NameError, Selector, Signer,
    broker::Connection,
    message::{Control, ControlKind, FromNode},
    names::{Accept, Asked},
};

/// The maximum number of running requests of one connection. All their windows together stay below
/// the amount that the broker keeps for a slow client.
const UNDER_WAY: usize = 256;

/// How long [`Fleet::settle`] waits for an answer.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// A client of the fleet. Cheap to clone; clones share one connection to the broker.
///
/// ```no_run
/// use kakehi_fleet::{Fleet, Signer};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::connect("nats://127.0.0.1:4222").await?;
/// let fleet = fleet.signed_by(Signer::from_seed("SUA…")?);
/// let response = fleet.node("web-1")?.request("reload").await?;
/// println!("{}", response.message);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Fleet {
    shared: Arc<Shared>,
    timeouts: Timeouts,
}

/// The state that all requests of a connection share.
pub(crate) struct Shared {
    connection: Connection,
    inbox: Arc<Inbox>,
    signer: Option<Signer>,
    under_way: Arc<tokio::sync::Semaphore>,
}

/// One node, or any node with a label: to whom requests are made.
#[derive(Clone, Debug)]
pub struct Target {
    fleet: Fleet,
    asked: Asked,
}

/// The state of a request, as its node reports it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Settled {
    /// It has ended with this response.
    Final(Box<kakehi_channel::Response>),
    /// It is running.
    Running,
    /// It was not started, and never will be.
    Never,
    /// It was started, and the node was restarted before it ended.
    Interrupted,
    /// The node does not know any more.
    Forgotten,
    /// The node did not answer within 2 s, or is not connected.
    NoAnswer,
}

impl Fleet {
    /// Connects to the broker.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses the login, or a file cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect(broker: impl Into<Broker>) -> Result<Self, FleetError> {
        let connection = broker.into().connect("kakehi-fleet", false).await?;
        let inbox = Arc::new(Inbox::open(&connection).await?);
        let under_way = Arc::new(tokio::sync::Semaphore::new(UNDER_WAY));
        let shared = Shared { connection, inbox, signer: None, under_way };
        Ok(Self { shared: Arc::new(shared), timeouts: Timeouts::default() })
    }

    /// Signs requests by this key. Default: they are not signed, and most nodes refuse them.
    #[must_use]
    pub fn signed_by(self, signer: Signer) -> Self {
        let Shared { connection, inbox, under_way, .. } = &*self.shared;
        let shared = Shared {
            connection: connection.clone(),
            inbox: Arc::clone(inbox),
            signer: Some(signer),
            under_way: Arc::clone(under_way),
        };
        Self { shared: Arc::new(shared), ..self }
    }

    /// How long requests wait unless they say otherwise. Default: 30 s for each response, and no
    /// deadline.
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The node of this name.
    ///
    /// # Errors
    /// The text is not a [`Name`].
    pub fn node(&self, name: &str) -> Result<Target, NameError> {
        Ok(self.target(Asked::Node(name.parse()?)))
    }

    /// Any one node with this label.
    ///
    /// # Errors
    /// The key or the value is not a [`Name`].
    pub fn any(&self, key: &str, value: &str) -> Result<Target, NameError> {
        Ok(self.target(Asked::Any(key.parse()?, value.parse()?)))
    }

    /// All nodes that `selector` selects among those that are connected now.
    pub fn all(&self, selector: Selector) -> All {
        All::new(self.clone(), selector)
    }

    /// The nodes that are connected now, sorted by name: those that answer within `wait`.
    ///
    /// # Errors
    /// The connection to the broker is closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn nodes(&self, wait: Duration) -> Result<Vec<NodeInfo>, FleetError> {
        nodes::connected(&self.shared.connection, wait).await
    }

    /// Queries the outcome of the request `id`, which was accepted as `accept`: see
    /// [`Responses::accept`]. If the request was not started, it never will be.
    ///
    /// # Errors
    /// `accept` is not of the form `NODE.EPOCH.N`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn settle(&self, accept: &str, id: &str) -> Result<Settled, NameError> {
        let accept: Accept = accept.parse()?;
        let mut route = self.shared.inbox.route(4);
        let subjects = settle_subjects(&self.shared, &accept);
        let mut waited_for = subjects.len();
        let (headers, payload) = settle_message(&self.shared, accept.clone(), id);
        for subject in subjects {
            let reply = Some(route.subject.clone());
            let connection = &self.shared.connection;
            let sent = connection.publish(subject, reply, headers.write(), payload.clone()).await;
            if sent.is_err() {
                return Ok(Settled::NoAnswer);
            }
        }
        let until = Instant::now() + SETTLE_TIME;
        let mut found = Settled::NoAnswer;
        // One answer or 503 for each subject; the process that accepted the request knows best.
        while waited_for > 0 {
            let Ok(Some(message)) = timeout_at(until, route.messages.recv()).await else { break };
            waited_for -= 1;
            let Some(FromNode::Settled(frames)) = FromNode::read(&message) else { continue };
            match fate(&frames, &accept) {
                Some(Fate::UnknownElsewhere) => found = Settled::Forgotten,
                Some(fate) => return Ok(settled(fate)),
                None => {}
            }
        }
        Ok(found)
    }

    /// Cancels the request that was accepted as `accept`, also a request of another client.
    /// [`settle`](Self::settle) returns whether it ended.
    ///
    /// # Errors
    /// `accept` is not of the form `NODE.EPOCH.N`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancel(&self, accept: &str) -> Result<(), NameError> {
        let accept: Accept = accept.parse()?;
        let connection = &self.shared.connection;
        let cancel = Control { kind: ControlKind::Cancel, ..Control::default() };
        let subject = connection.subjects.control(&accept);
        // An error means that the connection is closed. The node then cancels the request itself.
        let _ = connection.publish(subject, None, cancel.write(), bytes::Bytes::new()).await;
        let _ = timeout_at(Instant::now() + SETTLE_TIME, connection.link.flush()).await;
        Ok(())
    }

    /// Whether the connection to the broker is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.connection.is_connected()
    }

    fn target(&self, asked: Asked) -> Target {
        Target { fleet: self.clone(), asked }
    }

    fn named(&self, name: Name) -> Target {
        self.target(Asked::Node(name))
    }
}

fn settled(fate: Fate) -> Settled {
    match fate {
        Fate::Final(frame) => {
            let text = frame.strip_suffix(b"\0").unwrap_or(&frame);
            serde_json::from_slice(text).map_or(Settled::Forgotten, Settled::Final)
        }
        Fate::Running => Settled::Running,
        Fate::Never => Settled::Never,
        Fate::Interrupted => Settled::Interrupted,
        Fate::Forgotten | Fate::UnknownElsewhere => Settled::Forgotten,
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("connection", &self.shared.connection)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}
