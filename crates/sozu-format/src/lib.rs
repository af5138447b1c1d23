//! The format of the Sōzu proxy: a length, then protobuf.

use kakehi_channel::{
    ChannelError, Decode, Encode, Format,
    low_level::{Buffer, Frame},
};
use prost::Message;

/// The length is a `u64` in little-endian order.
const HEADER: usize = size_of::<u64>();

/// The format of the command socket of [Sōzu](https://github.com/sozu-proxy/sozu): 8 bytes of
/// little-endian length, which includes itself, then a protobuf message.
///
/// Messages are of any type that [prost](https://docs.rs/prost) can decode and encode. Lengths are
/// checked as 64-bit numbers on every platform, before memory is allocated.
///
/// ```
/// use kakehi_channel::{ErrorKind, Format, low_level::Frame};
/// use kakehi_sozu_format::Sozu;
///
/// let status_request = [10, 0, 0, 0, 0, 0, 0, 0, 0x62, 0];
/// let frame = Sozu.find(&status_request, 1024).unwrap();
/// assert_eq!(frame, Some(Frame { payload: 8..10, len: 10 }));
///
/// let nonsense = [7, 0, 0, 0, 0, 0, 0, 0];
/// assert_eq!(Sozu.find(&nonsense, 1024).unwrap_err().kind(), ErrorKind::Malformed);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sozu;

impl Format for Sozu {
    #[inline]
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        let Some(header) = data.first_chunk() else { return Ok(None) };
        let declared = u64::from_le_bytes(*header);
        let len = match usize::try_from(declared) {
            Ok(len) if len <= max => len,
            size => return Err(ChannelError::too_large(size.unwrap_or(usize::MAX), max)),
        };
        if len < HEADER {
            return Err(ChannelError::invalid_length(declared));
        }
        Ok((data.len() >= len).then_some(Frame { payload: HEADER..len, len }))
    }
}

impl<T: Message + Default> Decode<T> for Sozu {
    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Result<T, ChannelError> {
        T::decode(payload).map_err(ChannelError::malformed)
    }
}

impl<T: Message> Encode<T> for Sozu {
    #[inline]
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), ChannelError> {
        let len = HEADER.saturating_add(message.encoded_len());
        out.put_with(len, |bytes| {
            // usize is at most 64 bits wide.
            bytes.extend_from_slice(&(len as u64).to_le_bytes());
            message.encode_raw(bytes);
        })?;
        Ok(())
    }
}
