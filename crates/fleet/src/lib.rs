//! Sends the requests of Kakehi over NATS: to one node, to any node with a label, or to all nodes.
//!
//! A [`Node`] answers requests with a handler of `kakehi-server`; the same handler also works on a
//! Unix socket. A [`Fleet`] sends requests, and returns the responses, errors and outcomes of
//! `kakehi-client`. Both need a broker: `nats-server` 2.9 or newer, without `JetStream`.
//!
//! ```no_run
//! use kakehi_channel::Request;
//! use kakehi_fleet::{Fleet, Keys, Node, Signer};
//! use kakehi_server::Context;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let anna = Signer::generate();
//! let keys = Keys::default().with_key(anna.public_key(), "anna", ["sre"])?;
//! let node = Node::connect("nats://127.0.0.1:4222", "web-1").labels("role=web".parse()?).keys(keys);
//! tokio::spawn(node.serve(async |request: Request<String>, context: Context| {
//!     context.progress("working").await?;
//!     Ok::<_, kakehi_channel::ChannelError>(request.command.unwrap_or_default())
//! }));
//!
//! let fleet = Fleet::connect("nats://127.0.0.1:4222").await?.signed_by(anna);
//! let response = fleet.any("role", "web")?.request("hello").await?;
//! assert_eq!(response.message, "hello");
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - If no node is connected for a request, the request fails at once with the outcome *not sent*.
//! - A node first accepts a request, and starts it only after the client has confirmed the accept. So
//!   a request that was delayed in a broker or a client never starts late.
//! - Progress arrives in order and without gaps, and the final response arrives exactly once, even
//!   if the broker restarts. Messages have numbers, and the node keeps them until the client
//!   acknowledges them.
//! - If the client reads slowly, the handler waits.
//! - If the caller drops a request, or the client's process dies, the node cancels the request.
//! - A process of a node runs a request of each id of a signer at most once. For 10 minutes after the
//!   end of a request, the client can query its outcome. With a [journal](Node::journal), both also
//!   hold after a restart, for 7 days.
//!
//! # Limits
//! - A node without a journal forgets its requests when it restarts. Their outcome is then unknown.
//! - A request or a response must fit into one message of the broker, 1 MiB by default.
//! - The broker can drop requests, and forge responses, credit and cancellations. It cannot forge a
//!   request, which is signed. Use TLS, and give each user of the broker its own subjects.

mod bridge;
mod broker;
mod client;
mod early;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod exchanges;
mod life;
mod link;
mod message;
mod names;
mod node;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod scripted;
mod select;
mod sign;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod world;

pub use broker::{Broker, FleetError};
pub use client::{
    All, Ended, Event, Fleet, NodeInfo, Receipt, RequestBuilder, Responses, Settled, Summary,
    Target,
};
pub use names::{Labels, Name, NameError};
pub use node::Node;
pub use select::{Selector, SelectorError};
pub use sign::{KeyError, Keys, Signer};
