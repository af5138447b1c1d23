//! The version of the wire, and how an object is read.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The version of the wire that this crate speaks.
///
/// ```
/// assert_eq!(kakehi_channel::VERSION, 0);
/// ```
pub const VERSION: u8 = 0;

/// Reads a version and refuses all but ours, naming both.
pub(super) fn ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
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

/// Reads `T` from an object only: serde by itself would take an array for a struct.
pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object { expected, object: PhantomData })
}

/// An enum of bare words, read from a string only: serde by itself would take an object that has
/// such a word as its key.
pub(super) struct Word<T>(pub(super) T);

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
