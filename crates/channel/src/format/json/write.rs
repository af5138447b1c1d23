//! JSON as `serde_json` writes it, straight into a [`Buffer`].
//!
//! `serde_json` looks at each byte of a text by itself, and most bytes of a message are text. Here
//! they are looked at 16 at a time. All that is not text is still written by `serde_json`.

mod inside;
mod key;
mod unwritten;

use serde::{Serialize, Serializer, ser};

pub(super) use self::unwritten::Unwritten;
use self::{inside::Inside, key::Key};
use super::{RAW, text};
use crate::Buffer;

/// Writes one value.
pub(super) struct Writer<'b> {
    out: &'b mut Buffer,
    /// How many levels there may be inside.
    depth: u8,
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
