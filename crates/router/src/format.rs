//! The format of a router: JSON whose commands are those of the table.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use kakehi_channel::{
    ChannelError, Decode, Encode, Format, Json, Request, Response,
    low_level::{Buffer, Frame},
};
use kakehi_command::Called as Name;
use kakehi_server::Protocol;
use memchr::memmem::Finder;

use crate::{
    AnyReply, Called,
    route::{Key, Route, Table},
};

/// Kakehi's own format, which decodes the commands of one [`Router`](crate::Router).
pub struct Routes<S> {
    json: Json,
    /// `None`: it only encodes.
    table: Option<Arc<Table<S>>>,
    /// The last request: most clients write their requests alike.
    last: Last,
}

/// Where a request had its command, and the index of its route.
#[derive(Clone, Copy, Default)]
struct Last {
    at: usize,
    index: usize,
}

impl<S> Routes<S> {
    pub(super) fn new(table: Arc<Table<S>>) -> Self {
        Self { json: Json::default(), table: Some(table), last: Last::default() }
    }

    /// Decodes the name first, then the rest, so that an error names the command and the field.
    #[cold]
    fn decode_named(&self, payload: &[u8]) -> Result<Request<Called<S>>, ChannelError> {
        let request: Request<Name> = Json::default().decode(payload)?;
        let Request { id, version, worker_id, timeout_ms, deadline_ms, trace, command } = request;
        let called = match command {
            Some(Name(name)) => match self.table.as_ref().and_then(|table| table.find(&name)) {
                Some(route) => return decode(route, payload),
                // Left to `Handler::reserved`.
                None if name.starts_with("kakehi.") => {
                    return Err(ChannelError::malformed("the name of the command is reserved"));
                }
                None => Some(Called::Unknown(name)),
            },
            None => None,
        };
        Ok(Request { id, version, worker_id, timeout_ms, deadline_ms, trace, command: called })
    }
}

fn decode<S>(route: &dyn Route<S>, payload: &[u8]) -> Result<Request<Called<S>>, ChannelError> {
    route.decode(payload, false).map_err(|error| match route.explain(payload) {
        Some(why) => ChannelError::malformed(why),
        None => error,
    })
}

/// Where the command is, as most clients write it; the key of its name; and whether the name is the key of
/// an object. `last_at` is tried first. All of it may be wrong: the name that counts is decoded with the
/// rest.
#[inline]
fn guess(payload: &[u8], last_at: usize) -> Option<(usize, Key, bool)> {
    const OBJECT: &[u8; 12] = b"\"command\":{\"";
    if let Some((start, name)) = payload.get(last_at..).and_then(|rest| rest.split_first_chunk())
        && start == OBJECT
    {
        return Some((last_at, Key::quoted(name)?, true));
    }
    search(payload)
}

fn search(payload: &[u8]) -> Option<(usize, Key, bool)> {
    const COMMAND: &str = "\"command\":";
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(COMMAND));
    let at = FINDER.find(payload)?;
    let (name, is_object) = match payload.get(at + COMMAND.len()..)? {
        [b'{', b'"', name @ ..] => (name, true),
        [b'"', name @ ..] => (name, false),
        spaced => past_spaces(spaced)?,
    };
    Some((at, Key::quoted(name)?, is_object))
}

#[cold]
fn past_spaces(command: &[u8]) -> Option<(&[u8], bool)> {
    let rest = command.trim_ascii_start();
    let object = rest.strip_prefix(b"{");
    let name = object.unwrap_or(rest).trim_ascii_start().strip_prefix(b"\"")?;
    Some((name, object.is_some()))
}

impl<S: 'static> Decode<Request<Called<S>>> for Routes<S> {
    /// In one pass if the guess is right; else the name is decoded first, and then the request.
    #[inline]
    fn decode(&mut self, payload: &[u8]) -> Result<Request<Called<S>>, ChannelError> {
        if let Some(table) = &self.table
            && let Some((at, key, is_object)) = guess(payload, self.last.at)
            && let Some(index) = table.guess(key, self.last.index)
            && let Some(route) = table.route(index)
        {
            let decoded = route.decode(payload, is_object);
            if decoded.is_ok() {
                (self.last.at, self.last.index) = (at, index);
                return decoded;
            }
        }
        self.decode_named(payload)
    }
}

impl<S> Format for Routes<S> {
    #[inline]
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        self.json.find(data, max)
    }
}

impl<S> Encode<Response<&(), &str>> for Routes<S> {
    fn encode(
        &mut self,
        response: &Response<&(), &str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        self.json.encode(response, out)
    }
}

impl<S> Encode<Response<&AnyReply, &str>> for Routes<S> {
    fn encode(
        &mut self,
        response: &Response<&AnyReply, &str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        AnyReply::encode(response, &mut self.json, out)
    }
}

impl<S: Send + Sync + 'static> Protocol<Called<S>> for Routes<S> {
    fn id_of(payload: &[u8]) -> Option<String> {
        <Json as Protocol<()>>::id_of(payload)
    }

    fn command_of(payload: &[u8]) -> Option<String> {
        <Json as Protocol<()>>::command_of(payload)
    }

    fn knows(request: &Request<Called<S>>) -> bool {
        !matches!(request.command, Some(Called::Unknown(_)))
    }

    fn reserved(payload: &[u8]) -> Option<Request> {
        <Json as Protocol<()>>::reserved(payload)
    }
}

/// Without commands, to encode responses.
impl<S> Default for Routes<S> {
    #[inline]
    fn default() -> Self {
        Self { json: Json::default(), table: None, last: Last::default() }
    }
}

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("commands", &self.table).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_guessed_in_the_ways_in_which_clients_write_it() {
        for (payload, name) in [
            (r#"{"id":"a","version":0,"command":{"warm":{"prefix":"x"}}}"#, Some(("warm", true))),
            (r#"{"id": "a", "command": { "warm": {} } }"#, Some(("warm", true))),
            (r#"{"command":"reload","id":"a","version":0}"#, Some(("reload", false))),
            (r#"{"command":7}"#, None),
            (r#"{"command":{}}"#, None),
            (r#"{"command":"relo"#, None),
            (r#"{"id":"a","version":0}"#, None),
        ] {
            let payload = payload.as_bytes();
            for last_at in [0, 22, 1000] {
                let guessed = guess(payload, last_at).map(|(_, key, is_object)| (key, is_object));
                let name = name.map(|(name, is_object)| {
                    (Key::quoted(format!("{name}\"").as_bytes()).unwrap(), is_object)
                });
                assert_eq!(guessed, name, "{}", String::from_utf8_lossy(payload));
            }
        }
    }
}
