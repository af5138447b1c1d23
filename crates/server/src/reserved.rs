//! Requests with reserved names: they are answered beside the commands of the handler.

use std::{borrow::Cow, marker::PhantomData};

use kakehi_channel::{
    ChannelError, Decode, Encode, Format, Refusal,
    low_level::{Buffer, Frame},
};
use serde_json::Value;

use crate::{Answer, Failure, Handler, IntoAnswer, IntoFailure, Protocol, received::Received};

/// The name of the command that asks for a description of the server.
const DESCRIBE: &str = "kakehi.describe";

/// The format of incoming messages: that of the handler, but no reserved name is decoded as one of
/// its commands.
#[derive(Debug)]
pub(crate) struct Reserving<F, C> {
    format: F,
    /// Whether the handler's commands could be decoded from a reserved name.
    looks: bool,
    command: PhantomData<fn() -> C>,
}

impl<F, C> Reserving<F, C> {
    pub(crate) fn new(format: F, looks: bool) -> Self {
        Self { format, looks, command: PhantomData }
    }
}

impl<F: Default, C> Default for Reserving<F, C> {
    fn default() -> Self {
        Self::new(F::default(), false)
    }
}

impl<F: Format, C> Format for Reserving<F, C> {
    #[inline]
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        self.format.find(data, max)
    }
}

impl<F: Protocol<C>, C> Decode<Received<C>> for Reserving<F, C> {
    /// A reserved name is an error here. The connection looks at the payloads of all errors.
    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Result<Received<C>, ChannelError> {
        if self.looks && F::reserved(payload).is_some() {
            return Err(ChannelError::malformed("the name of the command is reserved"));
        }
        Received::decode(&mut self.format, payload)
    }
}

/// Needed to flush; the outbox encodes.
impl<T: ?Sized, F: Encode<T>, C> Encode<T> for Reserving<F, C> {
    fn encode(&mut self, message: &T, out: &mut Buffer) -> Result<(), ChannelError> {
        self.format.encode(message, out)
    }
}

/// The name of the command of a reserved request.
pub(crate) fn name(command: Option<&Value>) -> Cow<'static, str> {
    match command {
        Some(Value::String(name)) if name == DESCRIBE => Cow::Borrowed(DESCRIBE),
        Some(Value::String(name)) => Cow::Owned(name.clone()),
        Some(Value::Object(command)) => {
            Cow::Owned(command.keys().next().cloned().unwrap_or_default())
        }
        _ => Cow::Borrowed(""),
    }
}

/// The content of a handler's answers, and of its errors.
pub(crate) type Answered<H, C, F> = Result<
    Answer<<<H as Handler<C, F>>::Answer as IntoAnswer>::Content>,
    Failure<<<H as Handler<C, F>>::Error as IntoFailure>::Content>,
>;

/// Completes the answer of [`Handler::reserved`].
pub(crate) fn complete<H: Handler<C, F>, C, F>(
    name: &str,
    answer: Result<Option<H::Answer>, H::Error>,
) -> Answered<H, C, F> {
    match answer {
        Ok(Some(answer)) => Ok(answer.into_answer()),
        Ok(None) if name == DESCRIBE => {
            let message = "this server does not list its commands".to_owned();
            Ok(Answer { message, content: None })
        }
        Ok(None) => {
            let message = format!("there is no command `{}`", name.escape_debug());
            Err(Failure { message, content: None, refused: Some(Refusal::Unsupported) })
        }
        Err(error) => Err(error.into_failure()),
    }
}
