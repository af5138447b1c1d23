//! Formats: how frames are found, decoded and encoded. They see bytes, never a socket.

mod json;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use json::Json;

use crate::{
    ChannelError, ErrorKind,
    low_level::{Buffer, Full},
};

/// Finds the boundaries of frames.
///
/// The size of a frame includes its delimiter or header.
///
/// ```
/// use kakehi_channel::{ErrorKind, ChannelError, Format, low_level::Frame};
///
/// /// Lines of text.
/// #[derive(Default)]
/// struct Lines;
///
/// impl Format for Lines {
///     fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
///         let end = data.iter().take(max).position(|byte| *byte == b'\n');
///         match end {
///             Some(end) => Ok(Some(Frame { payload: 0..end, len: end + 1 })),
///             None if data.len() >= max => Err(ChannelError::too_large(max + 1, max)),
///             None => Ok(None),
///         }
///     }
/// }
///
/// assert_eq!(Lines.find(b"one\ntwo", 100).unwrap(), Some(Frame { payload: 0..3, len: 4 }));
/// assert_eq!(Lines.find(b"one", 100).unwrap(), None);
/// assert_eq!(Lines.find(b"one", 3).unwrap_err().kind(), ErrorKind::TooLarge);
/// ```
pub trait Format {
    /// Finds one whole frame of at most `max` bytes at the start of `data`. Returns `None` if more
    /// bytes are needed.
    ///
    /// `data` starts behind the last frame. After `None`, the next call gets the same bytes and
    /// more, so an implementation can remember how far it has searched.
    ///
    /// # Errors
    /// If the frame is over `max`, or its boundaries are impossible. Both are fatal, because the
    /// start of the next frame is then unknown.
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError>;
}

/// The position of a frame in the bytes given to [`Format::find`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The range of its message.
    pub payload: Range<usize>,
    /// Its length in bytes, including its delimiter or header.
    pub len: usize,
}

/// Decodes messages of type `T`.
///
/// ```
/// use kakehi_channel::{ChannelError, Decode, ErrorKind, Json};
///
/// fn numbers(mut format: impl Decode<Vec<u8>>, payload: &[u8]) -> Result<Vec<u8>, ChannelError> {
///     format.decode(payload)
/// }
///
/// assert_eq!(numbers(Json::default(), b"[1,2]").unwrap(), [1, 2]);
/// assert_eq!(numbers(Json::default(), b"nonsense").unwrap_err().kind(), ErrorKind::Malformed);
/// ```
pub trait Decode<T>: Format {
    /// Decodes the payload of one frame.
    ///
    /// # Errors
    /// If the payload is not such a message. Later frames are not affected. A channel turns a panic
    /// into the same error.
    fn decode(&mut self, payload: &[u8]) -> Result<T, ChannelError>;
}

/// Encodes messages of type `T`.
///
/// ```
/// use kakehi_channel::{ErrorKind, Encode, ChannelError, Json, low_level::Buffer};
///
/// fn number(mut format: impl Encode<u8>, out: &mut Buffer) -> Result<(), ChannelError> {
///     format.encode(&7, out)
/// }
///
/// let mut out = Buffer::new(64, 1024);
/// number(Json::default(), &mut out).unwrap();
/// assert_eq!(out.data(), b"7\0");
/// assert_eq!(number(Json::default(), &mut Buffer::fixed(1)).unwrap_err().kind(), ErrorKind::TooLarge);
///
/// let error = Json::default().encode_frame("not so short", &mut out, 10).unwrap_err();
/// assert_eq!((error.kind(), out.data()), (ErrorKind::TooLarge, &b"7\0"[..]));
/// ```
pub trait Encode<T: ?Sized>: Format {
    /// Appends the message to `out` as one frame. After an error, `out` may contain a part of it;
    /// [`encode_frame`](Self::encode_frame) removes that part.
    ///
    /// # Errors
    /// If the message cannot be encoded, or `out` is full.
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), ChannelError>;

    /// Appends `message` to `out` as one frame of at most `max` bytes. After an error, `out` is
    /// unchanged.
    ///
    /// # Errors
    /// If the message cannot be encoded, is over `max`, or does not fit into `out`.
    #[inline]
    fn encode_frame(
        &mut self,
        message: &T,
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), ChannelError> {
        let before = out.len();
        let max = max.min(out.max() - before);
        let result = match self.encode(message, out) {
            Ok(()) if out.len() - before <= max => return Ok(()),
            Err(error) if error.kind() != ErrorKind::TooLarge => Err(error),
            _ => Err(ChannelError::too_large(max.saturating_add(1), max)),
        };
        out.truncate(before);
        result
    }
}

/// A message did not fit into its buffer.
impl From<Full> for ChannelError {
    fn from(full: Full) -> Self {
        Self::too_large(full.wanted, full.max)
    }
}
