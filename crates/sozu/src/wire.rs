//! The protocol of Sōzu's command socket.

use kakehi_channel::{
    ChannelError, Decode, Encode, Format,
    low_level::{Buffer, Frame},
};
use kakehi_sozu_format::Sozu as Framing;

use crate::{Request, Response, command};

/// The protocol of Sōzu's command socket: the frames of [`kakehi_sozu_format::Sozu`] and the messages
/// of `sozu-command-lib`.
///
/// Clients use it, and with the feature `server` also servers.
///
/// ```
/// use kakehi_channel::{Decode, Encode, Format, low_level::Buffer};
/// use kakehi_sozu::{Request, Response, Status, Wire, command::{self, request::RequestType}};
///
/// let mut out = Buffer::new(64, 1024);
/// Wire.encode(&Request::from(RequestType::Status(command::Status {})), &mut out).unwrap();
/// assert_eq!(out.data(), [10, 0, 0, 0, 0, 0, 0, 0, 0x62, 0]);
///
/// let answer = [0x08, 1, 0x12, 5, b'o', b'n', b' ', b'i', b't'];
/// let answer: Response = Wire.decode(&answer).unwrap();
/// assert_eq!((answer.status, answer.message.as_str()), (Status::Processing, "on it"));
///
/// let unknown_status = [0x08, 9, 0x12, 0];
/// let error = Decode::<Response>::decode(&mut Wire, &unknown_status).unwrap_err();
/// assert_eq!(error.to_string(), "malformed message: its status is 9, which is not known here");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire;

impl Format for Wire {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        Framing.find(data, max)
    }
}

impl Encode<Request> for Wire {
    fn encode(&mut self, request: &Request, out: &mut Buffer) -> Result<(), ChannelError> {
        Framing.encode(request.as_message(), out)
    }
}

impl Decode<Response> for Wire {
    fn decode(&mut self, payload: &[u8]) -> Result<Response, ChannelError> {
        let message: command::Response = Framing.decode(payload)?;
        Response::try_from(message).map_err(ChannelError::malformed)
    }
}
