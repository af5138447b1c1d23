//! Asks a daemon over its Unix socket, on tokio: one request, any number of progress messages,
//! exactly one final answer.
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
//! // The final answer alone:
//! let answer = client.request("reload").await?;
//! assert_eq!(answer.message, "done");
//!
//! // Or each response as it comes:
//! let patience = Duration::from_secs(2); // the server is told, and says in time that it is at work
//! let mut responses = client.request("backup").timeout(patience).send().await?;
//! while let Some(response) = responses.next_within(patience).await? {
//!     println!("{} {}", response.status, response.message);
//! }
//! # Ok(()) }
//! ```
//!
//! # From the top down
//! - A [`Client`] is for a whole program: cheap to clone, used from any number of tasks at once,
//!   with a pool of connections that finds dead ones before they are used.
//! - A [`Connection`] is exclusive: one request after the other on one byte stream of any kind, or
//!   a [`Pipeline`] of many.
//! - A [`RequestBuilder`] sets a request's id and clocks. Awaited, it gives the final response;
//!   its `send` gives the [`Responses`], a stream that ends after the final one.
//! - An [`Error`] tells what happened, and by its [`Outcome`] what became of the request.
//!
//! # Two clocks
//! Each request has a timeout for each response, 30 s by default, that every response restarts;
//! and a deadline for all of it, none by default. Both cover everything that is waited for: a free
//! connection, connecting, writing and reading. Zero or `None` means without limit, never "at
//! once". The server is told both: it sends keep-alives often enough for the first, which are not
//! shown to the caller, and cancels the request at the second.
//!
//! # Four outcomes besides OK
//! | outcome | what is certain | what to do |
//! |---|---|---|
//! | [`NotSent`](Outcome::NotSent) | nothing left this process | send it again |
//! | [`Refused`](Outcome::Refused) | the server did not start it | see [`Error::refusal`] |
//! | [`Failed`](Outcome::Failed) | the server answered ERROR, see [`Error::response`] | as it says |
//! | [`Unknown`](Outcome::Unknown) | it was sent, and no answer came | ask the server what it did |
//!
//! An ERROR is an item like any other for who follows the [`Responses`], and an `Err` for who
//! awaits the final one alone. Only what was not sent is sent again without being asked, and only
//! where an idle connection turned out to have ended; an unknown outcome only if the request is
//! [`idempotent`](RequestBuilder::idempotent).
//!
//! # What holds
//! - A connection whose request was given up, by a drop, a timeout or an error, is closed and never
//!   used again: no answer is ever another request's, and the server learns of it.
//! - Dropping any future leaks no connection. Nothing is spawned; no lock is held while waiting.
//! - The runtime never blocks, however long a server takes.
//!
//! # What is observed
//! Each request is a `tracing` span at the debug level with its id and outcome, and the client
//! counts requests and latencies by outcome: [`Client::stats`].

mod answer;
mod builder;
mod call;
mod client;
mod clocks;
mod connect;
mod connection;
mod error;
mod exchange;
mod home;
mod kind;
mod link;
#[cfg(all(test, shuttle))]
mod model;
mod open;
mod outcome;
mod pipeline;
mod pool;
mod request;
mod responses;
mod stats;
mod sync;
mod verdict;

/// The `client` binary. It is part of the library for those who fuzz it, and of no API.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

/// The binary names the library as anybody would.
#[cfg(feature = "cli")]
extern crate self as kakehi_client;

pub use answer::Answer;
pub use builder::ClientBuilder;
pub use call::{Call, unique_id};
pub use client::Client;
pub use clocks::Clocks;
pub use connect::Reconnect;
pub use connection::Connection;
pub use error::Error;
pub use kakehi_channel::{
    BUSY_POLL, Channel, Limits, Refusal, Reply, Request, Response, Status, default_socket,
};
pub use outcome::Outcome;
pub use pipeline::Pipeline;
pub use request::RequestBuilder;
pub use responses::Responses;
pub use stats::{Latencies, Stats};

pub mod doctor;
