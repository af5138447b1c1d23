//! Channels over pipes and sockets, with literal bytes and paused time.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod halves;
mod memory;
mod receiving;
mod sending;
mod sockets;
mod waiting;

use std::{future::Future, time::Duration};

use kakehi_channel::{Channel, Json};
use tokio::{io::DuplexStream, time::timeout};

/// A channel of small numbers over a pipe of `size` bytes, and the other end of the pipe.
fn numbers(size: usize) -> (Channel<u8, u8, Json, DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(size);
    (Channel::new(ours), theirs)
}

/// The result of `future`, which must complete within 10 s.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.unwrap()
}
