//! The content of a final response, of whatever type.

use std::{fmt, pin::Pin};

use kakehi_channel::{ChannelError, Encode, Json, Response, low_level::Buffer};
use serde::Serialize;

/// The reply or the fault of some command. Only its encoding is left.
pub struct AnyReply(Pin<Box<dyn Content>>);

impl AnyReply {
    pub(super) fn new(content: impl Serialize + Send + 'static) -> Self {
        Self(Box::pin(Value(content)))
    }

    /// The content of a job that has ended.
    #[inline]
    pub(super) fn of_job(job: Pin<Box<dyn Content>>) -> Self {
        Self(job)
    }

    #[inline]
    pub(super) fn encode(
        response: &Response<&Self, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        if let Some(Self(content)) = response.content {
            return content.encode(response, format, out);
        }
        with_content(response, None::<&()>, format, out)
    }
}

pub(super) trait Content: Send {
    /// Encodes the response with this content.
    fn encode(
        &self,
        response: &Response<&AnyReply, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError>;
}

struct Value<T>(T);

impl<T: Serialize + Send> Content for Value<T> {
    fn encode(
        &self,
        response: &Response<&AnyReply, &str>,
        format: &mut Json,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        with_content(response, Some(&self.0), format, out)
    }
}

#[inline]
pub(super) fn with_content<T: Serialize>(
    response: &Response<&AnyReply, &str>,
    content: Option<&T>,
    format: &mut Json,
    out: &mut Buffer,
) -> Result<(), ChannelError> {
    let Response { id, version, status, message, content: _, refused } = *response;
    format.encode(&Response { id, version, status, message, content, refused }, out)
}

impl fmt::Debug for AnyReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyReply")
    }
}
