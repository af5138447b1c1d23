//! Bounds that most users of a channel need, each under one name.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Decode, Encode};

/// A byte stream that a channel can read from and write to. Every type with these three traits
/// has it: it is not implemented by hand.
///
/// ```
/// fn accepts(stream: impl kakehi_channel::ByteStream) {
///     drop(stream);
/// }
///
/// accepts(tokio::io::duplex(64).0);
/// ```
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream for S {}

/// A format that writes messages of type `Tx` and reads messages of type `Rx`. Every format with
/// these two traits has it: it is not implemented by hand.
///
/// ```
/// use kakehi_channel::{Json, Request, Response, Speaks};
///
/// fn accepts(format: impl Speaks<Request, Response>) {
///     drop(format);
/// }
///
/// accepts(Json::default());
/// ```
pub trait Speaks<Tx: ?Sized, Rx>: Encode<Tx> + Decode<Rx> {}

impl<Tx: ?Sized, Rx, F: Encode<Tx> + Decode<Rx>> Speaks<Tx, Rx> for F {}
