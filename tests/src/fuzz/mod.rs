//! What is fuzzed, and what must hold: a function for each target, of any bytes.
//!
//! `fuzz/` gives them what libFuzzer makes up, `tests/fuzz.rs` the seeds. A function returns when
//! all is well, and panics when it is not.

mod buffer;
mod client;
mod clients;
mod encode_decode;
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
    frames::{json_frames, sozu_frames},
    jobs_file::jobs_file,
    messages::messages,
    rendering::{is_harmless, rendering, show},
    server::server,
};

/// A target.
pub type Target = fn(&[u8]);

/// All targets, by their names.
pub const TARGETS: [(&str, Target); 10] = [
    ("buffer", buffer),
    ("client", client),
    ("clients", clients),
    ("encode_decode", encode_decode),
    ("jobs_file", jobs_file),
    ("json_frames", json_frames),
    ("messages", messages),
    ("rendering", rendering),
    ("server", server),
    ("sozu_frames", sozu_frames),
];

/// A wait between two pieces of a stream, or before a step of a handler.
const PAUSE: Duration = Duration::from_millis(1);

/// The input that `data` stands for, if it is enough for one.
fn input<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(data)).ok()
}

/// Writes `bytes` in pieces, with some waits in between. An error: they are not wanted any more.
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
        // Each sleep costs more than all else together.
        if waits <= 8 { sleep(PAUSE).await } else { yield_now().await }
    }
    Ok(())
}

/// How a stream is cut into pieces: a size for each, from 1 to 64 bytes, used in turn and over and
/// over; and whether there is a wait behind it.
fn chunks(sizes: &[u8]) -> Vec<(usize, bool)> {
    sizes.iter().map(|size| (usize::from(size & 0x3f) + 1, size & 0x40 > 0)).collect()
}
