//! JSON as `serde_json` writes it, straight into a [`Buffer`].
//!
//! `serde_json` looks at each byte of a text by itself, and most bytes of a message are text. Here
//! they are looked at 16 at a time. All that is not text is still written by `serde_json`.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};

use super::{RAW, text};
use crate::{Buffer, buffer::Full};

/// Why a value was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    Full(Full),
    Json(serde_json::Error),
}

/// Writes one value.
pub(super) struct Writer<'b> {
    out: &'b mut Buffer,
    /// How many levels there may be inside.
    depth: u8,
}

/// Writes what is inside of an array or an object.
pub(super) struct Inside<'b> {
    out: &'b mut Buffer,
    depth: u8,
    is_first: bool,
    /// Its one field is JSON as it stands.
    is_raw: bool,
    close: &'static [u8],
}

type Written = Result<(), Unwritten>;

/// How many levels `serde_json` reads: what it would refuse is not sent.
const DEPTH: u8 = 127;

impl<'b> Writer<'b> {
    pub(super) fn new(out: &'b mut Buffer) -> Self {
        Self { out, depth: DEPTH }
    }

    fn open(self, open: &[u8], close: &'static [u8]) -> Result<Inside<'b>, Unwritten> {
        // Each bracket is one.
        let levels = u8::try_from(open.len()).unwrap_or(u8::MAX);
        let Some(depth) = self.depth.checked_sub(levels) else {
            return Err(ser::Error::custom("nested more than 127 levels deep"));
        };
        self.out.put_all([open])?;
        Ok(Inside { out: self.out, depth, is_first: true, is_raw: false, close })
    }

    fn open_variant(
        self,
        variant: &str,
        open: &[u8],
        close: &'static [u8],
    ) -> Result<Inside<'b>, Unwritten> {
        let Inside { out, depth, .. } = self.open(b"{", b"}")?;
        text::write(variant, out)?;
        out.put_all([b":"])?;
        Self { out, depth }.open(open, close)
    }

    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Written {
        serde_json::to_writer(self.out, value).map_err(Unwritten::of)
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Written {
            self.plain(&value)
        })*
    };
}

impl<'b> Serializer for Writer<'b> {
    type Ok = ();
    type Error = Unwritten;
    type SerializeSeq = Inside<'b>;
    type SerializeTuple = Inside<'b>;
    type SerializeTupleStruct = Inside<'b>;
    type SerializeTupleVariant = Inside<'b>;
    type SerializeMap = Inside<'b>;
    type SerializeStruct = Inside<'b>;
    type SerializeStructVariant = Inside<'b>;

    plain! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u128: u128, serialize_f32: f32, serialize_f64: f64,
        serialize_bool: bool,
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Written {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Written {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Written {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Written {
        match u8::try_from(value) {
            Ok(digit @ 0..10) => Ok(self.out.put_all([&[b'0' + digit]])?),
            _ => self.plain(&value),
        }
    }

    fn serialize_char(self, value: char) -> Written {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Written {
        Ok(text::write(value, self.out)?)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        value.serialize(self)
    }

    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        Ok(self.out.put_all([b"null"])?)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> Written
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        let mut inside = self.open_variant(variant, b"", b"}")?;
        value.serialize(inside.value())?;
        inside.end()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Inside<'b>, Unwritten> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Inside<'b>, Unwritten> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Inside<'b>, Unwritten> {
        self.open(b"[", b"]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'b>, Unwritten> {
        self.open_variant(variant, b"[", b"]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Inside<'b>, Unwritten> {
        self.open(b"{", b"}")
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Inside<'b>, Unwritten> {
        if name.starts_with(RAW) {
            return Ok(Inside { is_raw: true, ..self.open(b"", b"")? });
        }
        self.open(b"{", b"}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'b>, Unwritten> {
        self.open_variant(variant, b"{", b"}}")
    }
}

impl Inside<'_> {
    #[inline]
    fn value(&mut self) -> Writer<'_> {
        Writer { out: &mut *self.out, depth: self.depth }
    }

    #[inline]
    fn next(&mut self) -> Written {
        if !std::mem::take(&mut self.is_first) {
            self.out.put_all([b","])?;
        }
        Ok(())
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.next()?;
        value.serialize(self.value())
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the key is known where this is called from")]
    fn entry<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Written {
        if self.is_raw {
            return self.raw(value);
        }
        let before: &[u8] = if std::mem::take(&mut self.is_first) { b"" } else { b"," };
        text::write_key(before, key, self.out)?;
        value.serialize(self.value())
    }

    #[cold]
    fn raw<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        match serde_json::to_value(value).map_err(Unwritten::Json)? {
            serde_json::Value::String(json) => Ok(self.out.put(json.as_bytes())?),
            _ => Err(ser::Error::custom("expected JSON as it stands")),
        }
    }

    #[inline]
    fn end(self) -> Written {
        Ok(self.out.put_all([self.close])?)
    }
}

macro_rules! elements {
    ($($compound:ident: $method:ident),* $(,)?) => {$(
        impl ser::$compound for Inside<'_> {
            type Ok = ();
            type Error = Unwritten;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.element(value)
            }

            #[inline]
            fn end(self) -> Written {
                Inside::end(self)
            }
        }
    )*};
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! fields {
    ($($compound:ident),*) => {$(
        impl ser::$compound for Inside<'_> {
            type Ok = ();
            type Error = Unwritten;

            #[inline(always)]
            fn serialize_field<T>(&mut self, key: &'static str, value: &T) -> Written
            where
                T: Serialize + ?Sized,
            {
                self.entry(key, value)
            }

            #[inline]
            fn end(self) -> Written {
                Inside::end(self)
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Inside<'_> {
    type Ok = ();
    type Error = Unwritten;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.next()?;
        key.serialize(Key(&mut *self.out))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.out.put(b":")?;
        value.serialize(self.value())
    }

    fn end(self) -> Written {
        Inside::end(self)
    }
}

/// Writes the key of a map: a text, or what can stand for one in quotes.
struct Key<'b>(&'b mut Buffer);

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

impl Unwritten {
    /// Tells a full buffer from a value that JSON cannot express.
    fn of(error: serde_json::Error) -> Self {
        if !error.is_io() {
            return Self::Json(error);
        }
        let error = std::io::Error::from(error);
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()) {
            Some(full) => Self::Full(*full),
            None => Self::Json(ser::Error::custom(error)),
        }
    }
}

impl From<Full> for Unwritten {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl ser::Error for Unwritten {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Json(ser::Error::custom(message))
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Json(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unwritten {}
