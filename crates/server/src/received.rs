//! A request, with the values of its frame for the log and the metrics.

use kakehi_channel::{ChannelError, Request};
use tracing::Level;

use crate::Protocol;

/// The longest text from a client in the log, in characters.
const MAX_LOGGED: usize = 256;

/// A request that the handler answers.
#[derive(Debug)]
pub(crate) enum Asked<C> {
    Command(Request<C>),
    /// Its command has a reserved name. Boxed, because such requests are rare.
    Reserved(Box<Request>),
}

/// A request, and the name of its command if the log or the metrics need it.
#[derive(Debug)]
pub(crate) struct Received<C> {
    pub(crate) request: Asked<C>,
    pub(crate) command: Option<Box<str>>,
    /// The size of the frame; 0 at first.
    pub(crate) bytes: u64,
}

impl<C> Received<C> {
    /// Decodes the request, and its name if that is needed.
    #[inline]
    pub(crate) fn decode<F: Protocol<C>>(
        format: &mut F,
        payload: &[u8],
    ) -> Result<Self, ChannelError> {
        let request = Asked::Command(format.decode(payload)?);
        let command = if is_needed() { command_of::<C, F>(payload) } else { None };
        Ok(Self { request, command, bytes: 0 })
    }
}

#[inline]
fn is_needed() -> bool {
    cfg!(feature = "metrics") || tracing::enabled!(Level::INFO)
}

#[cold]
fn command_of<C, F: Protocol<C>>(payload: &[u8]) -> Option<Box<str>> {
    F::command_of(payload).map(|name| cut(&name).into())
}

/// The start of a client's text, for the log.
pub(crate) fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_LOGGED).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use kakehi_channel::Json;

    use super::*;

    #[test]
    fn the_name_of_a_command_is_read_from_any_request() {
        for (text, name) in [
            (r#"{"id":"a","version":0,"command":"warm"}"#, Some("warm")),
            (r#"{"command":{"warm":{"command":"x"}},"id":"a"}"#, Some("warm")),
            (r#"{"x":{"command":"x"},"version":7,"command":{"warm":1,"cool":2}}"#, Some("warm")),
            (r#"{"id":"\"command\":\"x\"","command":"warm"}"#, Some("warm")),
            (r#"{"id":"a","version":0}"#, None),
            (r#"{"id":"a","command":{}}"#, None),
            (r#"{"id":"a","command":7}"#, None),
            (r#"["warm"]"#, None),
            (r#"{"command":"warm""#, None),
        ] {
            let found = <Json as Protocol<u8>>::command_of(text.as_bytes());
            assert_eq!(found.as_deref(), name, "{text}");
        }
    }

    #[test]
    fn the_log_contains_the_start_of_a_clients_text() {
        for text in ["", "short", &"é".repeat(MAX_LOGGED)] {
            assert_eq!(cut(text), text);
        }
        assert_eq!(cut(&"é".repeat(MAX_LOGGED + 1)), "é".repeat(MAX_LOGGED));
    }
}
