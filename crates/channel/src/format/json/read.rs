//! JSON as messages mostly have it, read straight from the frame.
//!
//! It looks at a text 8 bytes at a time, and gives up on whatever is not common: then `serde_json`
//! reads the message from its start, and says what is wrong with it if anything is. So it is
//! `serde_json` that decides what is refused; here, nothing may be taken that it would not take.

mod access;
mod scan;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, Visitor},
};

use self::access::{Elements, Entries, Variant, Word};

/// How deep it looks; `serde_json` takes 127 levels.
const DEPTH: u8 = 100;

/// The message that is all of `text`; `None`: that is for `serde_json` to tell.
#[inline]
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut reader = Reader { text, at: 0, depth: DEPTH };
    let message = T::deserialize(&mut reader).ok()?;
    // Also where the message takes an error for a value: it may have been ours.
    (reader.peek().is_none() && reader.at == text.len()).then_some(message)
}

/// Reads values one after the other, up to where it gives up.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: u8,
}

/// What is not common, and what is wrong.
#[derive(Debug)]
pub(super) struct GaveUp;

type Read<T> = Result<T, GaveUp>;

impl<'t> Reader<'t> {
    /// The next byte that is not white space; it stays where it is.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
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
    fn give_up<T>(&mut self) -> Read<T> {
        self.at = usize::MAX;
        Err(GaveUp)
    }

    #[inline]
    fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes behind `byte`, which must be next.
    #[inline]
    fn expect(&mut self, byte: u8) -> Read<()> {
        if self.peek() != Some(byte) {
            return self.give_up();
        }
        self.at += 1;
        Ok(())
    }

    /// A text without escapes.
    #[inline]
    fn string(&mut self) -> Read<&'t str> {
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

    fn word(&mut self, word: &str) -> Read<()> {
        self.peek();
        if !self.rest().starts_with(word.as_bytes()) {
            return self.give_up();
        }
        self.at += word.len();
        Ok(())
    }

    /// A number of one digit, if that is next.
    #[inline]
    fn digit(&mut self) -> Option<u8> {
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
    fn number(&mut self) -> &'t str {
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
    fn deserialize_any_number<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        let number = self.number();
        match unsigned(number) {
            Some(value) => visitor.visit_u64(value),
            None => self.by_serde_json(number, |number| number.deserialize_any(visitor)),
        }
    }

    fn by_serde_json<T>(
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
    fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let Some(depth) = self.depth.checked_sub(1) else { return self.give_up() };
        self.depth = depth;
        let value = read(self)?;
        self.depth += 1;
        Ok(value)
    }

    #[inline]
    fn object<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
        self.expect(b'{')?;
        self.inside(|reader| {
            let value = visitor.visit_map(Entries::new(reader))?;
            reader.expect(b'}')?;
            Ok(value)
        })
    }

    fn array<V: Visitor<'t>>(&mut self, visitor: V) -> Read<V::Value> {
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
fn unsigned(number: &str) -> Option<u64> {
    // Rust also takes a plus and leading zeros.
    match number.as_bytes() {
        [b'0'] | [b'1'..=b'9', ..] => u64::from_str(number).ok(),
        _ => None,
    }
}

type Number<'n> = serde_json::Deserializer<serde_json::de::StrRead<'n>>;

macro_rules! integers {
    ($($method:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            if let Some(digit) = self.digit() {
                return visitor.visit_u64(digit.into());
            }
            let number = self.number();
            match unsigned(number) {
                Some(value) => visitor.visit_u64(value),
                None => self.by_serde_json(number, |number| number.$method(visitor)),
            }
        }
    )*};
}

macro_rules! other_numbers {
    ($($method:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            let number = self.number();
            self.by_serde_json(number, |number| number.$method(visitor))
        }
    )*};
}

macro_rules! strings {
    ($($method:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            visitor.visit_borrowed_str(self.string()?)
        }
    )*};
}

impl<'t> Deserializer<'t> for &mut Reader<'t> {
    type Error = GaveUp;

    integers! {
        deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64,
        deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64,
    }
    other_numbers! { deserialize_i128, deserialize_u128, deserialize_f32, deserialize_f64 }
    strings! { deserialize_char, deserialize_str, deserialize_string, deserialize_identifier }

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        match self.peek() {
            Some(b'"') => self.deserialize_str(visitor),
            Some(b'{') => self.object(visitor),
            Some(b'[') => self.array(visitor),
            Some(b'n') => self.deserialize_unit(visitor),
            Some(b't' | b'f') => self.deserialize_bool(visitor),
            _ => self.deserialize_any_number(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        visitor.visit_bool(value)
    }

    fn deserialize_bytes<V: Visitor<'t>>(self, _: V) -> Read<V::Value> {
        self.give_up()
    }

    fn deserialize_byte_buf<V: Visitor<'t>>(self, _: V) -> Read<V::Value> {
        self.give_up()
    }

    #[inline]
    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        if self.peek() != Some(b'n') {
            return visitor.visit_some(self);
        }
        self.word("null")?;
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.word("null")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        if name.starts_with(super::RAW) {
            return self.give_up();
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.array(visitor)
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.array(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Read<V::Value> {
        self.array(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.object(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        if name.starts_with(super::RAW) {
            return self.give_up();
        }
        self.object(visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        if self.peek() == Some(b'"') {
            return visitor.visit_enum(Word(self));
        }
        self.expect(b'{')?;
        self.inside(|reader| {
            let value = visitor.visit_enum(Variant(&mut *reader))?;
            reader.expect(b'}')?;
            Ok(value)
        })
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_any(visitor)
    }
}

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
