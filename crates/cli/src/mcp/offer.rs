//! A tool, and the request that a call of it makes.

use std::sync::Arc;

use kakehi_command::{CommandDescription, Description};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::{
    jobs::Job,
    schema::{Root, empty},
    text,
};
use crate::{commands::check_against, question::Question};

/// The longest text of a description, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// The property for arguments that are not an object.
const ARGUMENTS: &str = "arguments";
/// The property for a reply that is not an object.
const RESULT: &str = "result";

/// A command or a job as a tool.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) tool: Tool,
    pub(super) read_only: bool,
    kind: Kind,
    reply: Option<Root>,
}

#[derive(Debug)]
enum Kind {
    /// A command without arguments.
    Bare(String),
    /// The arguments of the tool are those of the command.
    Fields(String),
    /// The arguments of the command are one property.
    Whole(String),
    Job(Job),
}

impl Offer {
    /// A command. `None`: it cannot be a tool, or the caller may not run it.
    pub(super) fn command(description: &CommandDescription) -> Option<Self> {
        let CommandDescription { name, text, read_only, allowed, schemas } = description;
        let is_reserved = name.starts_with("kakehi.");
        if !allowed || is_reserved || !is_tool_name(name) {
            return None;
        }
        let (kind, input) = match schemas.arguments.as_ref().map(|all| Root::of(all, ARGUMENTS)) {
            None => (Kind::Whole(name.clone()), unknown()),
            Some(Root::Nothing) => (Kind::Bare(name.clone()), empty()),
            Some(Root::Object(input)) => (Kind::Fields(name.clone()), input),
            Some(Root::Wrapped(input)) => (Kind::Whole(name.clone()), input),
        };
        let text = text::start(text, MAX_TEXT).to_owned();
        let reply = schemas.reply.as_ref().map(|reply| Root::of(reply, RESULT));
        Some(Self::new(name.clone(), text, input, *read_only, kind, reply))
    }

    /// A job of kakehid.
    pub(super) fn job(job: Job) -> Self {
        let text = text::start(&job.text(), MAX_TEXT).to_owned();
        let (name, input) = (job.tool_name(), job.schema());
        Self::new(name, text, input, false, Kind::Job(job), None)
    }

    fn new(
        name: String,
        text: String,
        input: Map<String, Value>,
        read_only: bool,
        kind: Kind,
        reply: Option<Root>,
    ) -> Self {
        let annotations = ToolAnnotations::new().read_only(read_only);
        let mut tool = Tool::new(name, text, Arc::new(input)).annotate(annotations);
        if let Some(Root::Object(output) | Root::Wrapped(output)) = &reply {
            tool.output_schema = Some(Arc::new(output.clone()));
        }
        Self { tool, read_only, kind, reply }
    }

    /// Returns the request for a call, or an error that describes the invalid argument.
    pub(super) fn question(&self, arguments: JsonObject) -> Result<Question, String> {
        let schema = Value::Object((*self.tool.input_schema).clone());
        let mut arguments = Value::Object(arguments);
        check_against(&schema, &arguments)?;
        known_fields(&schema, &arguments)?;
        let named = |name: &String, arguments: Value| json!({ name: arguments });
        Ok(Question::command(&match &self.kind {
            Kind::Bare(name) => Value::from(name.as_str()),
            Kind::Fields(name) => named(name, arguments),
            Kind::Whole(name) => match arguments.get_mut(ARGUMENTS) {
                None => Value::from(name.as_str()),
                Some(arguments) => named(name, arguments.take()),
            },
            Kind::Job(job) => job.command(&arguments)?,
        }))
    }

    /// The reply in the form of the output schema; `None` if it has none. An error says why the
    /// reply does not fit.
    pub(super) fn structured(&self, content: Option<Value>) -> Result<Option<Value>, String> {
        let (schema, value) = match (&self.reply, content) {
            (None | Some(Root::Nothing), content) => {
                return Ok(content.filter(|content| !content.is_null()).map(|content| {
                    if content.is_object() { content } else { json!({ RESULT: content }) }
                }));
            }
            (Some(Root::Object(schema)), content) => (schema, content.unwrap_or_default()),
            (Some(Root::Wrapped(schema)), content) => {
                (schema, json!({ RESULT: content.unwrap_or_default() }))
            }
        };
        check_against(&Value::Object(schema.clone()), &value)?;
        Ok(Some(value))
    }

    pub(super) fn is_job(&self) -> bool {
        matches!(self.kind, Kind::Job(_))
    }

    /// Its name as a tool.
    pub(super) fn name(&self) -> &str {
        &self.tool.name
    }
}

/// The tools of a server, sorted as its commands are.
pub(super) fn offers(description: &Description) -> Vec<Offer> {
    description.commands.iter().filter_map(Offer::command).collect()
}

/// The names that all clients take.
pub(super) fn is_tool_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The arguments of a command without a schema.
fn unknown() -> Map<String, Value> {
    let about = "The arguments as JSON; the server tells no schema of them.";
    let mut input = empty();
    input.insert("properties".to_owned(), json!({ ARGUMENTS: { "description": about } }));
    input
}

/// A server ignores fields that it does not know, so a misspelt one must be found here.
fn known_fields(schema: &Value, arguments: &Value) -> Result<(), String> {
    let is_open = ["additionalProperties", "patternProperties", "anyOf", "oneOf", "allOf"];
    if is_open.iter().any(|key| schema.get(key).is_some()) {
        return Ok(());
    }
    let known = schema.get("properties").and_then(Value::as_object);
    let given = arguments.as_object().into_iter().flatten().map(|(name, _)| name);
    for name in given {
        if known.is_none_or(|known| !known.contains_key(name)) {
            return Err(format!("there is no field `{name}`"));
        }
    }
    Ok(())
}
