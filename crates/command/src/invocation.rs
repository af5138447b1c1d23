//! A command as it stands in a request.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, VariantAccess, Visitor,
        value::{MapDeserializer, UnitDeserializer},
    },
};

use crate::Command;

const EXPECTED: &str = "a command, which is a word or an object with one key";

/// A command as it stands in a request: its name, and its arguments.
///
/// A bare name stands for a command without arguments, or with none of its optional ones. A
/// command without arguments ignores those that come with its name.
///
/// ```
/// use kakehi_channel::Request;
/// use kakehi_command::{Describe, Invocation};
///
/// let text = r#"{"id":"ID-1","version":0,"command":{"kakehi.describe":{"of_later":1}}}"#;
/// let request: Request<Invocation<Describe>> = serde_json::from_str(text).unwrap();
/// assert_eq!(request.command, Some(Invocation(Describe)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invocation<C>(pub C);

impl<C: Command> Serialize for Invocation<C> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if C::UNIT {
            serializer.serialize_unit_variant("command", 0, C::NAME)
        } else {
            serializer.serialize_newtype_variant("command", 0, C::NAME, &self.0)
        }
    }
}

impl<'de, C: Command> Deserialize<'de> for Invocation<C> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Named(PhantomData)).map(Self)
    }
}

struct Named<C>(PhantomData<C>);

impl<'de, C: Command> Visitor<'de> for Named<C> {
    type Value = C;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<C, E> {
        if word != C::NAME {
            return Err(other(word));
        }
        if C::UNIT {
            C::deserialize(UnitDeserializer::new())
        } else {
            let nothing = std::iter::empty::<(&str, &str)>();
            C::deserialize(MapDeserializer::new(nothing))
        }
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<C, A::Error> {
        if map.next_key_seed(Is::<C>(PhantomData))?.is_none() {
            return Err(A::Error::custom(format_args!("{EXPECTED}; it has none")));
        }
        let command = if C::UNIT {
            map.next_value::<IgnoredAny>()?;
            C::deserialize(UnitDeserializer::new())?
        } else {
            map.next_value()?
        };
        only(&mut map)?;
        Ok(command)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<C, A::Error> {
        let ((), arguments) = data.variant_seed(Is::<C>(PhantomData))?;
        arguments.newtype_variant()
    }
}

/// Takes the name of the command `C` and refuses all others.
struct Is<C>(PhantomData<C>);

impl<'de, C: Command> DeserializeSeed<'de> for Is<C> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<C: Command> Visitor<'_> for Is<C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command `{}`", C::NAME)
    }

    #[inline]
    fn visit_str<E: Error>(self, word: &str) -> Result<(), E> {
        if word == C::NAME { Ok(()) } else { Err(other(word)) }
    }
}

/// The command `C`, from an object with its name as the only key: the fastest way. Used by the server.
#[doc(hidden)]
#[derive(Debug)]
pub struct Variant<C>(pub C);

impl<'de, C: Command> Deserialize<'de> for Variant<C> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("command", &[], Named(PhantomData)).map(Self)
    }
}

fn other<E: Error>(word: &str) -> E {
    E::custom(format_args!("another command, `{word}`"))
}

#[inline]
fn only<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    match map.next_key::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(A::Error::custom(format_args!("{EXPECTED}; it has more"))),
    }
}

/// The name of the command alone, whatever command it is. Used by the router.
#[doc(hidden)]
#[derive(Debug)]
pub struct Called(pub String);

impl<'de> Deserialize<'de> for Called {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Called;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Called, E> {
        Ok(Called(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Called, A::Error> {
        let Some((name, IgnoredAny)) = map.next_entry()? else {
            return Err(A::Error::custom(format_args!("{EXPECTED}; it has none")));
        };
        only(&mut map)?;
        Ok(Called(name))
    }
}
