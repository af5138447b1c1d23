//! The nodes that are connected now.

use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::{FleetError, Labels, Name, broker::Connection, node::SERVICE};

/// How many nodes are listed at most.
const MAX_NODES: usize = 65_536;

/// A node that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: Name,
    /// Random text of its process.
    pub epoch: Name,
    /// Its labels.
    pub labels: Labels,
    /// The version of its program.
    pub version: String,
    /// When its process started, as RFC 3339.
    pub start: String,
}

#[derive(Deserialize)]
struct Ping {
    name: String,
    id: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    node: String,
    labels: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    start: String,
}

pub(super) async fn connected(
    connection: &Connection,
    wait: Duration,
) -> Result<Vec<NodeInfo>, FleetError> {
    let failed = |error: String| FleetError::subscribe(&error);
    let inbox = connection.link.new_inbox();
    let subscribed = connection.link.subscribe(inbox.clone(), None).await;
    let mut answers = subscribed.map_err(|error| failed(error.to_string()))?;
    let subject = format!("$SRV.PING.{SERVICE}");
    let (headers, nothing) = (async_nats::HeaderMap::new(), bytes::Bytes::new());
    connection
        .publish(subject.into(), Some(inbox.into()), headers, nothing)
        .await
        .map_err(failed)?;
    let until = Instant::now() + wait;
    let mut nodes = vec![];
    while nodes.len() < MAX_NODES {
        let Ok(Some(answer)) = timeout_at(until, answers.next()).await else { break };
        // 503: no node is connected.
        if answer.status.is_some() {
            break;
        }
        nodes.extend(node(&answer.payload));
    }
    nodes.sort_by(|a, b| (&a.name, &a.epoch).cmp(&(&b.name, &b.epoch)));
    Ok(nodes)
}

/// Reads the answer of a service. `None`: the service is not a node.
fn node(payload: &[u8]) -> Option<NodeInfo> {
    let Ping { name, id, metadata } = serde_json::from_slice(payload).ok()?;
    if name != SERVICE {
        return None;
    }
    let Metadata { node, labels, version, start } = metadata;
    Some(NodeInfo {
        name: node.parse().ok()?,
        epoch: id.parse().ok()?,
        labels: labels.parse().ok()?,
        version,
        start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_node_is_left_out() {
        let good =
            br#"{"name":"kakehi","id":"E1","metadata":{"node":"web-1","labels":"role=web"}}"#;
        assert_eq!(node(good).unwrap().labels.get("role"), Some("web"));
        for bad in [
            &b"garbage"[..],
            br#"{"name":"other","id":"E1","metadata":{"node":"a","labels":""}}"#,
            br#"{"name":"kakehi","id":"E1","metadata":{"node":"a b","labels":""}}"#,
            br#"{"name":"kakehi","id":"E1"}"#,
        ] {
            assert_eq!(node(bad), None);
        }
    }
}
