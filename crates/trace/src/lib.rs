//! The place of a request in a distributed trace, as the W3C Trace Context has it.
//!
//! A [`TraceContext`] is valid and bounded. A [`Field`] reads one of its two strings from any
//! value, so that a malformed trace never costs a request.

#[cfg(feature = "opentelemetry")]
mod otel;

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The longest `traceparent`, in bytes. Version 00 has 55; later versions may have more fields.
const MAX_PARENT: usize = 128;
/// The longest `tracestate`, in bytes.
const MAX_STATE: usize = 512;
/// The most entries of a `tracestate`.
const MAX_ENTRIES: usize = 32;

/// The trace that a request belongs to: `traceparent` and `tracestate` of the
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/). It is cheap to clone.
///
/// ```
/// use kakehi_trace::TraceContext;
///
/// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace = TraceContext::new(parent, Some("vendor=1")).unwrap();
/// assert_eq!((trace.traceparent(), trace.tracestate()), (parent, Some("vendor=1")));
///
/// assert_eq!(TraceContext::new("not a traceparent", None), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    parent: Box<str>,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Checks both strings. `None`: `traceparent` is malformed, or longer than 128 bytes. A
    /// `tracestate` that is malformed, longer than 512 bytes or has more than 32 entries is left out.
    #[must_use]
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let state = tracestate.filter(|state| is_state(state)).map(Box::from);
        is_parent(traceparent).then(|| Self(Arc::new(Parts { parent: traceparent.into(), state })))
    }

    /// The version, the id of the trace, the id of the parent span, and flags.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.0.parent
    }

    /// Data of tracing systems, if there is any.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.0.state.as_deref()
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("traceparent", &self.traceparent())
            .field("tracestate", &self.tracestate())
            .finish()
    }
}

/// `version-trace-parent-flags` in lower-case hexadecimal digits. A later version may have more.
fn is_parent(text: &str) -> bool {
    let mut fields = text.splitn(5, '-');
    let mut has = |len, forbidden| {
        fields.next().is_some_and(|field| {
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            field.len() == len
                && field.bytes().all(is_hex)
                && field.bytes().any(|byte| byte != forbidden)
        })
    };
    let is_known = has(2, b'f') && has(32, b'0') && has(16, b'0') && has(2, b'-');
    let rest = fields.next();
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_known
        && text.len() <= MAX_PARENT
        && is_printable
        && rest.is_none_or(|_| !text.starts_with("00"))
}

/// `key=value` entries, separated by commas.
fn is_state(text: &str) -> bool {
    let entries = || text.split(',').map(|entry| entry.trim_matches([' ', '\t']));
    text.len() <= MAX_STATE
        && !text.trim_matches([' ', '\t', ',']).is_empty()
        && entries().count() <= MAX_ENTRIES
        && entries().all(|entry| entry.is_empty() || is_entry(entry))
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else { return false };
    let in_key =
        |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    !key.is_empty()
        && key.bytes().all(in_key)
        && !value.is_empty()
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

/// A field of the trace context in a message. A value is ignored if it is not a string, or
/// is too long.
///
/// ```
/// let [parent, state]: [kakehi_trace::Field; 2] = serde_json::from_str("[7, {}]").unwrap();
/// assert_eq!(parent.context(&state), None);
/// ```
#[derive(Debug, Default)]
pub struct Field(Option<Box<str>>);

impl Field {
    /// The trace context whose `traceparent` is this field.
    #[must_use]
    #[inline]
    pub fn context(&self, state: &Self) -> Option<TraceContext> {
        if self.0.is_none() { None } else { self.checked(state) }
    }

    #[cold]
    fn checked(&self, state: &Self) -> Option<TraceContext> {
        TraceContext::new(self.0.as_deref()?, state.0.as_deref())
    }
}

impl<'de> Deserialize<'de> for Field {
    #[cold]
    #[inline(never)]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok((text.len() <= MAX_PARENT.max(MAX_STATE)).then(|| text.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_that_of_the_w3c() {
        let long = format!("01{}-{}", &PARENT[2..], "x".repeat(72));
        for valid in [
            PARENT,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes-later",
            &long,
        ] {
            let context = TraceContext::new(valid, None).expect(valid);
            assert_eq!(context.traceparent(), valid);
        }
        for malformed in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-a\nb",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-a\0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
            &format!("{long}x"),
        ] {
            assert_eq!(TraceContext::new(malformed, None), None, "{malformed}");
        }
    }

    #[test]
    fn a_malformed_tracestate_is_left_out() {
        let state = |state| {
            let context = TraceContext::new(PARENT, Some(state)).expect("a traceparent");
            context.tracestate().map(str::to_owned)
        };
        let many = |count| vec!["a=1"; count].join(",");
        let [longest, too_long] = [510, 511].map(|len| format!("a={}", "x".repeat(len)));
        let (most, too_many) = (many(32), many(33));
        for valid in ["a=1", "fw529a3039@dt=FfAA0;b ,\tz*/-_9=!", &most, &longest] {
            assert_eq!(state(valid).as_deref(), Some(valid));
        }
        for malformed in [
            "", " , ", "a", "=1", "a=", "A=1", "a=1\n", "a=é", "a=1=2", "a\0=1", &too_many,
            &too_long,
        ] {
            assert_eq!(state(malformed), None, "{malformed}");
        }
    }
}
