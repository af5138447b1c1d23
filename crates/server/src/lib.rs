//! A control socket for a daemon, on tokio. Each request gets any number of progress responses and
//! exactly one final response.
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
//!         Ok::<_, kakehi_channel::ChannelError>(match request.command {
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
//! # Overview
//! - [`Socket`] listens at a path. By default, only its owner can connect. It replaces the socket of
//!   a dead server of the same owner, and refuses any other existing file.
//! - [`serve`] takes any [`Listener`], and accepts connections until it is shut down. The methods of
//!   [`Serve`] set [`Limits`], [`Access`] and the shutdown signal. They also take a [`Handle`], which
//!   later returns the counters and shuts the server down. [`serve_stream`] serves one byte stream.
//! - A [`Handler`] answers requests: `Ok` becomes OK; `Err` and a panic become ERROR. An [`Answer`]
//!   or a [`Failure`] can have content.
//! - [`Context`] sends progress, and has the [`Peer`], the deadline and the cancellation.
//! - [`Protocol`] is for formats other than JSON. The second type parameter of [`Context`]
//!   selects it.
//!
//! # Guarantees
//! - Each request that the server starts gets exactly one final response, or the connection ends.
//!   No response follows the final one.
//! - The server collects progress while the handler runs, and sends it whenever the handler's future
//!   is pending. If the client does not read, [`Context::progress`] waits; other connections are not
//!   affected.
//! - Requests on one connection are answered in order.
//! - If the client disconnects, its request is cancelled within a second. A client that closes only
//!   its sending side still gets all responses.
//! - The response to a malformed request contains the error and its position.
//! - All [`Limits`] are on by default, except for `max_timeout` and `max_deadline`.
//! - If no file descriptor is free, the server waits before it accepts again.
//!
//! # Logging
//! The server logs with `tracing`. The span of a connection has the connection's number and the
//! client's uid and pid, and opens at the first request. The span of a request has the request's id
//! and command, and opens before the server authorizes the request ([`Serve::authorize`]). Its field
//! `command` is the text that [`Handler::describe`] returns. If this text is empty, the field is the
//! command's name.
//! When a request ends, the server logs an event at the level info with the outcome and the duration.
//! A refusal is an event with uid, id, command and reason. Text from clients is escaped.
//!
//! # Features
//! - `opentelemetry`: the span of a request is a child of the client's span, and
//!   [`Context::trace`] returns the trace context of the request's span.
//! - `metrics`: counters for each command, with the facade `metrics`. The page
//!   `docs/guide/observability.md` lists their names.

mod answer;
mod connection;
mod context;
mod handler;
mod limits;
mod listener;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
#[cfg(all(test, shuttle))]
mod model;
mod outbox;
mod protocol;
mod received;
mod reserved;
mod running;
mod serve;
mod shared;
mod stats;
mod sync;

pub use answer::{Answer, Failure, IntoAnswer, IntoFailure, IntoFault};
pub use kakehi_socket::{Access, Bind, BindError, BindErrorKind, Identity, Peer, Socket};

pub use context::{AnyContent, Carries, Context};
pub use handler::Handler;
pub use limits::Limits;
pub use listener::Listener;
pub use protocol::{Content, Protocol};
pub use running::{FollowError, Followed, Follower, RunningRequest};
pub use serve::{Serve, serve, serve_stream};
pub use stats::{Handle, ServerStats};
