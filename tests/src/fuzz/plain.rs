//! A second decoder of the messages, written from docs/protocol.md field by field.

use std::fmt;

use kakehi_channel::{Refusal, Request, Response, Status, TraceContext, VERSION};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// The fields of a JSON object in their order, with the JSON text of each value.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// `None` if the payload is not a JSON object.
    pub(super) fn of(payload: &'a [u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(payload).ok()?).ok()
    }

    /// `None` if it is not a request.
    pub(super) fn request(&self) -> Option<Request> {
        let request = Request {
            worker_id: self.number("worker_id").ok()?,
            timeout_ms: self.number("timeout_ms").ok()?,
            deadline_ms: self.number("deadline_ms").ok()?,
            trace: self.trace().ok()?,
            command: self.any("command").ok()?,
            ..Request::new(self.id()?)
        };
        self.is_of_our_version().then_some(request)
    }

    /// `None` if it is not a response.
    pub(super) fn response(&self) -> Option<Response> {
        let status = match self.read::<String>("status").ok()??.as_str() {
            "PROCESSING" => Status::Processing,
            "OK" => Status::Ok,
            "ERROR" => Status::Error,
            _ => return None,
        };
        let refused = self.read::<String>("refused").ok()?.map(|why| match why.as_str() {
            "denied" => Refusal::Denied,
            "busy" => Refusal::Busy,
            "shutting_down" => Refusal::ShuttingDown,
            "malformed" => Refusal::Malformed,
            "too_large" => Refusal::TooLarge,
            "too_slow" => Refusal::TooSlow,
            "unsupported" => Refusal::Unsupported,
            _ => Refusal::Other,
        });
        let message: String = self.read("message").ok()??;
        let content = self.any("content").ok()?;
        let response = Response { status, content, refused, ..Response::ok(self.id()?, message) };
        self.is_of_our_version().then_some(response)
    }

    /// `None` if there is no readable id.
    pub(super) fn id(&self) -> Option<String> {
        self.read("id").ok()?
    }

    fn is_of_our_version(&self) -> bool {
        let ours = VERSION.to_string();
        self.once("version").is_ok_and(|version| version.is_some_and(|text| text == ours))
    }

    fn trace(&self) -> Result<Option<TraceContext>, Wrong> {
        let (parent, state) = (self.string("traceparent")?, self.string("tracestate")?);
        Ok(parent.and_then(|parent| TraceContext::new(&parent, state.as_deref())))
    }

    /// `None` also if it is not a string.
    fn string(&self, name: &str) -> Result<Option<String>, Wrong> {
        match self.once(name)?.and_then(|text| text.chars().next()) {
            Some('"') => self.read(name),
            Some('-' | '0'..='9') => self.read::<f64>(name).map(|_| None),
            _ => Ok(None),
        }
    }

    /// Reads a whole number without sign, fraction or exponent.
    fn number<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Wrong> {
        match self.once(name)? {
            Some(text) if !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(Wrong),
            _ => self.read(name),
        }
    }

    fn any(&self, name: &str) -> Result<Option<Value>, Wrong> {
        let Some(text) = self.once(name)? else { return Ok(None) };
        // The array makes the nesting as deep as in the object.
        match serde_json::from_str::<[Value; 1]>(&format!("[{text}]")) {
            Ok([value]) => Ok(Some(value)),
            Err(_) => Err(Wrong),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Wrong> {
        let Some(text) = self.once(name)? else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| Wrong)
    }

    /// Returns the JSON text of a field. `None` if it is absent or `null`; an error if it is
    /// repeated.
    fn once(&self, name: &str) -> Result<Option<&'a str>, Wrong> {
        let mut found = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.get());
        let first = found.next();
        if found.next().is_some() { Err(Wrong) } else { Ok(first.filter(|text| *text != "null")) }
    }
}

/// A field that docs/protocol.md does not allow.
struct Wrong;

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = vec![];
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
