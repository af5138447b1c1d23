//! Give a daemon a control socket, on tokio: requests in, progress out, exactly one final answer,
//! whatever happens.
//!
//! A daemon has an enum of commands; this makes a socket of it:
//!
//! ```no_run
//! use kakehi_channel::Request;
//! use kakehi_server::{Context, Socket, serve};
//!
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Command {
//!     Reload,
//!     Drain { seconds: u64 },
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), kakehi_server::BindError> {
//!     let socket = Socket::bind("/run/app/app.sock").listen()?;
//!     serve(socket, async |request: Request<Command>, context: Context| {
//!         context.progress("on it").await?;
//!         Ok::<_, kakehi_channel::Error>(match request.command {
//!             Some(Command::Reload) => "reloaded".to_owned(),
//!             Some(Command::Drain { seconds }) => format!("drained for {seconds} s"),
//!             None => "nothing to do".to_owned(),
//!         })
//!     })
//!     .await;
//!     Ok(())
//! }
//! ```
//!
//! # From the top down
//! - A [`Socket`] is bound safely: nobody but its owner can connect at any moment, only a dead
//!   socket of ours is taken over, and only our own is removed.
//! - [`serve`] accepts and ends: set [`Limits`], [`Access`], a shutdown and a drain, and await it.
//!   It takes any other [`Listener`] too; [`serve_stream`] serves any one byte stream.
//! - A [`Handler`] answers requests. Returning is answering: `Ok` becomes OK, `Err` becomes ERROR,
//!   a panic becomes ERROR. An [`Answer`] or a [`Failure`] can carry content for a program.
//! - Its [`Context`] sends progress, knows the [`Peer`], and says when to stop.
//! - A [`Handle`] reads the counters, and ends the server.
//! - A [`Wire`] other than Kakehi's own is spoken by a handler whose [`Context`] names it.
//!
//! # What holds
//! - An accepted request gets exactly one final answer, or the connection ends; nothing follows.
//! - Progress is on its way as soon as the handler waits; while it does not, messages are
//!   gathered. A client that does not read makes [`Context::progress`] wait, and nobody else.
//! - Requests on one connection are answered in order, and none is dropped.
//! - A client that leaves cancels its request within a second; one that closes only its sending
//!   side is answered in full.
//! - Malformed requests are answered by what is wrong with them, and where.
//! - Every limit is on by default. Without descriptors, accepting waits and goes on.
//!
//! # What is observed
//! With `tracing`: a span for each connection (number, uid, pid), from its first request on, and
//! each request (id, and what [`Handler::describe`] says), and an event at its end with its outcome
//! and duration, at the info level. What clients wrote is escaped.

mod alarm;
mod answer;
mod answering;
mod clocks;
mod connection;
mod context;
pub mod demo;
mod handler;
mod hub;
mod limits;
mod listener;
#[cfg(all(test, shuttle))]
mod model;
mod outbox;
mod peer;
mod serve;
mod socket;
mod stats;
mod sync;
mod wire;

/// The `server` binary. It is part of the library for those who fuzz it, and of no API.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod binary;

#[cfg(feature = "cli")]
mod arguments;
#[cfg(feature = "cli")]
mod daemon;
#[cfg(feature = "cli")]
mod jobs;
#[cfg(feature = "cli")]
mod systemd;

/// The binary names the library as anybody would.
#[cfg(feature = "cli")]
extern crate self as kakehi_server;

pub use answer::{Answer, Failure, IntoAnswer, IntoFailure};
pub use context::Context;
pub use handler::Handler;
pub use limits::Limits;
pub use listener::Listener;
pub use peer::{Access, Peer};
pub use serve::{Serve, serve, serve_stream};
pub use socket::{Bind, BindError, BindErrorKind, Socket};
pub use stats::{Handle, Stats};
pub use wire::{Content, Wire};
