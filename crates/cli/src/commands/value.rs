//! A value on the command line: JSON, or a bare text where the schema takes one.

use std::ffi::OsStr;

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
};
use serde_json::Value;

use super::{check::check, flags::one_line, schema::Schema};
use crate::escape::escape;

/// How deep alternatives are searched for one that takes a text.
const DEPTH: usize = 8;

/// Reads a value, and checks it by a schema.
#[derive(Clone, Debug)]
pub(super) struct Json {
    /// `None`: any JSON fits.
    schema: Option<Value>,
    /// The schema of one value of a list.
    item: Option<Value>,
}

impl Json {
    pub(super) fn unknown() -> Self {
        Self { schema: None, item: None }
    }

    /// A value that fits `part` of the document `root`.
    pub(super) fn of(root: &Value, part: &Value) -> Self {
        Self { schema: Some(with_definitions(root, part)), item: None }
    }

    /// An item of a list, or a JSON array of all of them.
    pub(super) fn list(root: &Value, list: &Value, item: &Value) -> Self {
        Self { item: Some(with_definitions(root, item)), ..Self::of(root, list) }
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        if let Some(item) = &self.item {
            let list = serde_json::from_str(text).ok().filter(Value::is_array);
            let item = Schema::root(item);
            if list.is_none() && is_text(item) {
                return check(item, &text.into()).map(|()| text.into());
            }
            if list.is_none() {
                return read(item, text);
            }
        }
        match &self.schema {
            Some(schema) => read(Schema::root(schema), text),
            None => serde_json::from_str(text).map_err(|error| format!("not JSON: {error}")),
        }
    }
}

fn read(schema: Schema<'_>, text: &str) -> Result<Value, String> {
    let bare = || Value::from(text);
    // A number is a text too.
    if is_text(schema) && !text.starts_with('"') {
        return check(schema, &bare()).map(|()| bare());
    }
    match serde_json::from_str(text) {
        Ok(value) => match check(schema, &value) {
            Err(_) if takes_text(schema, DEPTH) && check(schema, &bare()).is_ok() => Ok(bare()),
            checked => checked.map(|()| value),
        },
        Err(_) if takes_text(schema, DEPTH) && !text.starts_with(['{', '[', '"']) => {
            check(schema, &bare()).map(|()| bare())
        }
        Err(_) if schema.is("integer") => Err("not an integer".to_owned()),
        Err(_) if schema.is("number") => Err("not a number".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// Whether the value is a text of any form.
fn is_text(schema: Schema<'_>) -> bool {
    schema.is("string") && schema.words().is_none()
}

/// Whether a text can fit, such as the name of a variant.
fn takes_text(schema: Schema<'_>, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    schema.is("string")
        || schema.words().is_some()
        || schema.get("const").is_some_and(Value::is_string)
        || schema.alternatives().any(|other| takes_text(other, depth))
}

/// The choices of an argument, with their descriptions.
pub(super) fn choices(words: &[(&str, &str)]) -> Vec<PossibleValue> {
    let choice = |(word, about): &(&str, &str)| {
        let value = PossibleValue::new(escape(word).into_owned()).alias((*word).to_owned());
        if about.is_empty() { value } else { value.help(one_line(about)) }
    };
    words.iter().map(choice).collect()
}

/// A part of a document, with the definitions that it may refer to.
fn with_definitions(root: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    if let (Some(object), Some(definitions)) = (part.as_object_mut(), root.get("$defs")) {
        object.entry("$defs").or_insert_with(|| definitions.clone());
    }
    part
}

impl TypedValueParser for Json {
    type Value = Value;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Value, Error> {
        let json = self.clone();
        let read = move |text: &str| json.read(text);
        TypedValueParser::parse_ref(&read, command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let schema = self.item.as_ref().or(self.schema.as_ref())?;
        let values = choices(&Schema::root(schema).words()?);
        Some(Box::new(values.into_iter()))
    }
}
