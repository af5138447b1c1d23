//! Where the reading of a message is, and how it goes on.

use std::{fmt, str::FromStr};

use serde::{
    Deserializer,
    de::{self, Visitor},
};

use super::{
    access::{Elements, Entries},
    scan,
};

/// Reads values one after the other, up to where it gives up.
pub(in super::super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
    pub(super) depth: u8,
}

/// What is not common, and what is wrong.
#[derive(Debug)]
pub(in super::super) struct GaveUp;

pub(super) type Read<T> = Result<T, GaveUp>;

impl<'t> Reader<'t> {
    /// The next byte that is not white space; it stays where it is.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_on(),
        }
    }

    /// The same where there is white space, or nothing.
    #[cold]
    fn peek_on(&mut self) -> Option<u8> {
        let is_white = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += self.rest().iter().take_while(|byte| is_white(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// For good: there is nothing more to be read.
    #[cold]
    pub(super) fn give_up<T>(&mut self) -> Read<T> {
        self.at = usize::MAX;
        Err(GaveUp)
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

    /// A text without escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Read<&'t str> {
        self.expect(b'"')?;
        let (start, bytes) = (self.at, self.text.as_bytes());
        if let Some(size) = bytes.get(start..).and_then(scan::first_special)
            && bytes.get(start + size) == Some(&b'"')
            && let Some(string) = self.text.get(start..start + size)
        {
            self.at = start + size + 1;
            return Ok(string);
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

    /// A number of one digit, if that is next.
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

    /// All that may belong to the number that is next: nothing, if none is.
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

    /// A number of whatever type it has.
    pub(super) fn deserialize_any_number<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        let number = self.number();
        match unsigned(number) {
            Some(value) => visitor.visit_u64(value),
            None => self.by_serde_json(number, |number| number.deserialize_any(visitor)),
        }
    }

    pub(super) fn by_serde_json<T>(
        &mut self,
        number: &'t str,
        read: impl FnOnce(&mut Number<'t>) -> serde_json::Result<T>,
    ) -> Read<T> {
        let mut number = Number::from_str(number);
        match read(&mut number).and_then(|value| number.end().map(|()| value)) {
            Ok(value) => Ok(value),
            Err(_) => self.give_up(),
        }
    }

    /// What `read` makes of the inside, a level deeper.
    #[inline]
    pub(super) fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let Some(depth) = self.depth.checked_sub(1) else { return self.give_up() };
        self.depth = depth;
        let value = read(self)?;
        self.depth += 1;
        Ok(value)
    }

    #[inline]
    pub(super) fn object<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        self.expect(b'{')?;
        self.inside(|reader| {
            let value = visitor.visit_map(Entries::new(reader))?;
            reader.expect(b'}')?;
            Ok(value)
        })
    }

    pub(super) fn array<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        self.expect(b'[')?;
        self.inside(|reader| {
            let value = visitor.visit_seq(Elements::new(reader))?;
            reader.expect(b']')?;
            Ok(value)
        })
    }
}

/// A number without a sign, as `serde_json` reads it.
#[inline]
pub(super) fn unsigned(number: &str) -> Option<u64> {
    // Rust also takes a plus and leading zeros.
    match number.as_bytes() {
        [b'0'] | [b'1'..=b'9', ..] => u64::from_str(number).ok(),
        _ => None,
    }
}

type Number<'n> = serde_json::Deserializer<serde_json::de::StrRead<'n>>;

impl de::Error for GaveUp {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read here")
    }
}

impl std::error::Error for GaveUp {}
