//! Writes the same JSON as `serde_json`, directly into a [`Buffer`].
//!
//! `serde_json` still writes all numbers and the keys of maps.

use std::{fmt, iter::once};

use serde::{Serialize, Serializer, ser};

use super::{RAW, far};
use crate::{Buffer, Full};

/// How many bytes are checked at once.
const STEP: usize = 16;
/// From how many bytes on a string and its quotes are put separately.
const LARGE: usize = 512;
/// How many bytes of a large string are checked in steps before the rest of it.
const NEAR: usize = 256;

/// Appends `value` to `out` as JSON. After an error, `out` may contain a part of it.
///
/// # Errors
/// If JSON cannot express the value, it is nested more than 127 levels deep, or `out` is full.
#[inline]
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut Buffer) -> Result<(), Unwritten> {
    value.serialize(Writer { out, depth: DEPTH })
}

/// Why a value was not written.
#[derive(Debug)]
pub enum Unwritten {
    /// The buffer is full.
    Full(Full),
    /// JSON cannot express the value.
    Json(serde_json::Error),
}

impl Unwritten {
    /// Distinguishes a full buffer from a value that JSON cannot express.
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

/// Writes one value.
struct Writer<'b> {
    out: &'b mut Buffer,
    /// How many further levels may be opened.
    depth: u8,
}

type Written = Result<(), Unwritten>;

/// The nesting that `serde_json` reads. A deeper message could not be read, so it is not sent.
const DEPTH: u8 = 127;

impl<'b> Writer<'b> {
    fn open(self, open: &[u8], close: &'static [u8]) -> Result<Inside<'b>, Unwritten> {
        // Each bracket is one level.
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
        write_text(variant, out)?;
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
        Ok(write_text(value, self.out)?)
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

/// Writes the elements of an array or the entries of an object.
struct Inside<'b> {
    out: &'b mut Buffer,
    depth: u8,
    is_first: bool,
    /// Its only field is JSON text, which is written unchanged.
    is_raw: bool,
    close: &'static [u8],
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
        write_key(before, key, self.out)?;
        value.serialize(self.value())
    }

    #[cold]
    fn raw<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        match serde_json::to_value(value).map_err(Unwritten::Json)? {
            serde_json::Value::String(json) => Ok(self.out.put(json.as_bytes())?),
            _ => Err(ser::Error::custom("a raw value is not JSON text")),
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
        // serde_json converts keys: it writes this one as a map, `{"key":null}`.
        const REST: usize = "null}".len();
        let is_first = std::mem::take(&mut self.is_first);
        let start = self.out.len() - usize::from(is_first);
        self.out.truncate(start);
        self.value().plain(&Entry(key))?;
        self.out.truncate(self.out.len() - REST);
        if !is_first {
            self.out.replace(start, b',');
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(self.value())
    }

    fn end(self) -> Written {
        Inside::end(self)
    }
}

/// A map of one key.
struct Entry<'k, K: ?Sized>(&'k K);

impl<K: Serialize + ?Sized> Serialize for Entry<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(once((self.0, ())))
    }
}

/// Writes `text` in quotes.
#[inline]
fn write_text(text: &str, out: &mut Buffer) -> Result<(), Full> {
    let bytes = text.as_bytes();
    if bytes.len() >= LARGE {
        return write_escaped(bytes, first_special(bytes), out);
    }
    match first_near(bytes) {
        None => out.put_all([b"\"", bytes, b"\""]),
        at => write_escaped(bytes, at, out),
    }
}

/// Writes the key of a field, with `before` and a colon around it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a constant key is checked at compile time")]
fn write_key(before: &[u8], key: &str, out: &mut Buffer) -> Result<(), Full> {
    if key.len() < STEP && !has_short(key.as_bytes()) {
        return out.put_all([before, b"\"", key.as_bytes(), b"\":"]);
    }
    out.put(before)?;
    write_text(key, out)?;
    out.put(b":")
}

/// Writes a large string, or one whose first special byte is `at` this index.
#[cold]
fn write_escaped(bytes: &[u8], mut at: Option<usize>, out: &mut Buffer) -> Result<(), Full> {
    out.put(b"\"")?;
    let mut rest = bytes;
    while let Some((plain, special)) = at.and_then(|at| rest.split_at_checked(at)) {
        out.put(plain)?;
        let Some((byte, behind)) = special.split_first() else { break };
        escape(*byte, out)?;
        rest = behind;
        at = first_special(rest);
    }
    out.put(rest)?;
    out.put(b"\"")
}

/// The index of the first byte that must be escaped.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (near, rest) = bytes.split_at_checked(NEAR).unwrap_or((bytes, &[]));
    first_near(near).or_else(|| Some(near.len() + far::first_special(rest)?))
}

/// The index of the first byte that must be escaped, for a string that is short.
#[inline]
fn first_near(bytes: &[u8]) -> Option<usize> {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let at = match steps.iter().position(has_special) {
        Some(step) => step * STEP,
        None if has_at_end(bytes) => bytes.len() - rest.len(),
        None => return None,
    };
    let within = bytes.get(at..)?.iter().copied().position(is_special)?;
    Some(at + within)
}

/// Whether a special byte is among the last bytes. Checking some bytes twice costs less than
/// checking each by itself.
#[inline]
fn has_at_end(bytes: &[u8]) -> bool {
    bytes.last_chunk::<STEP>().map_or_else(|| has_short(bytes), has_special)
}

/// Whether a string shorter than [`STEP`] has a special byte.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a constant text is checked at compile time")]
fn has_short(bytes: &[u8]) -> bool {
    if let (Some(start), Some(end)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        has_special(start) || has_special(end)
    } else if let (Some(start), Some(end)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        has_special(start) || has_special(end)
    } else {
        bytes.iter().copied().any(is_special)
    }
}

/// Has no branches, so that the compiler checks all bytes at once.
#[inline]
fn has_special<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.iter().fold(0, |any, byte| any | u8::from(is_special(*byte))) != 0
}

#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "a branch for each byte costs more")]
fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

#[cold]
fn escape(byte: u8, out: &mut Buffer) -> Result<(), Full> {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let hex = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            return out.put(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
    };
    out.put(&[b'\\', short])
}
