//! Reads the common forms of JSON, and leaves all others to `serde_json`.
//!
//! After any error, the reader reads nothing more, and `serde_json` reads the whole text again. So
//! `serde_json` decides what is refused, and why.

mod access;
mod reader;
mod scan;
#[cfg(test)]
mod tests;

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor},
};

use self::{
    access::{Variant, Word},
    reader::{NotRead, Read, Reader, unsigned},
};
use super::RAW;

/// Reads the value that is the whole of `text`. A value may be nested at most 127 levels deep.
///
/// # Errors
/// If `text` is not JSON, or not a `T`.
#[inline]
pub fn read<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    match read_common(text) {
        Some(value) => Ok(value),
        // `from_str` is faster, but it can split a character of several bytes and panic (serde_json
        // 1.0.154). `from_slice` does not check the strings that it skips, but these are valid here.
        None if text.is_ascii() => serde_json::from_str(text),
        None => serde_json::from_slice(text.as_bytes()),
    }
}

/// Reads `text`, or returns `None` if only `serde_json` can tell what it is.
#[inline]
fn read_common<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut reader = Reader::new(text);
    let value = T::deserialize(&mut reader).ok()?;
    // A `Deserialize` can ignore an error and return a value. The reader has not ended then.
    reader.has_ended().then_some(value)
}

macro_rules! integers {
    ($($method:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            if let Some(digit) = self.digit() {
                return self.checked(visitor.visit_u64(digit.into()));
            }
            let number = self.number();
            match unsigned(number) {
                Some(value) => self.checked(visitor.visit_u64(value)),
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
            match self.plain_string()? {
                Some(string) => self.checked(visitor.visit_borrowed_str(string)),
                None => {
                    let string = self.escaped_string()?;
                    self.by_serde_json(string, |string| string.$method(visitor))
                }
            }
        }
    )*};
}

impl<'t> Deserializer<'t> for &mut Reader<'t> {
    type Error = NotRead;

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
            _ => self.any_number(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        self.checked(visitor.visit_bool(value))
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
            let value = visitor.visit_some(&mut *self);
            return self.checked(value);
        }
        self.word("null")?;
        self.checked(visitor.visit_none())
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.word("null")?;
        self.checked(visitor.visit_unit())
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
        if name.starts_with(RAW) {
            return self.give_up();
        }
        let value = visitor.visit_newtype_struct(&mut *self);
        self.checked(value)
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
        if name.starts_with(RAW) {
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
            let value = visitor.visit_enum(Word(&mut *self));
            return self.checked(value);
        }
        self.inside(b'{', b'}', |reader| visitor.visit_enum(Variant(reader)))
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_any(visitor)
    }
}
