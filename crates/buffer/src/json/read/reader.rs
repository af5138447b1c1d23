//! A position in the text, and the steps from it.

use std::{fmt, str::FromStr};

use serde::{
    Deserializer,
    de::{self, Visitor},
};

use super::{
    access::{Elements, Entries},
    scan,
};

/// How many levels the reader opens. `serde_json` opens 127.
const DEPTH: u8 = 100;

/// Reads one value after the other, until it ends or gives up.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// The index of the next byte. It is over the length after the reader has given up.
    at: usize,
    depth: u8,
}

/// The reader has given up: the text is not common, or wrong.
#[derive(Debug)]
pub(super) struct NotRead;

pub(super) type Read<T> = Result<T, NotRead>;

impl<'t> Reader<'t> {
    #[inline]
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: DEPTH }
    }

    /// Whether only white space follows, and the reader has not given up.
    #[inline]
    pub(super) fn has_ended(&mut self) -> bool {
        self.peek().is_none() && self.at == self.text.len()
    }

    /// The next byte that is not white space. It stays the next byte.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_after_space(),
        }
    }

    #[cold]
    fn peek_after_space(&mut self) -> Option<u8> {
        let is_white = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += self.rest().iter().take_while(|byte| is_white(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Gives up for good: nothing follows any more.
    #[cold]
    pub(super) fn give_up<T>(&mut self) -> Read<T> {
        self.at = usize::MAX;
        Err(NotRead)
    }

    /// Gives up if `value` is an error. A `Deserialize` that ignores the error could otherwise read on
    /// from a position where `serde_json` would not be.
    #[inline]
    pub(super) fn checked<T>(&mut self, value: Read<T>) -> Read<T> {
        if value.is_err() {
            return self.give_up();
        }
        value
    }

    #[inline]
    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes behind `byte`, which must be next.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Read<()> {
        if self.peek() != Some(byte) {
            return self.give_up();
        }
        self.at += 1;
        Ok(())
    }

    /// A string without escapes. If it has some, returns `None` and stays at its quote.
    #[inline]
    pub(super) fn plain_string(&mut self) -> Read<Option<&'t str>> {
        if self.peek() != Some(b'"') {
            return self.give_up();
        }
        let (start, bytes) = (self.at + 1, self.text.as_bytes());
        let size = bytes.get(start..).and_then(scan::first_special);
        let Some(size) = size else { return self.give_up() };
        if bytes.get(start + size) != Some(&b'"') {
            return Ok(None);
        }
        self.at = start + size + 1;
        self.text.get(start..start + size).map_or_else(|| self.give_up(), |text| Ok(Some(text)))
    }

    /// A string with its quotes and its escapes, which are not checked.
    #[cold]
    pub(super) fn escaped_string(&mut self) -> Read<&'t str> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let bytes = rest.as_bytes();
        let mut size = 1;
        while let Some(found) = bytes.get(size..).and_then(scan::first_special) {
            size += found + 1;
            match bytes.get(size - 1) {
                Some(b'"') => {
                    self.at += size;
                    return rest.get(..size).map_or_else(|| self.give_up(), Ok);
                }
                Some(b'\\') => size += 1,
                _ => break,
            }
        }
        self.give_up()
    }

    pub(super) fn word(&mut self, word: &str) -> Read<()> {
        self.peek();
        if !self.rest().starts_with(word.as_bytes()) {
            return self.give_up();
        }
        self.at += word.len();
        Ok(())
    }

    /// The next value, if it is a number of one digit.
    #[inline]
    pub(super) fn digit(&mut self) -> Option<u8> {
        let digit = self.peek().filter(u8::is_ascii_digit)?;
        let next = self.text.as_bytes().get(self.at + 1)?;
        if !matches!(next, b',' | b'}') {
            return None;
        }
        self.at += 1;
        Some(digit - b'0')
    }

    /// All bytes that can belong to the next number. There are none if the next value is not a number.
    #[inline]
    pub(super) fn number(&mut self) -> &'t str {
        self.peek();
        let rest = self.rest();
        let is_of_number =
            |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let size = rest.iter().position(|byte| !is_of_number(byte)).unwrap_or(rest.len());
        let end = self.at.saturating_add(size);
        let number = self.text.get(self.at..end).unwrap_or_default();
        self.at = end;
        number
    }

    pub(super) fn any_number<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        let number = self.number();
        match unsigned(number) {
            Some(value) => self.checked(visitor.visit_u64(value)),
            None => self.by_serde_json(number, |number| number.deserialize_any(visitor)),
        }
    }

    /// Lets `serde_json` read `text`, a number or a string.
    pub(super) fn by_serde_json<T>(
        &mut self,
        text: &'t str,
        read: impl FnOnce(&mut ByJson<'t>) -> serde_json::Result<T>,
    ) -> Read<T> {
        let mut json = ByJson::from_str(text);
        match read(&mut json).and_then(|value| json.end().map(|()| value)) {
            Ok(value) => Ok(value),
            Err(_) => self.give_up(),
        }
    }

    /// Reads what is between `open` and `close`, one level deeper.
    #[inline]
    pub(super) fn inside<T>(
        &mut self,
        open: u8,
        close: u8,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<T> {
        self.expect(open)?;
        let Some(depth) = self.depth.checked_sub(1) else { return self.give_up() };
        self.depth = depth;
        let value = read(self);
        let value = self.checked(value)?;
        self.expect(close)?;
        self.depth += 1;
        Ok(value)
    }

    #[inline]
    pub(super) fn object<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        self.inside(b'{', b'}', |reader| visitor.visit_map(Entries::new(reader)))
    }

    pub(super) fn array<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        self.inside(b'[', b']', |reader| visitor.visit_seq(Elements::new(reader)))
    }
}

/// A number without a sign, by the rules of JSON.
#[inline]
pub(super) fn unsigned(number: &str) -> Option<u64> {
    // Rust also takes a plus and leading zeros.
    match number.as_bytes() {
        [b'0'] | [b'1'..=b'9', ..] => u64::from_str(number).ok(),
        _ => None,
    }
}

type ByJson<'t> = serde_json::Deserializer<serde_json::de::StrRead<'t>>;

impl de::Error for NotRead {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read")
    }
}

impl std::error::Error for NotRead {}
