//! The fuzz targets: functions that take any bytes and panic if a property does not hold.
//!
//! `fuzz/` calls them with bytes from libFuzzer, `tests/fuzz.rs` with the seeds.

mod buffer;
mod client;
mod clients;
mod encode_decode;
mod fleet;
mod frames;
mod jobs_file;
mod messages;
mod plain;
mod rendering;
mod runtime;
mod server;

use std::{io, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    task::yield_now,
    time::sleep,
};

pub use self::{
    buffer::buffer,
    client::client,
    clients::clients,
    encode_decode::encode_decode,
    fleet::{fleet_client, fleet_exchanges, fleet_node},
    frames::{json_frames, sozu_frames},
    jobs_file::jobs_file,
    messages::messages,
    rendering::{is_harmless, rendering, show},
    server::server,
};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("buffer", buffer),
    ("client", client),
    ("clients", clients),
    ("encode_decode", encode_decode),
    ("fleet_client", fleet_client),
    ("fleet_exchanges", fleet_exchanges),
    ("fleet_node", fleet_node),
    ("jobs_file", jobs_file),
    ("json_frames", json_frames),
    ("messages", messages),
    ("rendering", rendering),
    ("server", server),
    ("sozu_frames", sozu_frames),
];

/// The pause between two pieces of a stream, or before a step of a handler.
const PAUSE: Duration = Duration::from_millis(1);

/// Decodes an input from `data`. `None` if the data is too short.
fn input<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(data)).ok()
}

/// Writes `bytes` in pieces with pauses. An error means that the reader has closed.
async fn write_in_pieces(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    pieces: &mut impl Iterator<Item = (usize, bool)>,
) -> io::Result<()> {
    let mut waits = 0;
    while let (false, Some((size, wait))) = (bytes.is_empty(), pieces.next()) {
        let (piece, behind) = bytes.split_at(size.min(bytes.len()));
        stream.write_all(piece).await?;
        bytes = behind;
        if !wait {
            continue;
        }
        waits += 1;
        // A sleep costs more than the rest of a run, so their number is bounded.
        if waits <= 8 { sleep(PAUSE).await } else { yield_now().await }
    }
    Ok(())
}

/// Decodes the pieces of a stream: sizes from 1 to 64 bytes, and whether a pause follows.
fn chunks(sizes: &[u8]) -> Vec<(usize, bool)> {
    sizes.iter().map(|size| (usize::from(size & 0x3f) + 1, size & 0x40 > 0)).collect()
}
