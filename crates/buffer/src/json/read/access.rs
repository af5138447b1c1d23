//! Reads the inside of objects, arrays and enums.

use serde::{
    Deserializer,
    de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::{NotRead, RAW, Read, Reader};

/// The entries of an object, up to its closing brace.
pub(super) struct Entries<'r, 't> {
    reader: &'r mut Reader<'t>,
    is_first: bool,
}

/// The elements of an array, up to its closing bracket.
pub(super) struct Elements<'r, 't> {
    reader: &'r mut Reader<'t>,
    is_first: bool,
}

/// A variant without a value: a string.
pub(super) struct Word<'r, 't>(pub(super) &'r mut Reader<'t>);

/// A variant with a value: the only key of an object.
pub(super) struct Variant<'r, 't>(pub(super) &'r mut Reader<'t>);

/// The key of an object.
struct Key<'r, 't>(&'r mut Reader<'t>);

impl<'r, 't> Entries<'r, 't> {
    #[inline]
    pub(super) fn new(reader: &'r mut Reader<'t>) -> Self {
        Self { reader, is_first: true }
    }
}

impl<'r, 't> Elements<'r, 't> {
    pub(super) fn new(reader: &'r mut Reader<'t>) -> Self {
        Self { reader, is_first: true }
    }
}

impl Reader<'_> {
    /// Whether another element follows, before the byte `close`. Goes behind the comma.
    #[inline]
    fn has_next(&mut self, is_first: &mut bool, close: u8) -> Read<bool> {
        if self.peek() == Some(close) {
            return Ok(false);
        }
        if !std::mem::take(is_first) {
            self.expect(b',')?;
        }
        Ok(true)
    }
}

impl<'t> MapAccess<'t> for Entries<'_, 't> {
    type Error = NotRead;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        if !self.reader.has_next(&mut self.is_first, b'}')? {
            return Ok(None);
        }
        seed.deserialize(Key(&mut *self.reader)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Read<V::Value> {
        self.reader.expect(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

impl<'t> SeqAccess<'t> for Elements<'_, 't> {
    type Error = NotRead;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if !self.reader.has_next(&mut self.is_first, b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'t> EnumAccess<'t> for Word<'_, 't> {
    type Error = NotRead;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Read<(V::Value, Self)> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'t> VariantAccess<'t> for Word<'_, 't> {
    type Error = NotRead;

    #[inline]
    fn unit_variant(self) -> Read<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, _: T) -> Read<T::Value> {
        self.0.give_up()
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, _: V) -> Read<V::Value> {
        self.0.give_up()
    }

    fn struct_variant<V: Visitor<'t>>(self, _: &'static [&'static str], _: V) -> Read<V::Value> {
        self.0.give_up()
    }
}

impl<'t> EnumAccess<'t> for Variant<'_, 't> {
    type Error = NotRead;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Read<(V::Value, Self)> {
        let variant = seed.deserialize(&mut *self.0)?;
        self.0.expect(b':')?;
        Ok((variant, self))
    }
}

impl<'t> VariantAccess<'t> for Variant<'_, 't> {
    type Error = NotRead;

    fn unit_variant(self) -> Read<()> {
        self.0.word("null")
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Read<T::Value> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Read<V::Value> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'t>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        self.0.object(visitor)
    }
}

macro_rules! other_keys {
    ($($method:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'t>>(self, _: V) -> Read<V::Value> {
            self.0.give_up()
        }
    )*};
}

macro_rules! strings {
    ($($method:ident),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Read<V::Value> {
            match self.0.plain_string()? {
                Some(string) => self.0.checked(visitor.visit_borrowed_str(string)),
                None => self.0.give_up(),
            }
        }
    )*};
}

/// A string without escapes. `serde_json` reads keys of other types.
impl<'t> Deserializer<'t> for Key<'_, 't> {
    type Error = NotRead;

    strings! {
        deserialize_any, deserialize_str, deserialize_string, deserialize_identifier,
        deserialize_ignored_any,
    }
    other_keys! {
        deserialize_bool, deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64,
        deserialize_i128, deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64,
        deserialize_u128, deserialize_f32, deserialize_f64, deserialize_char, deserialize_bytes,
        deserialize_byte_buf, deserialize_option, deserialize_unit, deserialize_seq,
        deserialize_map,
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(self, _: &'static str, _: V) -> Read<V::Value> {
        self.0.give_up()
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        if name.starts_with(RAW) {
            return self.0.give_up();
        }
        let value = visitor.visit_newtype_struct(Key(&mut *self.0));
        self.0.checked(value)
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _: usize, _: V) -> Read<V::Value> {
        self.0.give_up()
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Read<V::Value> {
        self.0.give_up()
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Read<V::Value> {
        self.0.give_up()
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Read<V::Value> {
        self.0.give_up()
    }
}
