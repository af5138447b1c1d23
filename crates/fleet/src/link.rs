//! The transport of one connection's messages: the client of NATS, or a script in tests.

use std::pin::Pin;

use async_nats::{Client, HeaderMap, Message, Subject, connection::State};
use bytes::Bytes;
use futures::Stream;

/// The messages of a subscription, which ends when they are dropped.
pub(crate) type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// A link to a broker. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Link {
    Nats(Client),
    #[cfg(any(test, feature = "testing"))]
    Scripted(crate::scripted::Link),
}

impl Link {
    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::Nats(client) => client.connection_state() == State::Connected,
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(link) => link.is_connected(),
        }
    }

    /// The most bytes of a message; 0 before the first connection.
    pub(crate) fn max_payload(&self) -> usize {
        match self {
            Self::Nats(client) => client.max_payload(),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => 1024 * 1024,
        }
    }

    /// A subject that no other process has.
    pub(crate) fn new_inbox(&self) -> String {
        match self {
            Self::Nats(client) => client.new_inbox(),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(link) => link.new_inbox(),
        }
    }

    /// Subscribes; `queue` is the group of which one member gets each message.
    pub(crate) async fn subscribe(
        &self,
        subject: impl Into<Subject>,
        queue: Option<&str>,
    ) -> Result<Messages, async_nats::SubscribeError> {
        let subject = subject.into();
        match self {
            Self::Nats(client) => Ok(match queue {
                Some(queue) => Box::pin(client.queue_subscribe(subject, queue.to_owned()).await?),
                None => Box::pin(client.subscribe(subject).await?),
            }),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(link) => Ok(Box::pin(link.subscribe(subject.into_string(), queue))),
        }
    }

    /// Publishes a message. It fails if the connection is closed, or if the message is too large.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        match self {
            Self::Nats(client) => match reply {
                Some(reply) if headers.is_empty() => {
                    client.publish_with_reply(subject, reply, payload).await
                }
                Some(reply) => {
                    client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                None => client.publish_with_headers(subject, headers, payload).await,
            }
            .map_err(|error| error.to_string()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(link) => {
                link.publish(&subject, reply.as_deref(), headers, payload);
                Ok(())
            }
        }
    }

    /// Waits until the broker has received all messages and subscriptions.
    pub(crate) async fn flush(&self) {
        match self {
            // An error says that the connection is closed.
            Self::Nats(client) => drop(client.flush().await),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(_) => {}
        }
    }
}
