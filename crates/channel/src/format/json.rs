//! JSON ended by a NUL byte.

use serde::{Serialize, de::DeserializeOwned};

use super::{Decode, Encode, Format, Frame};
use crate::{Buffer, Error, buffer::Full};

const DELIMITER: u8 = 0;

/// The format of Kakehi's own wire: one JSON value, then a NUL byte.
///
/// No byte is searched twice for the delimiter, however the frame arrives. JSON never contains a
/// NUL byte, since it writes one in a string as `\u0000`.
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
    /// The length of the prefix that is known to hold no delimiter.
    scanned: usize,
    #[cfg(test)]
    pub(super) looked_at: usize,
}

impl Format for Json {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, Error> {
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
            None if data.len() >= max.max(1) => Err(Error::too_large(max.saturating_add(1), max)),
            None => {
                self.scanned = within.len();
                Ok(None)
            }
        }
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&mut self, payload: &[u8]) -> Result<T, Error> {
        // Checking all of it at once is cheaper than string by string.
        let text = std::str::from_utf8(payload).map_err(Error::malformed)?;
        serde_json::from_str(text).map_err(Error::malformed)
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), Error> {
        serde_json::to_writer(&mut *out, message).map_err(unencodable)?;
        Ok(out.put(&[DELIMITER])?)
    }
}

/// Tells a full buffer from a message that JSON cannot express.
fn unencodable(error: serde_json::Error) -> Error {
    if !error.is_io() {
        return Error::unencodable(error);
    }
    let error = std::io::Error::from(error);
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()) {
        Some(full) => (*full).into(),
        None => Error::unencodable(error),
    }
}
