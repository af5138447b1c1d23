//! The arguments of a job: patterns, or tables that say more.

use toml::de::DeValue;

use super::reader::{Reader, Value};
use crate::jobs::job::{Argument, Pattern};

const KEYS: &str = "name, pattern, choices, required, default, secret";

/// Reads `args` of a job.
pub(super) fn read(reader: &mut Reader, key: &str, value: &Value) -> Vec<Argument> {
    let DeValue::Array(values) = value.get_ref() else {
        reader.expected(key, value, "an array of regular expressions or tables");
        return vec![];
    };
    let mut arguments: Vec<Argument> = vec![];
    for (index, value) in values.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let argument = match value.get_ref() {
            DeValue::Table(_) => table(reader, &key, value),
            _ => pattern(reader, &key, value).map(Argument::new),
        };
        let Some(argument) = argument else { continue };
        let always_given = |before: &Argument| before.required || before.default.is_some();
        if (argument.required || argument.default.is_some()) && !arguments.iter().all(always_given)
        {
            let why =
                "an argument before it may be left out: give that one `required` or `default`";
            reader.problem(&value.span(), &format!("{key}: {why}"));
        }
        arguments.push(argument);
    }
    arguments
}

fn table(reader: &mut Reader, key: &str, value: &Value) -> Option<Argument> {
    let table = reader.table(key, value, "a table with `pattern` or `choices`")?;
    let (mut expression, mut choices) = (None, None);
    let (mut name, mut required, mut default, mut secret) = (None, false, None, false);
    for (inner, value) in table {
        let (span, inner) = (inner.span(), inner.get_ref().as_ref());
        let path = format!("{key}.{inner}");
        match inner {
            "name" => name = reader.string(&path, value, "a name").map(ToOwned::to_owned),
            "pattern" => expression = pattern(reader, &path, value),
            "choices" => {
                let strings = reader.strings(&path, value, "an array of values");
                choices = Some(strings.into_iter().map(|(text, _)| text.to_owned()).collect());
            }
            "required" => required = reader.boolean(&path, value),
            "default" => default = reader.string(&path, value, "a text").map(ToOwned::to_owned),
            "secret" => secret = reader.boolean(&path, value),
            _ => {
                let text = format!("{path}: unknown key, expected one of {KEYS}");
                reader.problem(&span, &text);
            }
        }
    }
    let choices: Vec<String> = choices.unwrap_or_default();
    let pattern = match (expression, choices.is_empty()) {
        (Some(expression), true) => Ok(expression),
        (None, false) => Pattern::of_choices(&choices),
        _ => Err("expected either `pattern` or `choices`".to_owned()),
    };
    let pattern = pattern.map_err(|why| reader.problem(&value.span(), &format!("{key}: {why}")));
    let pattern = pattern.ok()?;
    if default.as_ref().is_some_and(|default| !pattern.matches(default)) {
        reader.problem(&value.span(), &format!("{key}.default: expected an allowed value"));
    }
    Some(Argument { name, pattern, choices, required, default, secret })
}

fn pattern(reader: &mut Reader, key: &str, value: &Value) -> Option<Pattern> {
    let text = reader.string(key, value, "a string")?;
    let pattern = Pattern::new(text).map_err(|error| {
        let text = format!("{key}: expected a regular expression, found {text:?}: {error}");
        reader.problem(&value.span(), &text);
    });
    pattern.ok()
}
