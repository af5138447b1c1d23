//! Memory with a hard maximum, and JSON.
//!
//! [`Buffer`] grows up to its maximum and refuses more. [`json::write`] writes a value into it: after
//! an error, the caller truncates the buffer. [`json::read`] reads a value from a text.
//!
//! ```
//! use kakehi_buffer::{Buffer, json};
//!
//! let mut buffer = Buffer::new(16, 1024);
//! json::write(&["one", "two"], &mut buffer).unwrap();
//! assert_eq!(buffer.data(), br#"["one","two"]"#);
//! assert_eq!(json::read::<[String; 2]>(r#"["one","two"]"#).unwrap(), ["one", "two"]);
//! ```

mod buffer;
pub mod json;
mod limits;
pub mod spare;

pub use buffer::{Buffer, Full};
pub use limits::BufferLimits;
