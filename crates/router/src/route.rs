//! The table: for each name, how its arguments are decoded and its handler is run.

use std::{fmt, marker::PhantomData};

use kakehi_channel::{ChannelError, Decode, Json, Request};
use kakehi_command::{Command, CommandDescription, Invocation, Variant};
use kakehi_server::{Context, IntoFault};

use crate::{Call, IntoReply, guard::Permission};

/// A command of a request, as the table knows it.
pub enum Called<S> {
    /// A command of the table with its arguments.
    Known(Call<S>),
    /// A name that is not in the table.
    Unknown(String),
}

impl<S> fmt::Debug for Called<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(call) => f.debug_tuple("Known").field(&call.name()).finish(),
            Self::Unknown(name) => f.debug_tuple("Unknown").field(name).finish(),
        }
    }
}

/// The longest name of a command, in bytes.
pub(super) const MAX_NAME: usize = 64;

/// A number for a name, which is quicker to compare. Two names may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

const ONES: u64 = 0x0101_0101_0101_0101;

impl Key {
    fn of(name: &str) -> Self {
        Self::quoted(format!("{name}\"").as_bytes()).unwrap_or(Self(0))
    }

    /// The key of the name up to the next quotation mark.
    #[inline]
    pub(super) fn quoted(text: &[u8]) -> Option<Self> {
        let Some((first, rest)) = text.split_first_chunk() else { return Self::quoted_short(text) };
        let first = u64::from_le_bytes(*first);
        // The highest bit of each byte that is a quotation mark, and perhaps of bytes after the first one.
        let marks = first ^ (ONES * u64::from(b'"'));
        let marks = marks.wrapping_sub(ONES) & !marks & (ONES << 7);
        if marks == 0 {
            return Self(first).quoted_on(rest);
        }
        // The bytes before the first mark.
        let before = (marks & marks.wrapping_neg()) >> 7;
        Some(Self(first & before.wrapping_sub(1)))
    }

    /// Of a text that is shorter than a name of 8 bytes.
    #[cold]
    fn quoted_short(text: &[u8]) -> Option<Self> {
        let end = text.iter().position(|byte| *byte == b'"')?;
        let name = text.get(..end)?;
        Some(Self(name.iter().rev().fold(0, |key, byte| key << 8 | u64::from(*byte))))
    }

    fn quoted_on(mut self, rest: &[u8]) -> Option<Self> {
        for byte in rest.iter().take(MAX_NAME) {
            if *byte == b'"' {
                return Some(self);
            }
            // The multiplier is the one of FNV-1a.
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        None
    }
}

/// The commands, sorted by key and name.
pub(super) struct Table<S>(Vec<Entry<S>>);

struct Entry<S> {
    key: Key,
    name: &'static str,
    route: Box<dyn Route<S>>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> Table<S> {
    /// `false`: the name is taken.
    pub(super) fn add(&mut self, name: &'static str, route: Box<dyn Route<S>>) -> bool {
        match self.search(name) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, Entry { key: Key::of(name), name, route });
                true
            }
        }
    }

    /// The index of a route whose name has this key. It may be another name. `last` is tried first.
    #[inline]
    pub(super) fn guess(&self, key: Key, last: usize) -> Option<usize> {
        if self.0.get(last).is_some_and(|entry| entry.key == key) {
            return Some(last);
        }
        self.0.binary_search_by_key(&key, |entry| entry.key).ok()
    }

    #[inline]
    pub(super) fn route(&self, index: usize) -> Option<&dyn Route<S>> {
        self.0.get(index).map(|entry| &*entry.route)
    }

    pub(super) fn find(&self, name: &str) -> Option<&dyn Route<S>> {
        self.0.get(self.search(name).ok()?).map(|entry| &*entry.route)
    }

    /// Sorted by name.
    pub(super) fn routes(&self) -> Vec<&dyn Route<S>> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.name);
        entries.into_iter().map(|entry| &*entry.route).collect()
    }

    fn search(&self, name: &str) -> Result<usize, usize> {
        let key = Key::of(name);
        self.0.binary_search_by(|entry| (entry.key, entry.name).cmp(&(key, name)))
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| entry.name)).finish()
    }
}

/// One command of the table.
pub(super) trait Route<S>: Send + Sync {
    /// Decodes a whole request for this command.
    ///
    /// `is_object`: the command is an object, and not a word. This may be wrong.
    fn decode(&self, payload: &[u8], is_object: bool) -> Result<Request<Called<S>>, ChannelError>;

    /// Why [`decode`](Self::decode) fails, with the field.
    fn explain(&self, payload: &[u8]) -> Option<String>;

    /// The guard's decision, if there is a guard.
    fn permission(&self) -> Option<&Permission>;

    fn describe(&self) -> CommandDescription;
}

#[inline]
fn with_command<C, D>(request: Request<C>, map: impl FnOnce(C) -> D) -> Request<D> {
    let Request { id, version, worker_id, timeout_ms, deadline_ms, trace, command } = request;
    let command = command.map(map);
    Request { id, version, worker_id, timeout_ms, deadline_ms, trace, command }
}

/// The handler of the command `C`.
pub(super) struct Typed<C, H> {
    handler: H,
    guard: Option<Permission>,
    command: PhantomData<fn() -> C>,
}

impl<C, H> Typed<C, H> {
    pub(super) fn new(handler: H, guard: Option<Permission>) -> Self {
        Self { handler, guard, command: PhantomData }
    }
}

impl<S, C, H, Fut, T, E> Route<S> for Typed<C, H>
where
    S: Send + 'static,
    C: Command,
    H: FnOnce(S, C, Context<C::Progress>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: IntoReply<C::Reply>,
    E: IntoFault<C::Fault>,
{
    fn decode(&self, payload: &[u8], is_object: bool) -> Result<Request<Called<S>>, ChannelError> {
        let called =
            |command| Called::Known(Call::new(command, self.handler.clone(), self.guard.as_ref()));
        if is_object && !C::UNIT {
            let request: Request<Variant<C>> = Json::default().decode(payload)?;
            return Ok(with_command(request, |Variant(command)| called(command)));
        }
        let request: Request<Invocation<C>> = Json::default().decode(payload)?;
        Ok(with_command(request, |Invocation(command)| called(command)))
    }

    fn explain(&self, payload: &[u8]) -> Option<String> {
        let mut json = serde_json::Deserializer::from_slice(payload);
        let error =
            serde_path_to_error::deserialize::<_, Request<Invocation<C>>>(&mut json).err()?;
        let path = error.path().to_string();
        let (name, cause) = (C::NAME, error.inner());
        Some(match path.strip_prefix("command.").and_then(|path| path.split_once('.')) {
            Some((_, field)) => format!("command `{name}`: field `{field}`: {cause}"),
            None if path.starts_with("command") => format!("command `{name}`: {cause}"),
            None => cause.to_string(),
        })
    }

    fn permission(&self) -> Option<&Permission> {
        self.guard.as_ref()
    }

    fn describe(&self) -> CommandDescription {
        CommandDescription::of::<C>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_the_name_before_the_quotation_mark() {
        let key = |text: &str| Key::quoted(text.as_bytes());
        for name in
            ["", "a", "warm", "abcdefg", "abcdefgh", "abcdefghi", "a-longer.name_of-30-bytes"]
        {
            for rest in ["\"", "\":", "\":{\"x\":\"\"}}", "\"\"\"\"\"\"\"\"\"\""] {
                assert_eq!(key(&format!("{name}{rest}")), Some(Key::of(name)), "{name}{rest}");
            }
        }
        let names = ["", "a", "b", "ab", "ba", "warm", "abcdefgh", "abcdefghi", "abcdefghj"];
        let keys: std::collections::BTreeSet<_> = names.map(Key::of).into();
        assert_eq!(keys.len(), names.len());
        for text in
            ["", "warm", "abcdefghijklm", &"x".repeat(100), &format!("{}\"", "x".repeat(80))]
        {
            assert_eq!(key(text), None, "{text}");
        }
    }
}
