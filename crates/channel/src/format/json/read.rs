//! JSON as messages mostly have it, read straight from the frame.
//!
//! It looks at a text 8 bytes at a time, and gives up on whatever is not common: then `serde_json`
//! reads the message from its start, and says what is wrong with it if anything is. So it is
//! `serde_json` that decides what is refused; here, nothing may be taken that it would not take.

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
    reader::{GaveUp, Read, Reader, unsigned},
};

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
