//! What is asked, as it goes on the wire.

use std::{collections::BTreeMap, time::Duration};

use kakehi_channel::VERSION;
use kakehi_client::{Call, Clocks, unique_id};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

/// How much longer than this client the server is to wait for the deadline.
const SLACK: Duration = Duration::from_millis(500);

/// A request: what was given, word for word, and what is filled in where that says nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Question {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(flatten)]
    given: BTreeMap<String, Box<RawValue>>,
}

impl Question {
    /// A request without a command.
    pub(crate) fn empty() -> Self {
        let id = unique_id();
        Self {
            id,
            version: Some(VERSION),
            timeout_ms: None,
            deadline_ms: None,
            given: BTreeMap::new(),
        }
    }

    /// A request for `command`.
    pub(crate) fn command(command: &Value) -> Self {
        // A value is always JSON.
        let command = RawValue::from_string(command.to_string()).ok();
        let given = command.map(|command| ("command".to_owned(), command)).into_iter().collect();
        Self { given, ..Self::empty() }
    }

    /// A request to cancel the one with this id.
    pub(crate) fn cancel(id: &str) -> Self {
        Self::command(&json!({ "cancel": { "id": id } }))
    }

    /// Any request, written in JSON.
    ///
    /// # Errors
    /// Why it is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut given: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let id = match given.remove("id") {
            None => unique_id(),
            Some(id) => {
                serde_json::from_str(id.get()).map_err(|_| "`id` is not a string".to_owned())?
            }
        };
        let version = (!given.contains_key("version")).then_some(VERSION);
        Ok(Self { id, version, given, ..Self::empty() })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    fn unless_given(&self, field: &str, clock: Option<Duration>) -> Option<u64> {
        let clock = clock.filter(|_| !self.given.contains_key(field))?;
        // Rounded up: 0 on the wire is "without limit".
        Some(u64::try_from(clock.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1))
    }
}

impl Call for Question {
    fn prepare(&mut self, clocks: Clocks) {
        self.timeout_ms = self.unless_given("timeout_ms", clocks.timeout);
        // The server's clock is only for clients that cannot close the connection any more: with
        // the same time on both, chance would choose between its ERROR and our own timeout.
        let deadline = clocks.deadline.map(|deadline| deadline.saturating_add(SLACK));
        self.deadline_ms = self.unless_given("deadline_ms", deadline);
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str, clocks: Clocks) -> String {
        let mut question = Question::parse(text).unwrap();
        question.prepare(clocks);
        serde_json::to_string(&question).unwrap()
    }

    const NONE: Clocks = Clocks { timeout: None, deadline: None };

    #[test]
    fn what_is_given_goes_out_word_for_word() {
        let given = r#"{"id":"a","a_number":1.000000000000000000001,"command":{ "z":1, "a":[ 2 ]},"version":7}"#;
        assert_eq!(sent(given, NONE), given);
    }

    #[test]
    fn what_is_absent_is_filled_in() {
        let clocks = Clocks { timeout: Some(Duration::from_micros(1)), deadline: None };
        let text = sent("{}", clocks);
        let fields: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(fields["version"], 0);
        assert_eq!(fields["timeout_ms"], 1);
        assert!(fields["id"].as_str().is_some_and(|id| !id.is_empty()));
        assert!(fields.get("deadline_ms").is_none() && fields.get("command").is_none());
    }

    #[test]
    fn clocks_that_are_given_are_left_alone() {
        let given = r#"{"id":"a","deadline_ms":null,"timeout_ms":0,"version":0}"#;
        let clock = Some(Duration::from_secs(1));
        assert_eq!(sent(given, Clocks { timeout: clock, deadline: clock }), given);
    }

    #[test]
    fn what_is_no_request_is_told_why() {
        for (text, why) in [
            ("", "not a JSON object: EOF"),
            ("[]", "not a JSON object: invalid type: sequence"),
            ("\"list\"", "not a JSON object: invalid type: string"),
            ("{\"command\":}", "not a JSON object: expected value"),
            ("{} {}", "not a JSON object: trailing characters"),
            ("{\"id\":7}", "`id` is not a string"),
        ] {
            let error = Question::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
