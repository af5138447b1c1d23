//! The keys of maps.

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};

use super::{Unwritten, Writer, Written};
use crate::Buffer;

/// Writes the key of a map: a text, or what can stand for one in quotes.
pub(super) struct Key<'b>(pub(super) &'b mut Buffer);

impl Key<'_> {
    fn quoted<T: Serialize>(self, value: &T) -> Written {
        self.0.put(b"\"")?;
        Writer::new(&mut *self.0).plain(value)?;
        Ok(self.0.put(b"\"")?)
    }

    fn refused<T>() -> Result<T, Unwritten> {
        Err(ser::Error::custom("key must be a string"))
    }
}

macro_rules! quoted {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Written {
            self.quoted(&value)
        })*
    };
}

impl Serializer for Key<'_> {
    type Ok = ();
    type Error = Unwritten;
    type SerializeSeq = Impossible<(), Unwritten>;
    type SerializeTuple = Impossible<(), Unwritten>;
    type SerializeTupleStruct = Impossible<(), Unwritten>;
    type SerializeTupleVariant = Impossible<(), Unwritten>;
    type SerializeMap = Impossible<(), Unwritten>;
    type SerializeStruct = Impossible<(), Unwritten>;
    type SerializeStructVariant = Impossible<(), Unwritten>;

    quoted! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_u128: u128, serialize_bool: bool,
    }

    fn serialize_f32(self, value: f32) -> Written {
        if value.is_finite() { self.quoted(&value) } else { Self::refused() }
    }

    fn serialize_f64(self, value: f64) -> Written {
        if value.is_finite() { self.quoted(&value) } else { Self::refused() }
    }

    fn serialize_char(self, value: char) -> Written {
        Writer::new(self.0).serialize_char(value)
    }

    fn serialize_str(self, value: &str) -> Written {
        Writer::new(self.0).serialize_str(value)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> Written
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_bytes(self, _: &[u8]) -> Written {
        Self::refused()
    }

    fn serialize_none(self) -> Written {
        Self::refused()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        Self::refused()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        Self::refused()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        Self::refused()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unwritten> {
        Self::refused()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unwritten> {
        Self::refused()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unwritten> {
        Self::refused()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unwritten> {
        Self::refused()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unwritten> {
        Self::refused()
    }

    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, Unwritten> {
        Self::refused()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritten> {
        Self::refused()
    }
}
