//! The content of a response, as far as each response needs it: the tag of a job's line. All other
//! content is checked and not kept.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

#[derive(Debug)]
pub(crate) enum Content {
    Line(Tag),
    Other,
}

/// Describes a line of a job, or a piece of one. The text is the message.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) is_stdout: bool,
    /// The bytes, where they are not UTF-8.
    pub(crate) base64: Option<String>,
    /// A newline belongs to it.
    pub(crate) has_end: bool,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::default();
        deserializer.deserialize_any(&mut fields)?;
        let is_stdout = match fields.stream.as_deref() {
            Some("stdout") => true,
            Some("stderr") => false,
            _ => return Ok(Self::Other),
        };
        let has_end = !fields.is_cut && !fields.has_no_newline;
        Ok(Self::Line(Tag { is_stdout, base64: fields.base64.map(Cow::into_owned), has_end }))
    }
}

#[derive(Default)]
struct Fields<'de> {
    stream: Option<Cow<'de, str>>,
    base64: Option<Cow<'de, str>>,
    is_cut: bool,
    has_no_newline: bool,
}

/// A value, as far as it matters. Other values are read and not skipped, so that content that is
/// nested too deeply is refused.
enum Value<'de> {
    Text(Cow<'de, str>),
    Bool(bool),
    Other,
}

/// Visits values that do not matter.
macro_rules! others {
    ($other:expr) => {
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($other)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($other)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($other)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($other)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<Value<'de>>()?.is_some() {}
            Ok($other)
        }
    };
}

impl<'de> Visitor<'de> for &mut Fields<'de> {
    type Value = ();

    others!(());

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any content")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            let Value::Text(key) = key else { return Err(Error::custom("a key is a text")) };
            // The last one of duplicate keys counts.
            match (&*key, map.next_value()?) {
                ("stream", Value::Text(text)) => self.stream = Some(text),
                ("stream", _) => self.stream = None,
                ("base64", Value::Text(text)) => self.base64 = Some(text),
                ("base64", _) => self.base64 = None,
                ("cut", value) => self.is_cut = matches!(value, Value::Bool(true)),
                ("newline", value) => self.has_no_newline = matches!(value, Value::Bool(false)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value<'de>;

            others!(Value::Other);

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
                Ok(Value::Bool(value))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
                while map.next_entry::<Value<'de>, Value<'de>>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
