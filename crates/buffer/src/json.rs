//! Reads and writes JSON as `serde_json` does, but faster.
//!
//! `serde_json` checks each byte of a string by itself, and most bytes of a message are strings. The
//! reader checks 8 bytes at once, and the writer 16. Long strings are searched with `memchr`.

mod far;
mod read;
mod write;

pub use read::read;
pub use write::{Unwritten, write};

/// The prefix of the names of `serde_json`'s structures that contain JSON text: `RawValue`, and numbers
/// of any precision. Any crate of a program can enable these features.
const RAW: &str = "$serde_json::private::";
