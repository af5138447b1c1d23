//! What is inside of an array or an object.

use serde::{Serialize, ser};

use super::{Key, Unwritten, Writer, Written, text};
use crate::Buffer;

/// Writes what is inside of an array or an object.
pub(in super::super) struct Inside<'b> {
    pub(super) out: &'b mut Buffer,
    pub(super) depth: u8,
    pub(super) is_first: bool,
    /// Its one field is JSON as it stands.
    pub(super) is_raw: bool,
    pub(super) close: &'static [u8],
}

impl Inside<'_> {
    #[inline]
    pub(super) fn value(&mut self) -> Writer<'_> {
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
    pub(super) fn end(self) -> Written {
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
