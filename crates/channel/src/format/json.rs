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
        // `from_slice` does not check the strings that it skips. `from_str` is faster, but it can
        // split a character of several bytes and panic (serde_json 1.0.154).
        let text = str::from_utf8(payload).map_err(ChannelError::malformed)?;
        let decoded = if text.is_ascii() {
            serde_json::from_str(text)
        } else {
            serde_json::from_slice(payload)
        };
        decoded.map_err(ChannelError::malformed)
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_key_that_is_not_ascii_is_malformed_in_a_map_with_bool_keys() {
        let decoded: Result<HashMap<bool, u8>, _> = Json::default().decode("{\"é\":1}".as_bytes());
        assert_eq!(decoded.unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn an_unclosed_object_is_malformed_where_a_field_swallows_its_error() {
        #[derive(Debug)]
        struct Lenient(#[expect(dead_code, reason = "only its reading matters")] bool);

        impl<'de> serde::Deserialize<'de> for Lenient {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self(HashMap::<String, u8>::deserialize(deserializer).is_ok()))
            }
        }

        let decoded: Result<HashMap<String, Lenient>, _> =
            Json::default().decode(br#"{"b":{"a":300}"#);
        assert_eq!(decoded.unwrap_err().kind(), ErrorKind::Malformed);
    }
}
