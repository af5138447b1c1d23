//! The request on the wire.

use std::{collections::BTreeMap, env, time::Duration};

use kakehi_channel::{TraceContext, VERSION};
use kakehi_client::{RequestMessage, Timeouts, unique_id};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

/// A request: the given fields, unchanged, and the fields that are added where they are absent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Question {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(flatten)]
    given: BTreeMap<String, Box<RawValue>>,
    /// The command for a server that does not know this one.
    #[serde(skip)]
    other: Option<Box<RawValue>>,
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
            traceparent: None,
            tracestate: None,
            given: BTreeMap::new(),
            other: None,
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
        let arguments = json!({ "id": id });
        Self::command(&json!({ "cancel": arguments })).or(&json!({ "kakehi.cancel": arguments }))
    }

    /// Sets the command for a server that refuses the first one because it does not know it.
    pub(crate) fn or(self, command: &Value) -> Self {
        Self { other: RawValue::from_string(command.to_string()).ok(), ..self }
    }

    pub(crate) fn has_other(&self) -> bool {
        self.other.is_some()
    }

    /// The request with the other command, if it has one.
    pub(crate) fn other(mut self) -> Self {
        if let Some(command) = self.other.take() {
            self.given.insert("command".to_owned(), command);
        }
        self
    }

    /// Any request, written in JSON.
    ///
    /// # Errors
    /// Why the text is not a request.
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

    /// The same request for a run, which the user has confirmed.
    pub(crate) fn confirmed(mut self) -> Self {
        let confirmed = self.given.get("command").and_then(|command| confirmed(command));
        if let Some(command) = confirmed {
            self.given.insert("command".to_owned(), command);
        }
        self
    }

    /// Adds the trace that this process belongs to, unless the request has one.
    pub(crate) fn traced(self) -> Self {
        self.within(trace())
    }

    fn within(mut self, trace: Option<TraceContext>) -> Self {
        let is_given = |field| self.given.contains_key(field);
        if let Some(trace) = trace
            && !is_given("traceparent")
            && !is_given("tracestate")
        {
            self.traceparent = Some(trace.traceparent().to_owned());
            self.tracestate = trace.tracestate().map(str::to_owned);
        }
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn has_command(&self) -> bool {
        self.given.contains_key("command")
    }

    fn unless_given(&self, field: &str, clock: Option<Duration>) -> Option<u64> {
        let clock = clock.filter(|_| !self.given.contains_key(field))?;
        // Rounded up, because 0 means no limit.
        Some(u64::try_from(clock.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1))
    }
}

fn confirmed(command: &RawValue) -> Option<Box<RawValue>> {
    let mut command: Value = serde_json::from_str(command.get()).ok()?;
    for arguments in command.as_object_mut()?.values_mut().filter_map(Value::as_object_mut) {
        arguments.insert("confirmed".to_owned(), json!(true));
    }
    RawValue::from_string(command.to_string()).ok()
}

impl RequestMessage for Question {
    const SENDS_DEADLINE: bool = true;

    fn prepare(&mut self, clocks: Timeouts) {
        self.timeout_ms = self.unless_given("timeout_ms", clocks.timeout);
        self.deadline_ms = self.unless_given("deadline_ms", clocks.deadline);
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }
}

/// The trace that this process belongs to, by its environment.
pub(crate) fn trace() -> Option<TraceContext> {
    let state = env::var("TRACESTATE").ok();
    TraceContext::new(&env::var("TRACEPARENT").ok()?, state.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str, clocks: Timeouts) -> String {
        let mut question = Question::parse(text).unwrap();
        question.prepare(clocks);
        serde_json::to_string(&question).unwrap()
    }

    const NONE: Timeouts = Timeouts { timeout: None, deadline: None };

    #[test]
    fn given_fields_are_sent_unchanged() {
        let given = r#"{"id":"a","a_number":1.000000000000000000001,"command":{ "z":1, "a":[ 2 ]},"version":7}"#;
        assert_eq!(sent(given, NONE), given);
    }

    #[test]
    fn absent_fields_are_added() {
        let clocks = Timeouts { timeout: Some(Duration::from_micros(1)), deadline: None };
        let text = sent("{}", clocks);
        let fields: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(fields["version"], 0);
        assert_eq!(fields["timeout_ms"], 1);
        assert!(fields["id"].as_str().is_some_and(|id| !id.is_empty()));
        assert!(fields.get("deadline_ms").is_none() && fields.get("command").is_none());
    }

    #[test]
    fn given_timeouts_are_unchanged() {
        let given = r#"{"id":"a","deadline_ms":null,"timeout_ms":0,"version":0}"#;
        let clock = Some(Duration::from_secs(1));
        assert_eq!(sent(given, Timeouts { timeout: clock, deadline: clock }), given);
    }

    #[test]
    fn a_confirmed_request_differs_by_one_argument() {
        let run = Question::command(&json!({ "run": { "job": "a", "args": ["b"] } })).confirmed();
        let text = serde_json::to_string(&run).unwrap();
        let sent: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({ "run": { "job": "a", "args": ["b"], "confirmed": true } });
        assert_eq!(sent["command"], expected);
    }

    #[test]
    fn a_given_trace_is_unchanged() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = TraceContext::new(parent, Some("a=1"));
        for given in [
            format!(r#"{{"id":"a","traceparent":"{parent}","tracestate":"a=1","version":0}}"#),
            r#"{"id":"a","traceparent":null,"version":0}"#.to_owned(),
        ] {
            let question = Question::parse(&given).unwrap().within(trace.clone());
            assert_eq!(serde_json::to_string(&question).unwrap(), given);
        }
        let question = Question::parse(r#"{"id":"a"}"#).unwrap().within(trace);
        let text = serde_json::to_string(&question).unwrap();
        assert!(text.contains(parent) && text.contains(r#""tracestate":"a=1""#), "{text}");
    }

    #[test]
    fn an_invalid_request_is_refused_with_a_reason() {
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
