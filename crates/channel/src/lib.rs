//! Typed messages over a Unix socket, on tokio: one request, any number of progress messages,
//! exactly one final answer.
//!
//! This crate is the pipe between a client and a server: bytes to messages and back, with a bound
//! on every buffer. `kakehi-server` and `kakehi-client` stand on it, and it can be used alone.
//!
//! ```
//! use kakehi_channel::{Channel, Request, Response, Status};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::Error> {
//! let (mut client, mut server) = Channel::<Request, Response>::pair()?;
//!
//! tokio::spawn(async move {
//!     while let Some(Ok(request)) = server.next().await {
//!         server.send(Response::processing(&request.id, "Not done yet")).await?;
//!         server.send(Response::ok(&request.id, "Done")).await?;
//!     }
//!     Ok::<_, kakehi_channel::Error>(())
//! });
//!
//! client.send(Request::new("My-urgent-request")).await?;
//! let mut seen = vec![];
//! while let Some(response) = client.next().await.transpose()? {
//!     seen.push(response.status);
//!     if response.status.is_final() {
//!         break;
//!     }
//! }
//! assert_eq!(seen, [Status::Processing, Status::Ok]);
//! # Ok(()) }
//! ```
//!
//! # From the top down
//! - [`Channel`] sends and receives messages over a [`tokio::net::UnixStream`] or any other byte
//!   stream. It is a `Stream` and a `Sink`; every method says whether it is cancel safe.
//! - A [`Format`] says what a wire is. [`Json`] is Kakehi's own, JSON ended by a NUL byte;
//!   `Sozu` (feature `sozu`) is the framing of the Sōzu proxy. [`Decode`] and [`Encode`] make
//!   one's own.
//! - [`Request`], [`Response`] and [`Status`] are the messages of Kakehi's own wire; [`Reply`] is
//!   what a client needs of any response to follow it to its end.
//! - A [`Buffer`] grows on demand under a hard maximum, the [`Limits`] of its direction.
//! - [`Error`] tells by predicates what happened, and whether the channel goes on.
//!
//! # What holds
//! - A message is sent whole or not at all, and read whole or not at all.
//! - A malformed message costs that message; lost frame boundaries end the channel; an end inside
//!   a frame is an error.
//! - No byte is searched twice for the end of a frame.
//! - An idle channel holds no buffer memory; a busy one no more than its [`Limits`] and what is
//!   staged to be written.
//! - A wait has a clock where the caller wants one: [`Channel::next_within`], or
//!   [`tokio::time::timeout`] around anything.

mod buffer;
mod channel;
mod codec;
mod error;
mod format;
mod limits;
mod line;
mod message;
mod path;
mod polling;
mod spare;

pub use buffer::{Buffer, Full};
pub use channel::Channel;
pub use error::Error;
#[cfg(feature = "sozu")]
pub use format::Sozu;
pub use format::{Decode, Encode, Format, Frame, Json, encode_frame};
pub use limits::Limits;
pub use message::{Refusal, Reply, Request, Response, Status, VERSION};
pub use path::{NoDefaultSocket, default_socket};
pub use polling::{BUSY_POLL, TryRead};
