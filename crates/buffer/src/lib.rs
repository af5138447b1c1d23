//! Memory with a hard maximum, and JSON in it.
//!
//! [`Buffer`] grows up to its maximum and refuses more. [`json::write`] writes a value into it, all
//! or nothing that counts: on an error, the caller truncates the buffer.
//!
//! ```
//! use kakehi_buffer::{Buffer, json};
//!
//! let mut buffer = Buffer::new(16, 1024);
//! json::write(&["one", "two"], &mut buffer).unwrap();
//! assert_eq!(buffer.data(), br#"["one","two"]"#);
//! ```

mod buffer;
pub mod json;
mod limits;
pub mod spare;

pub use buffer::{Buffer, Full};
pub use limits::BufferLimits;
