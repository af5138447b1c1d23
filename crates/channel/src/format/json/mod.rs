//! JSON ended by a NUL byte.

mod read;
mod text;
mod write;

use serde::{Serialize, de::DeserializeOwned};

use self::write::{Unwritten, Writer};
use super::{Decode, Encode, Format, Frame};
use crate::{Buffer, Error};

const DELIMITER: u8 = 0;

/// How the structures of `serde_json` begin that hold JSON as it stands: `RawValue`, and numbers of
/// any precision. Both are features of it that somebody else may have switched on.
const RAW: &str = "$serde_json::private::";

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
    pub(in crate::format) looked_at: usize,
}

impl Format for Json {
    #[inline]
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
    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Result<T, Error> {
        // Checking all of it at once is cheaper than string by string.
        let text = std::str::from_utf8(payload).map_err(Error::malformed)?;
        match read::read(text) {
            Some(message) => Ok(message),
            None => serde_json::from_str(text).map_err(Error::malformed),
        }
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    #[inline]
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), Error> {
        match message.serialize(Writer::new(&mut *out)) {
            Ok(()) => Ok(out.put_all([&[DELIMITER]])?),
            Err(Unwritten::Full(full)) => Err(full.into()),
            Err(Unwritten::Json(error)) => Err(Error::unencodable(error)),
        }
    }
}
