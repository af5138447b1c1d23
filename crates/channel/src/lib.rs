//! Typed messages over a Unix socket, on tokio.
//!
//! This crate turns bytes into messages and messages into bytes, in bounded memory. In
//! Kakehi's protocol, a request gets any number of progress responses, then one final response.
//! `kakehi-server` and `kakehi-client` build on this crate. You can also use the crate alone.
//!
//! ```
//! use kakehi_channel::{Channel, Request, Response, Status};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_channel::ChannelError> {
//! let (mut client, mut server) = Channel::<Request, Response>::pair()?;
//!
//! tokio::spawn(async move {
//!     while let Some(Ok(request)) = server.next().await {
//!         server.send(Response::processing(&request.id, "Not done yet")).await?;
//!         server.send(Response::ok(&request.id, "Done")).await?;
//!     }
//!     Ok::<_, kakehi_channel::ChannelError>(())
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
//! # Overview
//! - [`Channel`] sends and receives messages over a [`tokio::net::UnixStream`] or any other byte
//!   stream. It is a `Stream` and a `Sink`, and each async method says whether it is cancel safe.
//! - A [`Format`] is framing and encoding. [`Json`] is Kakehi's format, JSON ended by a NUL byte.
//!   To add a format, implement [`Format`], [`Decode`] and [`Encode`].
//! - [`Request`], [`Response`] and [`Status`] are the messages of Kakehi's protocol.
//!   A client reads the responses of any protocol through the trait [`ResponseMessage`].
//! - [`BufferLimits`] bound the largest frame of each direction.
//! - [`ChannelError`] has an [`ErrorKind`]. After an error that
//!   [is fatal](ChannelError::is_fatal), the channel cannot be used.
//! - [`BusyPoll`] wraps a byte stream and polls for a moment before the task sleeps.
//! - [`low_level`] drives a channel by hand. It is outside of the semver promise.
//!
//! # Guarantees
//! - A message is sent as a whole or not at all, and received as a whole or not at all.
//! - A malformed message does not affect the next one. If the channel cannot find the start of the
//!   next frame, it returns an error and its stream ends. A connection that is closed inside a frame
//!   is an error.
//! - The channel searches each byte at most once for the end of a frame.
//! - An idle channel holds no memory for its buffers. A busy channel holds at most one buffer of
//!   received frames, the message that it encodes, and the encoded messages that are not yet sent.
//!   [`BufferLimits`] bound the first two. The messages that are not yet sent take at most 64 KiB
//!   plus one frame. (Code that uses [`low_level`] must bound them itself.)
//! - [`Channel::next_within`] waits with a timeout. For another method, use [`tokio::time::timeout`]
//!   if the method is cancel safe.

mod bounds;
mod channel;
mod codec;
mod error;
mod format;
mod message;
mod path;

pub use bounds::{ByteStream, Speaks};
pub use channel::Channel;
pub use error::{ChannelError, ErrorKind};
pub use format::{Decode, Encode, Format, Json};
pub use kakehi_buffer::BufferLimits;
pub use kakehi_busy_poll::{BUSY_POLL, BusyPoll};
pub use kakehi_trace::TraceContext;
pub use message::{Refusal, Request, Response, ResponseMessage, Status, VERSION};
pub use path::default_socket;

/// The parts of a server loop, and of formats other than [`Json`].
///
/// Outside of the semver promise: any release may change this module.
pub mod low_level {
    pub use kakehi_buffer::{Buffer, Full};

    pub use crate::{
        channel::LowLevel,
        format::Frame,
        message::{Word, read_version},
    };
}
