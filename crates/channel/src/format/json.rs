//! JSON ended by a NUL byte.

use kakehi_buffer::json::{self, Unwritten};
use serde::{Serialize, de::DeserializeOwned};

use super::{Decode, Encode, Format, Frame};
use crate::{ChannelError, low_level::Buffer};

const DELIMITER: u8 = 0;

/// Kakehi's format: one JSON value, then a NUL byte.
///
/// JSON never contains a NUL byte, since it writes one in a string as `\u0000`. No byte is searched
/// twice for the delimiter, even if the frame arrives in pieces.
///
/// ```
/// use kakehi_channel::{Decode, Format, Json};
///
/// let mut json = Json::default();
/// let wire = b"{\"answer\":42}\0";
/// let frame = json.find(wire, 1024).unwrap().unwrap();
/// let value: serde_json::Value = json.decode(&wire[frame.payload]).unwrap();
/// assert_eq!(value["answer"], 42);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Json {
    /// The length of the prefix that was searched and has no delimiter.
    scanned: usize,
    #[cfg(test)]
    pub(in crate::format) looked_at: usize,
}

impl Format for Json {
    #[inline]
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        let within = data.get(..max).unwrap_or(data);
        let fresh = within.get(self.scanned..).unwrap_or_default();
        let found = memchr::memchr(DELIMITER, fresh);
        #[cfg(test)]
        {
            self.looked_at += found.map_or(fresh.len(), |at| at + 1);
        }
        match found {
            Some(at) => {
                let end = self.scanned + at;
                self.scanned = 0;
                Ok(Some(Frame { payload: 0..end, len: end + 1 }))
            }
            None if data.len() >= max.max(1) => {
                Err(ChannelError::too_large(max.saturating_add(1), max))
            }
            None => {
                self.scanned = within.len();
                Ok(None)
            }
        }
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Result<T, ChannelError> {
        // Checking all of it at once costs less than string by string.
        let text = str::from_utf8(payload).map_err(ChannelError::malformed)?;
        json::read(text).map_err(ChannelError::malformed)
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    #[inline]
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), ChannelError> {
        match json::write(message, out) {
            Ok(()) => Ok(out.put(&[DELIMITER])?),
            Err(Unwritten::Full(full)) => Err(full.into()),
            Err(Unwritten::Json(error)) => Err(ChannelError::unencodable(error)),
        }
    }
}
