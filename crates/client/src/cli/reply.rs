//! What is answered, as it came.

use kakehi_client::{Refusal, Reply, Response, Status};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, value::RawValue};

/// A response, and the JSON that it came in: fields that are not known here are in that.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) json: Box<RawValue>,
    pub(crate) response: Response,
}

impl Answer {
    pub(crate) fn content(&self) -> Option<&Value> {
        self.response.content.as_ref()
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

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let response = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        Ok(Self { json, response })
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
