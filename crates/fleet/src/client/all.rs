//! One request to each of many nodes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kakehi_channel::{Request, Response, Status, TraceContext};
use kakehi_client::{Error, Outcome, Timeouts};
use tokio::sync::mpsc;

use super::{Fleet, NodeInfo};
use crate::{FleetError, Name, Selector};

/// How many events may wait to be read; the nodes wait then.
const EVENTS: usize = 256;

/// A request to all nodes that a selector selects. Set it up, then [`send`](Self::send).
#[derive(Clone)]
#[must_use = "nothing is sent before `send`"]
pub struct All {
    fleet: Fleet,
    selector: Selector,
    expected: BTreeSet<Name>,
    under_way: usize,
    wait: Duration,
    max_failures: Option<usize>,
    canary: usize,
    id_prefix: Option<String>,
    on_accept: Option<OnAccept>,
    timeouts: Timeouts,
    trace: Option<TraceContext>,
}

/// Called with the receipt of each node that accepts the request.
type OnAccept = Arc<dyn Fn(&Name, &Receipt) + Send + Sync>;

/// An event of one node.
#[derive(Debug)]
pub enum Event {
    /// The node has accepted the request, and the client has sent GO, which starts it.
    Started(Receipt),
    /// A progress response.
    Progress(Response),
    /// The end, as the only one of its node; with a receipt if the request was sent.
    Ended(Ended, Option<Receipt>),
}

/// The arguments of [`Fleet::settle`], for a request whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The request's id.
    pub id: String,
    /// Which process of the node accepted it. `None`: none did, so it was not started.
    pub accept: Option<String>,
}

/// How a request to one of many nodes ended.
#[derive(Debug)]
pub enum Ended {
    /// With the final response OK.
    Ok(Response),
    /// With ERROR, a refusal, or without any final response: see [`Error::outcome`].
    Failed(Error),
    /// Not sent, because too many other nodes had failed.
    Skipped,
}

/// How many nodes ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The final response was OK.
    pub ok: usize,
    /// The final response was ERROR.
    pub failed: usize,
    /// The node did not start the request.
    pub refused: usize,
    /// The request did not reach the node: not started.
    pub not_sent: usize,
    /// The request was started, and its outcome is not known.
    pub unknown: usize,
    /// Not sent, because too many other nodes had failed.
    pub skipped: usize,
}

impl Summary {
    /// Counts one node's end.
    pub fn add(&mut self, ended: &Ended) {
        let count = match ended {
            Ended::Ok(_) => &mut self.ok,
            Ended::Skipped => &mut self.skipped,
            Ended::Failed(error) => match error.outcome() {
                // Done, with a content that cannot be decoded: not what was asked for.
                Outcome::Done => &mut self.ok,
                Outcome::Failed => &mut self.failed,
                Outcome::Refused => &mut self.refused,
                Outcome::NotSent => &mut self.not_sent,
                Outcome::Unknown => &mut self.unknown,
            },
        };
        *count += 1;
    }

    /// The exit status for a program. 0: all nodes ended with OK. 4: at least one outcome is
    /// unknown. 3: no node started the request, or there was no node. 1: otherwise.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        let not_ok = self.failed + self.refused + self.not_sent + self.unknown + self.skipped;
        match self {
            _ if self.unknown > 0 => 4,
            _ if self.ok + self.failed == 0 => 3,
            _ if not_ok > 0 => 1,
            _ => 0,
        }
    }
}

impl All {
    pub(super) fn new(fleet: Fleet, selector: Selector) -> Self {
        let timeouts = fleet.timeouts;
        Self {
            fleet,
            selector,
            expected: BTreeSet::new(),
            under_way: 64,
            wait: Duration::from_millis(500),
            max_failures: None,
            canary: 0,
            id_prefix: None,
            on_accept: None,
            timeouts,
            trace: None,
        }
    }

    /// Nodes that must be there whatever the selector says: each has a result, though it is not
    /// connected.
    pub fn expect(mut self, names: impl IntoIterator<Item = Name>) -> Self {
        self.expected.extend(names);
        self
    }

    /// Sets the maximum number of nodes that run the request at the same time, from 1 to 256.
    /// Default: 64.
    pub fn under_way(mut self, count: usize) -> Self {
        self.under_way = count.clamp(1, super::UNDER_WAY);
        self
    }

    /// The trace that the requests belong to.
    pub fn trace(mut self, trace: impl Into<Option<TraceContext>>) -> Self {
        self.trace = trace.into();
        self
    }

    /// How long to wait for the nodes to say that they are connected; 500 ms.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets the number of failures after which the request goes to no further node. Default: no
    /// limit.
    pub fn max_failures(mut self, count: usize) -> Self {
        self.max_failures = Some(count);
        self
    }

    /// Sends the request to this number of nodes first, and to the others only if all of these end
    /// with OK. Default: 0.
    pub fn canary(mut self, count: usize) -> Self {
        self.canary = count;
        self
    }

    /// Makes the id of each request from this prefix, a dot and the node's name, so that it is known
    /// before the request is sent. The prefix must not be used twice. Default: ids are random.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = Some(prefix.into());
        self
    }

    /// Calls `call` for each node that accepts the request, before the client sends GO, which
    /// starts it there. A node without such a call did not start the request. `call` must not block
    /// for long.
    pub fn on_accept(mut self, call: impl Fn(&Name, &Receipt) + Send + Sync + 'static) -> Self {
        self.on_accept = Some(Arc::new(call));
        self
    }

    /// How long to wait for each response of a node.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.timeout = timeout.into();
        self
    }

    /// How long to wait for a node's final response.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.timeouts.deadline = deadline.into();
        self
    }

    /// The names of the nodes that would be asked, sorted.
    ///
    /// # Errors
    /// The connection to the broker is closed.
    pub async fn targets(&self) -> Result<Vec<Name>, FleetError> {
        let connected = self.fleet.nodes(self.wait).await?;
        let is_selected = |node: &NodeInfo| self.selector.matches(&node.name, &node.labels);
        let mut names = self.expected.clone();
        names.extend(connected.into_iter().filter(is_selected).map(|node| node.name));
        Ok(names.into_iter().collect())
    }

    /// Sends a request for `command` to each node. The stream has any number of events for each
    /// node, of which the last is [`Event::Ended`]. Dropping it cancels the running requests.
    ///
    /// # Errors
    /// The connection to the broker is closed, or the command cannot be encoded.
    pub async fn send(
        self,
        command: impl serde::Serialize,
    ) -> Result<impl Stream<Item = (Name, Event)> + Send + Unpin, FleetError> {
        let targets = self.targets().await?;
        self.send_to(targets, command)
    }

    /// As [`send`](Self::send), to nodes that were listed before.
    ///
    /// # Errors
    /// The command cannot be encoded.
    pub fn send_to(
        self,
        targets: Vec<Name>,
        command: impl serde::Serialize,
    ) -> Result<impl Stream<Item = (Name, Event)> + Send + Unpin, FleetError> {
        let command = serde_json::to_value(command).map_err(|error| FleetError::command(&error))?;
        let (events, mut received) = mpsc::channel(EVENTS);
        tokio::spawn(self.run(targets, command, events));
        Ok(stream::poll_fn(move |cx| received.poll_recv(cx)))
    }

    async fn run(
        self,
        targets: Vec<Name>,
        command: serde_json::Value,
        events: mpsc::Sender<(Name, Event)>,
    ) {
        let (canaries, others) = targets.split_at(self.canary.min(targets.len()));
        let failures = AtomicUsize::new(0);
        let all = async {
            self.each(canaries, self.max_failures, &failures, &command, &events).await;
            // One failed canary is enough.
            let is_bad = failures.load(Ordering::SeqCst) > 0;
            let most = if is_bad { Some(0) } else { self.max_failures };
            self.each(others, most, &failures, &command, &events).await;
        };
        tokio::select! {
            () = all => {}
            () = events.closed() => {}
        }
    }

    /// Asks the nodes `targets`, and skips those that are left after `most` failures.
    async fn each(
        &self,
        targets: &[Name],
        most: Option<usize>,
        failures: &AtomicUsize,
        command: &serde_json::Value,
        events: &mpsc::Sender<(Name, Event)>,
    ) {
        let one = |name: &Name| {
            let name = name.clone();
            async move {
                let count = failures.load(Ordering::SeqCst);
                let (ended, receipt) = if most.is_some_and(|most| count >= most) {
                    (Ended::Skipped, None)
                } else {
                    self.one(&name, command.clone(), events).await
                };
                if matches!(ended, Ended::Failed(_)) {
                    failures.fetch_add(1, Ordering::SeqCst);
                }
                let _ = events.send((name, Event::Ended(ended, receipt))).await;
            }
        };
        stream::iter(targets.iter().map(one))
            .buffer_unordered(self.under_way)
            .for_each(|()| async {})
            .await;
    }

    async fn one(
        &self,
        name: &Name,
        command: serde_json::Value,
        events: &mpsc::Sender<(Name, Event)>,
    ) -> (Ended, Option<Receipt>) {
        let target = self.fleet.named(name.clone());
        let id = self.id_prefix.as_ref().map(|prefix| format!("{prefix}.{name}"));
        let id = id.unwrap_or_else(|| self.fleet.shared.connection.unique());
        let mut request = target.message(Request::with_command(id.clone(), command));
        if let Some(call) = self.on_accept.clone() {
            let name = name.clone();
            request = request.on_accept(move |accept| {
                call(&name, &Receipt { id: id.clone(), accept: Some(accept.to_owned()) });
            });
        }
        let request = request
            .trace(self.trace.clone())
            .timeout(self.timeouts.timeout)
            .deadline(self.timeouts.deadline);
        let mut responses = match request.send().await {
            Ok(responses) => responses,
            Err(error) => return (Ended::Failed(error), None),
        };
        if let Some(accept) = responses.accepted().await {
            let receipt = Receipt { id: responses.id().to_owned(), accept: Some(accept) };
            let _ = events.send((name.clone(), Event::Started(receipt))).await;
        }
        let ended = loop {
            match responses.next().await {
                Some(Ok(response)) => match response.status {
                    Status::Ok => break Ended::Ok(response),
                    Status::Error => break Ended::Failed(Error::answered(response)),
                    Status::Processing => {
                        let _ = events.send((name.clone(), Event::Progress(response))).await;
                    }
                },
                Some(Err(error)) => break Ended::Failed(error),
                // The stream ends after a final response only.
                None => break Ended::Skipped,
            }
        };
        let (id, accept) = (responses.id().to_owned(), responses.accept().map(str::to_owned));
        (ended, Some(Receipt { id, accept }))
    }
}

impl std::fmt::Debug for All {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("All")
            .field("selector", &self.selector)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_tells_the_worst() {
        let ok = Summary { ok: 2, ..Summary::default() };
        assert_eq!(ok.exit_status(), 0);
        assert_eq!(Summary { failed: 1, ..ok }.exit_status(), 1);
        assert_eq!(Summary { not_sent: 1, ..ok }.exit_status(), 1);
        assert_eq!(Summary { unknown: 1, failed: 1, ..ok }.exit_status(), 4);
        assert_eq!(Summary { not_sent: 2, ..Summary::default() }.exit_status(), 3);
        assert_eq!(Summary { refused: 2, ..Summary::default() }.exit_status(), 3);
        assert_eq!(Summary { failed: 2, ..Summary::default() }.exit_status(), 1);
        assert_eq!(Summary::default().exit_status(), 3);
    }
}
