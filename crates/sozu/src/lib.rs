//! Control a running [Sōzu](https://www.sozu.io) from async Rust: requests with their progress,
//! batches, and events that say when they have a gap.
//!
//! ```no_run
//! use kakehi_sozu::{Notice, Sozu, command::{Cluster, request::RequestType}};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let sozu = Sozu::from_config("/etc/sozu/config.toml").await?.connect().await?;
//!
//!     // The final answer alone:
//!     let blue = Cluster { cluster_id: "blue".into(), ..Cluster::default() };
//!     sozu.request(RequestType::AddCluster(blue)).await?;
//!
//!     // Or each response as it comes:
//!     let mut responses = sozu.request(RequestType::LoadState("state.json".into())).send().await?;
//!     while let Some(response) = responses.next().await.transpose()? {
//!         println!("{}: {}", response.status, response.message);
//!     }
//!
//!     // And what others do to it:
//!     let mut events = sozu.events();
//!     while let Notice::Subscribed | Notice::Event(_) = events.next().await {}
//!     Ok(())
//! }
//! ```
//!
//! # From the top down
//! - A [`Sozu`] is for a whole program: cheap to clone, used from any number of tasks at once, with
//!   a pool of connections that finds dead ones before they are used. A [`SozuBuilder`] sets it up,
//!   by hand or [from Sōzu's configuration](Sozu::from_config).
//! - A [`RequestBuilder`] sets a request's clocks. Awaited, it gives the final [`Response`]; its
//!   `send` gives the [`Responses`]. A [`batch`](Sozu::batch) gives one result for each request.
//! - [`Events`] tell what happens, by [`Notice`]s.
//! - An [`Error`] tells what happened, and by its [`Outcome`] what became of the request.
//! - [`command`] has Sōzu's own message types, of `sozu-command-lib`.
//! - With the feature `server`, a handler of `kakehi-server` whose context is a `Context` of this
//!   crate speaks as a Sōzu does: a stand-in for tests, to which also the real command line talks.
//! - [`axum`] is a guide: control Sōzu from a web server.
//!
//! # What holds
//! - Nothing blocks the runtime, however long a Sōzu or one of its workers takes.
//! - One request is under way on a connection, always, and one on which a request was given up is
//!   closed: no answer is ever another request's.
//! - Each request ends by its deadline of 15 s at the latest, unless nobody can say
//!   [how long it takes](Request::is_open_ended); what Sōzu never answers ends so, with an unknown
//!   outcome.
//! - A frame that would kill Sōzu's workers is refused before any of it is sent.
//! - The sending direction stays open until the final response: Sōzu drops requests without it.
//! - A status or a kind of content that is not known is an error that keeps the bytes: that error
//!   [is malformed](Error::is_malformed), and its source has the payload.
//! - After a restart or an upgrade of Sōzu, the next request works.

mod batch;
mod builder;
mod config;
mod events;
mod request;
mod response;
#[cfg(feature = "server")]
mod server;
mod sozu;
mod wire;

pub use builder::SozuBuilder;
pub use config::ConfigError;
pub use events::{Events, Notice};
pub use kakehi_client::{Outcome, Reconnect, Stats, Status};
pub use request::Request;
pub use response::{Response, UnknownResponse};
#[cfg(feature = "server")]
pub use server::{Asked, Context};
pub use sozu::{Error, RequestBuilder, Responses, Sozu};
pub use sozu_command_lib::proto::command;
pub use wire::Wire;

/// The README's programs, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[doc = include_str!("../doc/axum.md")]
#[cfg(any(doc, doctest))]
pub mod axum {}
