//! A response to a typed command: its content is read by its status.

use std::{any::TypeId, fmt, marker::PhantomData};

use kakehi_channel::{
    Refusal, Response, ResponseMessage, Status,
    low_level::{self, Word},
};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor,
        value::UnitDeserializer,
    },
};
use serde_json::Value;

use crate::Command;

/// A response to the command `C`.
///
/// ```
/// use kakehi_command::{CommandContent, CommandResponse, Describe};
///
/// let text = r#"{"id":"a","version":0,"status":"OK","message":"","content":{"name":"cached"}}"#;
/// let CommandResponse(response) = serde_json::from_str::<CommandResponse<Describe>>(text).unwrap();
/// let Some(CommandContent::Reply(description)) = response.content else { panic!() };
/// assert_eq!(description.name, "cached");
/// ```
///
/// A type without fields ignores whatever content is there. An OK without content is decoded as
/// `null`, so that its reply may be `()` or an `Option`.
pub struct CommandResponse<C: Command>(pub Response<CommandContent<C>>);

/// The content of a response to the command `C`.
pub enum CommandContent<C: Command> {
    /// Of a progress response.
    Progress(C::Progress),
    /// Of OK.
    Reply(C::Reply),
    /// Of ERROR.
    Fault(C::Fault),
}

/// One event of a request for the command `C`.
pub enum Event<C: Command> {
    /// The command makes progress.
    Progress {
        /// For a person.
        message: String,
        /// The content; `None` if the response has none, or one that cannot be decoded.
        progress: Option<C::Progress>,
    },
    /// The command is done. It is the last event.
    Done {
        /// For a person; often empty.
        message: String,
        /// The content.
        reply: C::Reply,
    },
}

impl<C: Command> ResponseMessage for CommandResponse<C> {
    type Event = Event<C>;
    type Reply = C::Reply;

    fn status(&self) -> Option<Status> {
        self.0.status()
    }

    fn id(&self) -> Option<&str> {
        ResponseMessage::id(&self.0)
    }

    fn is_keep_alive(&self) -> bool {
        self.0.is_keep_alive()
    }

    fn message(&self) -> Option<&str> {
        ResponseMessage::message(&self.0)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.0.refusal()
    }

    fn into_event(self) -> Result<Event<C>, Self> {
        let Self(response) = self;
        let Response { status, message, content, .. } = response;
        match (status, content) {
            (Status::Processing, Some(CommandContent::Progress(progress))) => {
                Ok(Event::Progress { message, progress: Some(progress) })
            }
            (Status::Processing, _) => Ok(Event::Progress { message, progress: None }),
            (Status::Ok, Some(CommandContent::Reply(reply))) => Ok(Event::Done { message, reply }),
            (_, content) => Err(Self(Response { message, content, ..response })),
        }
    }

    fn into_reply(self) -> Result<C::Reply, Self> {
        match self.0.content {
            Some(CommandContent::Reply(reply)) => Ok(reply),
            content => Err(Self(Response { content, ..self.0 })),
        }
    }

    fn envelope(payload: &[u8]) -> Option<Self> {
        Response::envelope(payload).map(Self)
    }
}

impl<'de, C: Command> Deserialize<'de> for CommandResponse<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Version,
    Status,
    Message,
    Content,
    Refused,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Version(#[serde(deserialize_with = "low_level::read_version")] u8);

struct Fields<C>(PhantomData<C>);

impl<'de, C: Command> Visitor<'de> for Fields<C> {
    type Value = Response<CommandContent<C>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut version, mut status, mut message) = (None, None, None, None);
        let (mut content, mut early, mut refused) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => once(&mut id, "id", map.next_value::<String>()?)?,
                Field::Version => once(&mut version, "version", map.next_value::<Version>()?.0)?,
                Field::Status => {
                    once(&mut status, "status", map.next_value::<Word<Status>>()?.0)?;
                }
                Field::Message => once(&mut message, "message", map.next_value::<String>()?)?,
                Field::Content => match status {
                    Some(status) => {
                        let seed = ByStatus::<C>(status, PhantomData);
                        once(&mut content, "content", map.next_value_seed(seed)?)?;
                    }
                    None => once(&mut early, "content", map.next_value::<Value>()?)?,
                },
                Field::Refused => {
                    let why = map.next_value::<Option<Word<Refusal>>>()?;
                    once(&mut refused, "refused", why.map(|Word(why)| why))?;
                }
                Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let status = status.ok_or_else(|| A::Error::missing_field("status"))?;
        let content = match (content, early) {
            (Some(_), Some(_)) => return Err(A::Error::duplicate_field("content")),
            (Some(content), None) => content,
            (None, Some(early)) => {
                let seed = ByStatus::<C>(status, PhantomData);
                seed.deserialize(early).map_err(A::Error::custom)?
            }
            (None, None) if status == Status::Ok => Some(CommandContent::Reply(nothing()?)),
            (None, None) => None,
        };
        Ok(Response {
            id: id.ok_or_else(|| A::Error::missing_field("id"))?,
            version: version.ok_or_else(|| A::Error::missing_field("version"))?,
            status,
            message: message.ok_or_else(|| A::Error::missing_field("message"))?,
            content,
            refused: refused.flatten(),
        })
    }
}

fn once<T, E: Error>(to: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match to.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

/// Reads the content of a response with this status. `None`: it is `null`.
struct ByStatus<C>(Status, PhantomData<C>);

impl<'de, C: Command> DeserializeSeed<'de> for ByStatus<C> {
    type Value = Option<CommandContent<C>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, C: Command> Visitor<'de> for ByStatus<C> {
    type Value = Option<CommandContent<C>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        match self.0 {
            Status::Ok => nothing().map(|reply| Some(CommandContent::Reply(reply))),
            Status::Processing | Status::Error => Ok(None),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(Some(match self.0 {
            Status::Processing => CommandContent::Progress(something(deserializer)?),
            Status::Ok => CommandContent::Reply(something(deserializer)?),
            Status::Error => CommandContent::Fault(something(deserializer)?),
        }))
    }
}

/// `()` takes whatever is there: serde's own refuses all but `null`.
fn something<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned + 'static,
    D: Deserializer<'de>,
{
    if TypeId::of::<T>() == TypeId::of::<()>() {
        IgnoredAny::deserialize(deserializer)?;
        return nothing();
    }
    T::deserialize(deserializer)
}

fn nothing<T: DeserializeOwned, E: Error>() -> Result<T, E> {
    T::deserialize(UnitDeserializer::new())
}

impl<C: Command> fmt::Debug for CommandContent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Progress(_) => "Progress",
            Self::Reply(_) => "Reply",
            Self::Fault(_) => "Fault",
        })
    }
}

impl<C: Command> fmt::Debug for Event<C>
where
    C::Progress: fmt::Debug,
    C::Reply: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress { message, progress } => f
                .debug_struct("Progress")
                .field("message", message)
                .field("progress", progress)
                .finish(),
            Self::Done { message, reply } => {
                f.debug_struct("Done").field("message", message).field("reply", reply).finish()
            }
        }
    }
}

impl<C: Command> fmt::Debug for CommandResponse<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Warm;

    impl Command for Warm {
        const NAME: &'static str = "warm";
        const UNIT: bool = true;
        type Progress = u8;
        type Reply = String;
        type Fault = ();
    }

    fn read(rest: &str) -> Result<Response<CommandContent<Warm>>, String> {
        let text = format!(r#"{{{rest},"id":"a","version":0,"message":"m"}}"#);
        serde_json::from_str(&text)
            .map(|CommandResponse(response)| response)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_content_is_of_the_type_that_the_status_says() {
        for (status, content, is_read) in [
            ("PROCESSING", "7", true),
            ("PROCESSING", "\"x\"", false),
            ("OK", "\"x\"", true),
            ("OK", "7", false),
            ("ERROR", "{\"whatever\":1}", true),
        ] {
            for rest in [
                format!(r#""status":"{status}","content":{content}"#),
                format!(r#""content":{content},"status":"{status}""#),
            ] {
                assert_eq!(read(&rest).is_ok_and(|r| r.content.is_some()), is_read, "{rest}");
            }
        }
    }

    #[test]
    fn an_absent_content_is_null() {
        for rest in [r#""status":"PROCESSING""#, r#""content":null,"status":"ERROR""#] {
            assert!(read(rest).unwrap().content.is_none(), "{rest}");
        }
        for rest in [r#""status":"OK""#, r#""status":"OK","content":null"#] {
            assert!(read(rest).is_err(), "a reply that is a text is missing: {rest}");
        }
    }

    #[test]
    fn no_field_comes_twice() {
        for rest in [
            r#""status":"ERROR","content":1,"content":1"#,
            r#""content":1,"status":"ERROR","content":1"#,
            r#""status":"ERROR","refused":null,"refused":null"#,
            r#""status":"ERROR","status":"ERROR""#,
        ] {
            assert!(read(rest).unwrap_err().contains("duplicate field"), "{rest}");
        }
    }
}
