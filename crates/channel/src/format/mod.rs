//! What a wire is: how a frame is found, decoded and encoded. Formats see bytes, never a socket.

mod json;
#[cfg(feature = "sozu")]
mod sozu;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use json::Json;
#[cfg(feature = "sozu")]
pub use sozu::Sozu;

use crate::{Buffer, Error, buffer::Full};

/// Finds the boundaries of frames.
///
/// The size of a frame is what stands on the wire: the payload with its delimiter or header.
///
/// ```
/// use kakehi_channel::{Error, Format, Frame};
///
/// /// Text, each frame on a line of its own.
/// #[derive(Default)]
/// struct Lines;
///
/// impl Format for Lines {
///     fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, Error> {
///         let end = data.iter().take(max).position(|byte| *byte == b'\n');
///         match end {
///             Some(end) => Ok(Some(Frame { payload: 0..end, len: end + 1 })),
///             None if data.len() >= max => Err(Error::too_large(max + 1, max)),
///             None => Ok(None),
///         }
///     }
/// }
///
/// assert_eq!(Lines.find(b"one\ntwo", 100).unwrap(), Some(Frame { payload: 0..3, len: 4 }));
/// assert!(Lines.find(b"one", 3).unwrap_err().is_too_large());
/// ```
pub trait Format {
    /// Looks for one whole frame at the start of `data`, of at most `max` bytes. `None`: more
    /// bytes are needed.
    ///
    /// `data` starts where the frame found before ended. As long as the answer is `None`, the
    /// next call sees the same bytes with more behind them, so that an implementation can
    /// remember how far it has looked.
    ///
    /// ```
    /// use kakehi_channel::{Format, Frame, Json};
    ///
    /// let mut json = Json::default();
    /// assert_eq!(json.find(b"{}", 100).unwrap(), None);
    /// assert_eq!(json.find(b"{}\0{", 100).unwrap(), Some(Frame { payload: 0..2, len: 3 }));
    /// ```
    ///
    /// # Errors
    /// When the frame is over `max`, or its boundaries make no sense. Both are final: where the
    /// next frame starts is not known any more.
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, Error>;
}

/// Where a frame is, in the bytes given to [`Format::find`].
///
/// ```
/// let frame = kakehi_channel::Frame { payload: 8..10, len: 10 };
/// assert!(frame.payload.end <= frame.len);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The message in it.
    pub payload: Range<usize>,
    /// All of it, delimiter or header included.
    pub len: usize,
}

/// Reads messages of type `T`.
///
/// ```
/// use kakehi_channel::{Decode, Error, Json};
///
/// fn numbers(mut format: impl Decode<Vec<u8>>, payload: &[u8]) -> Result<Vec<u8>, Error> {
///     format.decode(payload)
/// }
///
/// assert!(numbers(Json::default(), b"nonsense").unwrap_err().is_malformed());
/// ```
pub trait Decode<T>: Format {
    /// Makes a message of one frame's payload.
    ///
    /// ```
    /// use kakehi_channel::{Decode, Json};
    ///
    /// let numbers: Vec<u8> = Json::default().decode(b"[1,2]").unwrap();
    /// assert_eq!(numbers, [1, 2]);
    /// ```
    ///
    /// # Errors
    /// When the payload is not such a message. The frames behind it are not affected.
    fn decode(&mut self, payload: &[u8]) -> Result<T, Error>;
}

/// Writes messages of type `T`.
///
/// ```
/// use kakehi_channel::{Buffer, Encode, Error, Json};
///
/// fn number(mut format: impl Encode<u8>, out: &mut Buffer) -> Result<(), Error> {
///     format.encode(&7, out)
/// }
///
/// assert!(number(Json::default(), &mut Buffer::fixed(1)).unwrap_err().is_too_large());
/// ```
pub trait Encode<T: ?Sized>: Format {
    /// Appends the message as one whole frame to `out`, in any number of pieces. What an error
    /// leaves there is for the caller to remove: [`encode_frame`] does.
    ///
    /// ```
    /// use kakehi_channel::{Buffer, Encode, Json};
    ///
    /// let mut out = Buffer::new(64, 1024);
    /// Json::default().encode("text", &mut out).unwrap();
    /// assert_eq!(out.data(), b"\"text\"\0");
    /// ```
    ///
    /// # Errors
    /// When the message cannot be encoded, or `out` is full.
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), Error>;
}

/// Appends `message` to `out` as one frame of at most `max` bytes: whole, or not at all.
///
/// ```
/// use kakehi_channel::{Buffer, Json, encode_frame};
///
/// let mut out = Buffer::new(64, 1024);
/// encode_frame(&mut Json::default(), "short", &mut out, 10).unwrap();
/// let error = encode_frame(&mut Json::default(), "not so short", &mut out, 10).unwrap_err();
/// assert!(error.is_too_large());
/// assert_eq!(out.data(), b"\"short\"\0");
/// ```
///
/// # Errors
/// When the message cannot be encoded, is over `max`, or does not fit into `out`.
#[inline]
pub fn encode_frame<F: Encode<T>, T: ?Sized>(
    format: &mut F,
    message: &T,
    out: &mut Buffer,
    max: usize,
) -> Result<(), Error> {
    let before = out.len();
    let max = max.min(out.max() - before);
    let result = match format.encode(message, out) {
        Ok(()) if out.len() - before <= max => return Ok(()),
        Err(error) if !error.is_too_large() => Err(error),
        _ => Err(Error::too_large(max.saturating_add(1), max)),
    };
    out.truncate(before);
    result
}

/// A message outgrew the buffer that it was being encoded into.
impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::too_large(full.wanted, full.max)
    }
}
