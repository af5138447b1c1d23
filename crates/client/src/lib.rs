//! Sends requests to a daemon over its Unix socket, on tokio. A request gets any number of progress
//! responses, then exactly one final response.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
//! # let (_dir, path) = server();
//! use std::time::Duration;
//! use kakehi_client::Client;
//!
//! let client = Client::connect(path).await?;
//!
//! // The final response alone:
//! let answer = client.request("reload").await?;
//! assert_eq!(answer.message, "done");
//!
//! // Or each response as it arrives:
//! let timeout = Duration::from_secs(2);
//! let mut responses = client.request("backup").timeout(timeout).send().await?;
//! while let Some(response) = responses.next_within(timeout).await? {
//!     println!("{} {}", response.status, response.message);
//! }
//! # Ok(()) }
//! ```
//!
//! # Types
//! - One [`Client`] is enough for a program. It is cheap to clone, and any number of tasks can use it
//!   at once. It has a pool of connections. [`ClientSettings`] has its settings.
//! - A [`Connection`] is one byte stream of any kind, for one request at a time or a [`Pipeline`]
//!   of many.
//! - A [`RequestBuilder`] sets a request's id, timeout and deadline. `.await` returns the final
//!   response; `send` returns the [`Responses`], a stream that ends after the final response.
//! - An [`Error`] has an [`ErrorKind`], which names the error, and an [`Outcome`], which says whether
//!   the server carried out the request.
//!
//! # Timeout and deadline
//! The timeout applies to each response, and each response restarts it. Default: 30 s. The deadline
//! applies to the whole request. Default: no limit. Both cover the wait for a connection,
//! connecting, writing and reading. Zero or `None` means no limit.
//!
//! The client sends both to the server. The server sends keep-alives at half of the timeout, and
//! cancels the request at the deadline. A keep-alive restarts the timeout; [`Responses`] skip it.
//!
//! # Outcomes of an error
//! | outcome | what is certain | what to do |
//! |---|---|---|
//! | [`NotSent`](Outcome::NotSent) | the request did not leave this process | send it again |
//! | [`Refused`](Outcome::Refused) | the server did not start it | see [`Error::refusal`] |
//! | [`Failed`](Outcome::Failed) | the server answered ERROR | see [`Error::response`] |
//! | [`Done`](Outcome::Done) | the server answered OK, with content that cannot be decoded | see [`Error::payload`] |
//! | [`Unknown`](Outcome::Unknown) | it was sent, and no final response arrived | check the state of the server |
//!
//! [`Responses`] yield an ERROR as an `Ok` item. `.await` returns it as an `Err`.
//!
//! The client retries a request if its pooled connection was closed before the request was sent.
//! With [`Reconnect`], it also retries if it cannot connect, or if the server refuses because it is
//! busy or shutting down. If the connection is lost after the request was sent, the client retries
//! only an [`idempotent`](RequestBuilder::idempotent) request, at most twice, even without
//! [`Reconnect`].
//!
//! # Guarantees
//! - If a request is dropped or fails without an answer, the client closes the connection. So the
//!   server cancels the request, and no later request receives its response. There is one exception:
//!   if the timeout passes while [`Responses`] wait for a response, the connection stays open and
//!   the request goes on, so that the caller can wait again.
//! - Dropping a future leaks no connection. The client spawns no task, and holds no lock while it
//!   waits.
//! - The client never blocks the runtime, however long the server takes.
//!
//! # Observability
//! Each request is a `tracing` span at debug level, with its id and outcome. The client counts
//! requests and latencies by outcome: see [`Client::stats`].
//!
//! With the feature `opentelemetry`, the server's span of a request is a child of the client's span.
//! If the client's span is disabled, the current span takes its place.

mod call;
mod client;
mod command;
mod connect;
mod connection;
mod error;
mod pipeline;
mod pool;
mod request;
mod responses;
mod settings;
mod stats;
mod timers;

pub use client::Client;
pub use command::{CommandError, CommandRequest};
pub use connect::Reconnect;
pub use connection::Connection;
pub use error::{Error, Outcome};
pub use kakehi_channel::{
    BUSY_POLL, BufferLimits, Channel, ErrorKind, Refusal, Request, Response, ResponseMessage,
    Status, TraceContext, default_socket,
};
pub use kakehi_command::Event;
pub use pipeline::Pipeline;
pub use request::{RequestBuilder, RequestMessage, unique_id};
pub use responses::{FinalResponse, Responses};
pub use settings::ClientSettings;
pub use stats::{ClientStats, Latencies};
pub use timers::Timeouts;
