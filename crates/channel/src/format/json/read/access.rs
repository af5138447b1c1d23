//! What is inside of an object, an array and an enum.

use serde::{
    Deserializer,
    de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::{GaveUp, Read, Reader};
use crate::format::json::RAW;

/// The entries of an object, up to what closes it.
pub(super) struct Entries<'r, 't> {
    reader: &'r mut Reader<'t>,
    is_first: bool,
}

/// The elements of an array, up to what closes it.
pub(super) struct Elements<'r, 't> {
    reader: &'r mut Reader<'t>,
    is_first: bool,
}

/// A variant that is a word alone.
pub(super) struct Word<'r, 't>(pub(super) &'r mut Reader<'t>);

/// A variant that is the only key of an object.
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
    /// Whether another one follows, before what `close`s it; goes behind the comma.
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
    type Error = GaveUp;

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
    type Error = GaveUp;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if !self.reader.has_next(&mut self.is_first, b']')? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'t> EnumAccess<'t> for Word<'_, 't> {
    type Error = GaveUp;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Read<(V::Value, Self)> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'t> VariantAccess<'t> for Word<'_, 't> {
    type Error = GaveUp;

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
    type Error = GaveUp;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Read<(V::Value, Self)> {
        let variant = seed.deserialize(&mut *self.0)?;
        self.0.expect(b':')?;
        Ok((variant, self))
    }
}

impl<'t> VariantAccess<'t> for Variant<'_, 't> {
    type Error = GaveUp;

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

macro_rules! uncommon {
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
            visitor.visit_borrowed_str(self.0.string()?)
        }
    )*};
}

/// A text; what else `serde_json` makes of one is for it to make.
impl<'t> Deserializer<'t> for Key<'_, 't> {
    type Error = GaveUp;

    strings! {
        deserialize_any, deserialize_str, deserialize_string, deserialize_identifier,
        deserialize_ignored_any,
    }
    uncommon! {
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
        visitor.visit_newtype_struct(self)
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
