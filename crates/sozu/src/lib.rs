//! Controls a running [Sōzu](https://www.sozu.io) from async Rust: requests with progress, batches,
//! and a stream of events that reports its gaps.
//!
//! ```no_run
//! use kakehi_sozu::{Notice, Sozu, command::{Cluster, request::RequestType}};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let sozu = Sozu::from_config("/etc/sozu/config.toml").await?.connect().await?;
//!
//!     // The final response alone:
//!     let blue = Cluster { cluster_id: "blue".into(), ..Cluster::default() };
//!     sozu.request(RequestType::AddCluster(blue)).await?;
//!
//!     // Each response:
//!     let mut responses = sozu.request(RequestType::LoadState("state.json".into())).send().await?;
//!     while let Some(response) = responses.next().await.transpose()? {
//!         println!("{}: {}", response.status, response.message);
//!     }
//!
//!     // Changes, also by other programs:
//!     let mut events = sozu.events();
//!     while let Notice::Subscribed | Notice::Event(_) = events.next().await {}
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//! - One [`Sozu`] serves a whole program. It is cheap to clone and pools its connections. A
//!   [`SozuBuilder`] configures it, by hand or [from Sōzu's configuration](Sozu::from_config).
//! - A [`RequestBuilder`] sets the timeout and the deadline of a request. Awaited, it returns the
//!   final [`Response`]; its `send` returns all [`Responses`]. A [`batch`](Sozu::batch) returns one
//!   result for each request.
//! - A [probe](Sozu::probe) finds out whether the running Sōzu understands the verbs of a
//!   [`Release`].
//! - [`Sozu::metrics`] queries the [`metrics`] as typed values.
//! - [`Events`] is a stream of [`Notice`]s.
//! - An [`Error`] says what failed; its [`Outcome`] says whether the request was carried out.
//! - [`command`] contains Sōzu's message types, from `sozu-command-lib`.
//! - With the feature `server`, a handler of `kakehi-server` with this crate's `Context` answers as
//!   a Sōzu does, for example as a stand-in in tests.
//! - [`axum`] is a guide for web servers that control Sōzu.
//!
//! # Promises
//! - No call blocks the runtime.
//! - A connection serves one request at a time and is closed when a request is abandoned, so a
//!   request never receives the response to another.
//! - Each request ends at its deadline, by default 15 s, unless it is
//!   [open-ended](Request::is_open_ended). Without a response, its outcome is unknown.
//! - The client does not send a frame that would kill Sōzu's workers.
//! - A request is sent in its [canonical form](Request#canonical-form), so an old Sōzu cannot carry
//!   out a part of a newer request.
//! - The client keeps its sending side open until the final response, because Sōzu drops the
//!   requests of clients that half-close.
//! - An unknown status or content is an error that of the kind [`Malformed`](ErrorKind::Malformed); its source
//!   has the payload.
//! - After a restart or an upgrade of Sōzu, the next request works.

mod batch;
mod builder;
mod config;
mod events;
pub mod metrics;
mod probe;
mod request;
mod response;
#[cfg(feature = "server")]
mod server;
mod sozu;
mod wire;

pub use builder::SozuBuilder;
pub use config::ConfigError;
pub use events::{Events, Notice};
pub use kakehi_client::{ClientStats, ErrorKind, Outcome, Reconnect, Status};
pub use probe::{ProbeError, Release, Support};
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
