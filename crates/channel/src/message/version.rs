//! The version of the protocol, and how objects are read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The version of the protocol that this crate implements.
///
/// ```
/// assert_eq!(kakehi_channel::VERSION, 0);
/// ```
pub const VERSION: u8 = 0;

/// Reads a version, and fails with both versions if it is another one.
///
/// # Errors
/// It is another version, or no number.
pub fn read_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    deserializer.deserialize_u64(Version)
}

struct Version;

impl Visitor<'_> for Version {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {VERSION}")
    }

    fn visit_u64<E: de::Error>(self, theirs: u64) -> Result<u8, E> {
        if theirs == u64::from(VERSION) {
            return Ok(VERSION);
        }
        Err(E::custom(format_args!(
            "the message is of version {theirs}, this side speaks version {VERSION}"
        )))
    }
}

/// Reads `T` from an object only. serde by itself also reads a struct from an array.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object { expected, object: PhantomData })
}

/// An enum of words, read from a string only. serde by itself also reads it from an object with such
/// a key.
#[derive(Debug)]
pub struct Word<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AWord(PhantomData)).map(Self)
    }
}

struct AWord<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AWord<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
        T::deserialize(word.into_deserializer())
    }
}

struct Object<T> {
    expected: &'static str,
    object: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
