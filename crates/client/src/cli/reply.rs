//! What is answered, as it came.

use std::borrow::Cow;

use kakehi_channel::{Buffer, Decode, Encode, Error, Format, Frame, Json};
use kakehi_client::{Refusal, Reply, Response, Status};
use serde_json::Value;

use super::{
    content::{Content, Tag},
    question::Question,
};

/// The wire, of whose responses the JSON is kept.
#[derive(Debug, Default)]
pub(crate) struct Verbatim(Json);

/// A response, and the JSON that it came in: fields that are not known here are in that.
#[derive(Debug)]
pub(crate) struct Answer {
    json: Box<[u8]>,
    pub(crate) response: Response<Content>,
}

impl Answer {
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Verbatim::default().decode(text.as_bytes()).unwrap()
    }

    pub(crate) fn json(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.json)
    }

    /// What it says of a line of a job, if it is of one.
    pub(crate) fn line(&self) -> Option<&Tag> {
        match self.response.content.as_ref()? {
            Content::Line(tag) => Some(tag),
            Content::Other => None,
        }
    }

    /// All of its content.
    pub(crate) fn content(&self) -> Option<Value> {
        self.response.content.as_ref()?;
        let whole: Response = serde_json::from_slice(&self.json).ok()?;
        whole.content
    }

    /// How the job ended, if this is about a job: as a shell would say it.
    pub(crate) fn job_code(&self) -> Option<u8> {
        let content = self.content()?;
        let code = content.get("exit_code").and_then(Value::as_u64);
        let killed = || {
            content.get("signal").and_then(Value::as_u64).and_then(|signal| signal.checked_add(128))
        };
        u8::try_from(code.or_else(killed)?).ok()
    }
}

impl Format for Verbatim {
    fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, Error> {
        self.0.find(data, max)
    }
}

impl Decode<Answer> for Verbatim {
    fn decode(&mut self, payload: &[u8]) -> Result<Answer, Error> {
        let response = self.0.decode(payload)?;
        Ok(Answer { json: payload.into(), response })
    }
}

impl Encode<Question> for Verbatim {
    fn encode(&mut self, question: &Question, out: &mut Buffer) -> Result<(), Error> {
        self.0.encode(question, out)
    }
}

impl Reply for Answer {
    fn status(&self) -> Option<Status> {
        self.response.status()
    }

    fn id(&self) -> Option<&str> {
        Reply::id(&self.response)
    }

    fn is_keep_alive(&self) -> bool {
        self.response.is_keep_alive()
    }

    fn message(&self) -> Option<&str> {
        Reply::message(&self.response)
    }

    fn refusal(&self) -> Option<Refusal> {
        self.response.refusal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_there_as_a_whole_or_its_response_is_refused() {
        let read = |content: &str| {
            let head = r#"{"id":"","version":0,"status":"OK","message":"","content":"#;
            Verbatim::default().decode(format!("{head}{content}}}").as_bytes())
        };
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for content in [nested(126), r#"{"a":{"b":[1,-1,0.5,true,null,"c"]}}"#.to_owned()] {
            assert_eq!(read(&content).unwrap().content().unwrap().to_string(), content);
        }
        for content in [nested(127), format!("{{\"a\":{}}}", nested(200))] {
            assert!(read(&content).unwrap_err().is_malformed(), "{content}");
        }
    }
}
