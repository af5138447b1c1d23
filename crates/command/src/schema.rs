//! The JSON Schemas of a command's types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The JSON Schemas (2020-12) of a command's types; `None` where a type has none.
///
/// The derive of `Command` fills them in for the types that implement `schemars::JsonSchema`, if
/// the feature `schema` is on. A type without content has the schema `{"type":"null"}`.
///
/// ```
/// assert_eq!(kakehi_command::Schemas::default().arguments, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    /// Of the arguments, as the server reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Of the content of a progress response, as the server writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Value>,
    /// Of the content of OK, as the server writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Value>,
    /// Of the content of ERROR, as the server writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Value>,
}

/// Used by the derive.
#[doc(hidden)]
#[macro_export]
macro_rules! __schemas {
    ($arguments:ty, $progress:ty, $reply:ty, $fault:ty) => {{
        #[allow(unused_imports)]
        use $crate::__private::{Absent as _, Present as _, Probe};
        $crate::Schemas {
            arguments: (&Probe::<$arguments>::NEW).read(),
            progress: (&Probe::<$progress>::NEW).written(),
            reply: (&Probe::<$reply>::NEW).written(),
            fault: (&Probe::<$fault>::NEW).written(),
        }
    }};
}

/// Finds out whether a type has a schema, without asking for one: method resolution prefers the
/// trait that needs no further reference.
#[doc(hidden)]
pub mod __private {
    use std::marker::PhantomData;

    use serde_json::Value;

    #[derive(Debug)]
    pub struct Probe<T>(PhantomData<fn() -> T>);

    impl<T> Probe<T> {
        pub const NEW: Self = Self(PhantomData);
    }

    pub trait Present {
        fn read(&self) -> Option<Value>;
        fn written(&self) -> Option<Value>;
    }

    pub trait Absent {
        fn read(&self) -> Option<Value> {
            None
        }
        fn written(&self) -> Option<Value> {
            None
        }
    }

    impl<T> Absent for &Probe<T> {}

    #[cfg(feature = "schema")]
    impl<T: schemars::JsonSchema> Present for Probe<T> {
        fn read(&self) -> Option<Value> {
            Some(super::generate::schema::<T>(schemars::generate::Contract::Deserialize))
        }
        fn written(&self) -> Option<Value> {
            Some(super::generate::schema::<T>(schemars::generate::Contract::Serialize))
        }
    }
}

#[cfg(feature = "schema")]
mod generate {
    use schemars::{
        JsonSchema, Schema,
        generate::{Contract, SchemaSettings},
        transform::{RecursiveTransform, Transform},
    };
    use serde_json::{Number, Value};

    pub(super) fn schema<T: JsonSchema>(contract: Contract) -> Value {
        let mut settings = SchemaSettings::draft2020_12();
        settings.contract = contract;
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        RecursiveTransform(amend).transform(&mut schema);
        schema.to_value()
    }

    /// Gives integers their range, and removes defaults that say nothing.
    fn amend(schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        let Some((min, max)) = object.get("format").and_then(Value::as_str).and_then(range) else {
            return;
        };
        object.entry("minimum").or_insert(Value::Number(min));
        object.entry("maximum").or_insert(Value::Number(max));
    }

    fn range(format: &str) -> Option<(Number, Number)> {
        fn between(min: impl Into<Number>, max: impl Into<Number>) -> (Number, Number) {
            (min.into(), max.into())
        }
        Some(match format {
            "uint8" => between(u8::MIN, u8::MAX),
            "uint16" => between(u16::MIN, u16::MAX),
            "uint32" => between(u32::MIN, u32::MAX),
            "uint" | "uint64" => between(u64::MIN, u64::MAX),
            "int8" => between(i8::MIN, i8::MAX),
            "int16" => between(i16::MIN, i16::MAX),
            "int32" => between(i32::MIN, i32::MAX),
            "int" | "int64" => between(i64::MIN, i64::MAX),
            _ => return None,
        })
    }
}
