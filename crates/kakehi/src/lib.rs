//! Gives a daemon a control socket, and other programs a client for it. A request gets any number of
//! progress responses, then exactly one final response, over a Unix socket.
//!
//! A daemon serves the socket with [`server`]; a program sends requests with [`client`]. Both
//! exchange the messages [`Request`] and [`Response`]. If each command has a type of its own, use
//! the derive [`Command`](macro@Command), the [`Router`] and [`Client::call`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kakehi::client::Client;
//! use kakehi::server::{Context, Failure, Socket, serve};
//! use kakehi::Request;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("app.sock");
//! let server = serve(Socket::bind(&path).listen()?, async |request: Request<String>, _: Context| {
//!     Ok::<_, Failure>(format!("done: {}", request.command.unwrap_or_default()))
//! });
//! tokio::spawn(async move { server.await });
//!
//! let client = Client::connect(&path).await?;
//! assert_eq!(client.request("reload").await?.message, "done: reload");
//! # Ok(()) }
//! ```
//!
//! # Features
//! - `server` (default): the server library, and its [`router`].
//! - `client` (default): the client library.
//! - `doctor`: explains why a socket cannot be reached.
//! - `schema`: JSON Schemas of commands whose types implement `schemars::JsonSchema`.
//! - `opentelemetry`: the server's span of a request is a child of the client's span.
//! - `metrics`: the server counts the requests of each command with the facade `metrics`.
//! - `testing`: serves a handler in memory, for tests.

pub use kakehi_channel as channel;
pub use kakehi_channel::{Refusal, Request, Response, Status, TraceContext, default_socket};
#[cfg(feature = "client")]
pub use kakehi_client::{self as client, Client};
pub use kakehi_command::{
    self as command, Command, CommandDescription, Describe, Description, Invocation, Schemas,
};
#[cfg(feature = "doctor")]
pub use kakehi_doctor as doctor;
pub use kakehi_macros::Command;
#[cfg(feature = "server")]
pub use kakehi_router::{self as router, Router};
#[cfg(feature = "server")]
pub use kakehi_server as server;

#[cfg(feature = "testing")]
pub mod testing;
