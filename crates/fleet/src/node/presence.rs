//! A node as a NATS micro service (ADR-32): it answers PING, INFO and STATS.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};
use tracing::debug;

use crate::{Labels, Name, broker::Connection};

/// The name of the service.
pub(crate) const SERVICE: &str = "kakehi";

/// The description of a node.
#[derive(Debug)]
pub(crate) struct Presence {
    node: Name,
    epoch: Name,
    labels: Labels,
    description: String,
    start: String,
    requests: AtomicU64,
}

impl Presence {
    pub(crate) fn new(node: Name, epoch: Name, labels: Labels, description: String) -> Self {
        let start = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { node, epoch, labels, description, start, requests: AtomicU64::new(0) }
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// One more request came.
    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Three wildcards: each subscription of each node costs the broker memory.
    pub(crate) fn subjects(&self) -> [String; 3] {
        [
            "$SRV.*".to_owned(),
            format!("$SRV.*.{SERVICE}"),
            format!("$SRV.*.{SERVICE}.{}", self.epoch),
        ]
    }

    pub(crate) async fn answer(&self, connection: &Connection, message: &Message) {
        let Some(reply) = &message.reply else { return };
        let Some(answer) = message.subject.split('.').nth(1).and_then(|verb| self.about(verb))
        else {
            return;
        };
        let payload = answer.to_string().into();
        let headers = HeaderMap::new();
        if let Err(error) = connection.publish(reply.clone(), None, headers, payload).await {
            debug!(%error, "cannot answer a ping");
        }
    }

    fn about(&self, verb: &str) -> Option<Value> {
        let kind = match verb {
            "PING" => "io.nats.micro.v1.ping_response",
            "INFO" => "io.nats.micro.v1.info_response",
            "STATS" => "io.nats.micro.v1.stats_response",
            _ => return None,
        };
        let mut answer = json!({
            "type": kind,
            "name": SERVICE,
            "id": self.epoch.as_str(),
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {
                "node": self.node.as_str(),
                "labels": self.labels.to_string(),
                "version": env!("CARGO_PKG_VERSION"),
                "start": self.start,
            },
        });
        let fields = answer.as_object_mut()?;
        match verb {
            "INFO" => {
                fields.insert("description".to_owned(), json!(self.description));
                fields.insert("endpoints".to_owned(), json!([]));
            }
            "STATS" => {
                let count = self.requests.load(Ordering::Relaxed);
                fields.insert("started".to_owned(), json!(self.start));
                fields.insert(
                    "endpoints".to_owned(),
                    json!([{
                        "name": "node",
                        "subject": format!("node.{}", self.node),
                        "queue_group": "kakehi",
                        "num_requests": count,
                        "num_errors": 0,
                        "last_error": "",
                        "processing_time": 0,
                        "average_processing_time": 0,
                    }]),
                );
            }
            _ => {}
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_answers_as_a_micro_service() {
        let name: Name = "web-1".parse().unwrap();
        let labels = "role=web".parse().unwrap();
        let presence = Presence::new(name, "E1".parse().unwrap(), labels, "the web".into());
        presence.count();
        let ping = presence.about("PING").unwrap();
        assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
        assert_eq!((&ping["name"], &ping["id"]), (&json!("kakehi"), &json!("E1")));
        assert_eq!(ping["metadata"]["labels"], "role=web");
        assert_eq!(presence.about("INFO").unwrap()["description"], "the web");
        assert_eq!(presence.about("STATS").unwrap()["endpoints"][0]["num_requests"], 1);
        assert_eq!(presence.about("SCHEMA"), None);
        assert_eq!(presence.subjects()[2], "$SRV.*.kakehi.E1");
    }
}
