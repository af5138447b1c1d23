//! Responses, with the JSON that they came in.

use std::ops::Range;

use kakehi_channel::{
    ChannelError, Decode, Encode, Format, Json, VERSION,
    low_level::{Buffer, Frame},
};
use kakehi_client::{Refusal, Response, ResponseMessage, Status};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    content::{Content, Tag},
    question::Question,
};

/// The format of the wire. It keeps the JSON of each response.
#[derive(Debug, Default)]
pub(crate) struct Verbatim(Json);

/// A response, and the JSON that it came in. The content is decoded only where it is used, because
/// a hostile server can make it a hundred times larger in memory.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) json: Vec<u8>,
    pub(crate) response: Response<Content>,
}

/// How a job ended, or why it was not started. Values that the content lacks are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End<'a> {
    /// The exit code, or 128 + the signal, as a shell reports it.
    pub(crate) code: Option<u8>,
    /// The cause of the end, if the job did not end by itself.
    pub(crate) ended_by: Option<&'a str>,
    /// Why the job was not started.
    pub(crate) reason: Option<&'a str>,
    /// The outcome in the record of a run.
    pub(crate) outcome: Option<&'a str>,
}

impl<'a> End<'a> {
    /// Reads an object in JSON.
    fn of(object: &'a str) -> Self {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            exit_code: Option<&'a RawValue>,
            #[serde(borrow)]
            signal: Option<&'a RawValue>,
            #[serde(borrow)]
            ended_by: Option<&'a RawValue>,
            #[serde(borrow)]
            reason: Option<&'a RawValue>,
            #[serde(borrow)]
            outcome: Option<&'a RawValue>,
        }
        fn word(field: Option<&RawValue>) -> Option<&str> {
            field?.get().strip_prefix('"')?.strip_suffix('"')
        }
        // serde takes an array for the fields of a struct.
        let fields = Some(object).filter(|object| object.starts_with('{'));
        let fields = fields.and_then(|object| serde_json::from_str(object).ok());
        let Some(Fields { exit_code, signal, ended_by, reason, outcome }) = fields else {
            return End::default();
        };
        let number = |field: Option<&RawValue>| field?.get().parse::<u8>().ok();
        let killed = || number(signal)?.checked_add(128);
        End {
            code: number(exit_code).or_else(killed),
            ended_by: word(ended_by),
            reason: word(reason),
            outcome: word(outcome),
        }
    }
}

impl Answer {
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Verbatim::default().decode(text.as_bytes()).unwrap()
    }

    /// A final OK that this program makes of several answers.
    pub(crate) fn ok(message: &str, content: &serde_json::Value) -> Option<Self> {
        let text = serde_json::json!({
            "id": "", "version": VERSION, "status": "OK", "message": message, "content": content,
        });
        Verbatim::default().decode(text.to_string().as_bytes()).ok()
    }

    /// The tag of a line of a job, if it is one.
    pub(crate) fn line(&self) -> Option<&Tag> {
        match self.response.content.as_ref()? {
            Content::Line(tag) => Some(tag),
            Content::Other => None,
        }
    }

    /// The content, as it came.
    pub(crate) fn content(&self) -> Option<&str> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            content: Option<&'a RawValue>,
        }
        self.response.content.as_ref()?;
        let Whole { content } = serde_json::from_slice(&self.json).ok()?;
        content.map(RawValue::get)
    }

    /// Where the content is in the JSON.
    pub(crate) fn content_range(&self) -> Option<Range<usize>> {
        let content = self.content()?;
        let start = content.as_ptr().addr().checked_sub(self.json.as_ptr().addr())?;
        Some(start..start + content.len())
    }

    /// How the job ended, or why it was not started.
    pub(crate) fn end(&self) -> End<'_> {
        self.content().map(End::of).unwrap_or_default()
    }

    /// How each run ended, if the content is a list of records.
    pub(crate) fn ends(&self) -> Vec<End<'_>> {
        let list = self.content().filter(|content| content.starts_with('['));
        let records: Option<Vec<&RawValue>> = list.and_then(|list| serde_json::from_str(list).ok());
        records.unwrap_or_default().into_iter().map(|record| End::of(record.get())).collect()
    }

    /// The problems of the jobs file that a reload has found.
    pub(crate) fn problems(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Problems {
            problems: Vec<String>,
        }
        let object = self.content().filter(|content| content.starts_with('{'));
        let found = object.and_then(|object| serde_json::from_str(object).ok());
        found.map(|Problems { problems }| problems).unwrap_or_default()
    }

    /// Returns the description of the job, if the user must confirm the run first.
    pub(crate) fn confirmation(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Confirm {
            confirm: bool,
            #[serde(default)]
            about: String,
        }
        self.response.refused?;
        let object = self.content().filter(|content| content.starts_with('{'))?;
        let Confirm { confirm, about } = serde_json::from_str(object).ok()?;
        confirm.then_some(about)
    }

    /// Whether the content is a list of running requests.
    pub(crate) fn lists_running(&self) -> bool {
        #[derive(Deserialize)]
        struct List {
            #[serde(rename = "running")]
            _running: Vec<serde::de::IgnoredAny>,
        }
        let object = self.content().filter(|content| content.starts_with('{'));
        object.is_some_and(|object| serde_json::from_str::<List>(object).is_ok())
    }

    /// The process id in the content.
    pub(crate) fn pid(&self) -> Option<u32> {
        #[derive(Deserialize)]
        struct Process {
            pid: u32,
        }
        let object = self.content().filter(|content| content.starts_with('{'))?;
        serde_json::from_str(object).ok().map(|Process { pid }| pid)
    }

    /// The names that are similar to one that the server does not know.
    pub(crate) fn similar(&self) -> Vec<String> {
        /// More would not be read.
        const LONGEST: usize = 4096;
        #[derive(Deserialize)]
        struct Names {
            similar: Vec<String>,
        }
        let content = self.content().filter(|content| content.len() <= LONGEST);
        let names = content.and_then(|content| serde_json::from_str(content).ok());
        names.map(|Names { similar }| similar).unwrap_or_default()
    }
}

impl Format for Verbatim {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
        self.0.find(data, max)
    }
}

impl Decode<Answer> for Verbatim {
    fn decode(&mut self, payload: &[u8]) -> Result<Answer, ChannelError> {
        let response = self.0.decode(payload)?;
        Ok(Answer { json: payload.to_vec(), response })
    }
}

impl Encode<Question> for Verbatim {
    fn encode(&mut self, question: &Question, out: &mut Buffer) -> Result<(), ChannelError> {
        self.0.encode(question, out)
    }
}

impl ResponseMessage for Answer {
    type Event = Self;
    type Reply = Self;

    fn status(&self) -> Option<Status> {
        self.response.status()
    }

    fn id(&self) -> Option<&str> {
        ResponseMessage::id(&self.response)
    }

    fn is_keep_alive(&self) -> bool {
        self.response.is_keep_alive()
    }

    fn message(&self) -> Option<&str> {
        ResponseMessage::message(&self.response)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.response.refusal()
    }

    fn envelope(payload: &[u8]) -> Option<Self> {
        let response = ResponseMessage::envelope(payload)?;
        Some(Self { json: payload.into(), response })
    }

    fn into_event(self) -> Result<Self, Self> {
        Ok(self)
    }

    fn into_reply(self) -> Result<Self, Self> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use kakehi_channel::ErrorKind;

    use super::*;

    #[test]
    fn a_content_nested_too_deeply_is_refused_as_a_whole() {
        let read = |content: &str| {
            let head = r#"{"id":"","version":0,"status":"OK","message":"","content":"#;
            Verbatim::default().decode(format!("{head}{content}}}").as_bytes())
        };
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for content in [nested(126), r#"{"a":{"b":[1,-1,0.5,true,null,"c"]}}"#.to_owned()] {
            assert_eq!(read(&content).unwrap().content(), Some(&*content));
        }
        for content in [nested(127), format!("{{\"a\":{}}}", nested(200))] {
            assert_eq!(read(&content).unwrap_err().kind(), ErrorKind::Malformed, "{content}");
        }
    }
}
