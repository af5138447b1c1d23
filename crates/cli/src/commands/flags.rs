//! A command's flags, made of the JSON Schema of its arguments.

use std::ffi::OsString;

use clap::{
    Arg, ArgAction, ArgMatches, Command, Error,
    builder::{PossibleValue, PossibleValuesParser},
    error::ErrorKind,
};
use kakehi_command::CommandDescription;
use serde_json::{Map, Value};

use super::{check::check, schema::Schema};
use crate::escape::{escape, escape_lines};

/// The name of the single argument of a command whose arguments are not an object.
const WHOLE: &str = "ARGUMENTS";

/// The arguments that `words` give, checked. `None`: there are none.
pub(super) fn read(
    description: &CommandDescription,
    words: &[OsString],
) -> Result<Option<Value>, Error> {
    let mut command = command(description);
    let program = OsString::from("kakehi");
    let matches = command.try_get_matches_from_mut(std::iter::once(&program).chain(words))?;
    let Some(root) = &description.schemas.arguments else {
        return Ok(matches.get_one::<Value>(WHOLE).cloned());
    };
    let schema = Schema::root(root);
    let arguments = match shape(schema) {
        Shape::Nothing => return Ok(None),
        Shape::Whole => match matches.get_one::<Value>(WHOLE) {
            Some(arguments) => arguments.clone(),
            None => return Ok(None),
        },
        Shape::Fields => Value::Object(fields(schema, &matches)),
    };
    check(schema, &arguments).map_err(|why| command.error(ErrorKind::ValueValidation, why))?;
    Ok(Some(arguments))
}

/// The command as clap knows it, without a character that could harm a terminal: all texts are
/// the server's.
pub(crate) fn command(description: &CommandDescription) -> Command {
    let CommandDescription { name, text, .. } = description;
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let name = escape(name).into_owned();
    let mut command = Command::new(name.clone())
        .bin_name(format!("kakehi call {name}"))
        .about(one_line(first))
        .disable_version_flag(true);
    if !rest.is_empty() {
        command = command.long_about(escape_lines(text));
    }
    let Some(root) = &description.schemas.arguments else {
        let help = "The arguments as JSON; the server tells no schema of them";
        return command.arg(json_argument(Arg::new(WHOLE).help(help), None));
    };
    let schema = Schema::root(root);
    match shape(schema) {
        Shape::Nothing => command,
        Shape::Whole => {
            let argument = Arg::new(WHOLE).help("The arguments as JSON").required(true);
            command.arg(json_argument(argument, Some(root)))
        }
        Shape::Fields => {
            let properties = properties(schema);
            let names: Vec<_> = properties.iter().map(|(name, ..)| *name).collect();
            command = command.disable_help_flag(names.contains(&"help"));
            command.args(properties.into_iter().map(|(name, is_required, schema)| {
                flag(root, name, &long(name, &names), schema).required(is_required)
            }))
        }
    }
}

/// A text in one line, escaped.
fn one_line(text: &str) -> String {
    escape(&text.replace('\n', " ")).into_owned()
}

/// The properties that can be flags. One whose name had to be escaped cannot: the name that is
/// shown would not be the one to write.
fn properties(schema: Schema<'_>) -> Vec<(&str, bool, Schema<'_>)> {
    let mut properties = schema.properties();
    properties
        .retain(|(name, ..)| !name.is_empty() && !name.starts_with('-') && escape(name) == *name);
    properties
}

/// The name of a flag: with hyphens, unless another property has that name.
fn long(name: &str, names: &[&str]) -> String {
    let long = name.replace('_', "-");
    let is_taken = names.iter().any(|other| *other != name && other.replace('_', "-") == long);
    if is_taken { name.to_owned() } else { long }
}

enum Shape {
    /// There are no arguments.
    Nothing,
    /// Each property is a flag.
    Fields,
    /// One value in JSON.
    Whole,
}

fn shape(schema: Schema<'_>) -> Shape {
    let is_plain = schema.alternatives().next().is_none() && schema.get("allOf").is_none();
    match () {
        () if schema.is("null") => Shape::Nothing,
        () if schema.is("object") && is_plain => Shape::Fields,
        () => Shape::Whole,
    }
}

/// How a value is written on the command line.
enum Kind<'s> {
    Switch,
    Text,
    Word(Vec<(&'s str, &'s str)>),
    Number,
    Json,
}

fn kind(schema: Schema<'_>) -> Kind<'_> {
    if let Some(words) = schema.words() {
        return Kind::Word(words);
    }
    match schema.types().as_slice() {
        ["boolean"] => Kind::Switch,
        ["string"] => Kind::Text,
        ["integer" | "number"] => Kind::Number,
        _ => Kind::Json,
    }
}

/// The items of an array that are written one a flag.
fn items(schema: Schema<'_>) -> Option<Schema<'_>> {
    let items = schema.is("array").then(|| schema.get("items"))??;
    let items = schema.of(items);
    (!matches!(kind(items), Kind::Json | Kind::Switch)).then_some(items)
}

fn flag(root: &Value, name: &str, long: &str, schema: Schema<'_>) -> Arg {
    let text = schema.text();
    let schema = schema.present();
    let help = match schema.default() {
        Some(Value::String(default)) => format!("{text} [default: {default}]"),
        Some(default) => format!("{text} [default: {default}]"),
        None => text.to_owned(),
    };
    let help = one_line(help.trim_start());
    let argument = Arg::new(name.to_owned()).long(long.to_owned());
    let argument = if long == name { argument } else { argument.alias(name.to_owned()) };
    match items(schema) {
        Some(items) => {
            let or = if matches!(kind(items), Kind::Text) { ", or give a JSON array" } else { "" };
            let help = format!("{help} (repeat for each value{or})");
            typed(root, argument, items, help.trim_start()).action(ArgAction::Append)
        }
        None => typed(root, argument, schema, &help),
    }
}

fn typed(root: &Value, argument: Arg, schema: Schema<'_>, help: &str) -> Arg {
    let range = || {
        let bound = |key| schema.get(key).map(Value::to_string).unwrap_or_default();
        let range = one_line(&format!("{}..{}", bound("minimum"), bound("maximum")));
        if range == ".." { "NUMBER".to_owned() } else { range }
    };
    match kind(schema) {
        Kind::Switch => argument
            .help(help.to_owned())
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .value_parser(["true", "false"]),
        Kind::Text => argument.help(help.to_owned()).value_name("TEXT").allow_hyphen_values(true),
        Kind::Word(words) => {
            let words = words.into_iter().map(|(word, about)| {
                let value = PossibleValue::new(escape(word).into_owned()).alias(word.to_owned());
                if about.is_empty() { value } else { value.help(one_line(about)) }
            });
            argument.help(help.to_owned()).value_parser(PossibleValuesParser::new(words))
        }
        Kind::Number => json_argument(
            argument.help(help.to_owned()).value_name(range()).allow_negative_numbers(true),
            Some(&with_definitions(root, schema.value)),
        ),
        Kind::Json => json_argument(
            argument.help(help.to_owned()).value_name("JSON"),
            Some(&with_definitions(root, schema.value)),
        ),
    }
}

/// A part of a document, with the definitions that it may refer to.
fn with_definitions(root: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    if let (Some(object), Some(definitions)) = (part.as_object_mut(), root.get("$defs")) {
        object.entry("$defs").or_insert_with(|| definitions.clone());
    }
    part
}

/// Takes JSON, and checks it if there is a schema.
fn json_argument(argument: Arg, schema: Option<&Value>) -> Arg {
    let schema = schema.cloned();
    argument.value_parser(move |text: &str| -> Result<Value, String> {
        let value = serde_json::from_str(text).map_err(|error| match &schema {
            Some(schema) if Schema::root(schema).is("integer") => "not an integer".to_owned(),
            Some(schema) if Schema::root(schema).is("number") => "not a number".to_owned(),
            _ => format!("not JSON: {error}"),
        })?;
        if let Some(schema) = &schema {
            check(Schema::root(schema), &value)?;
        }
        Ok(value)
    })
}

fn fields(schema: Schema<'_>, matches: &ArgMatches) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, _, schema) in properties(schema) {
        let schema = schema.present();
        let element = items(schema);
        let values = values(matches, name, &kind(element.unwrap_or(schema)));
        let value = match (values, element) {
            (values, Some(_)) if !values.is_empty() => list(values),
            (mut values, None) if !values.is_empty() => values.remove(0),
            _ => continue,
        };
        fields.insert(name.to_owned(), value);
    }
    fields
}

/// The values of a flag that can be repeated. An only text that is a JSON array is the list.
fn list(values: Vec<Value>) -> Value {
    let array = match values.as_slice() {
        [Value::String(text)] => serde_json::from_str(text).ok().filter(Value::is_array),
        _ => None,
    };
    array.unwrap_or(Value::Array(values))
}

/// The values of a flag; none if it is not given.
fn values(matches: &ArgMatches, name: &str, kind: &Kind<'_>) -> Vec<Value> {
    match kind {
        Kind::Number | Kind::Json => {
            matches.get_many::<Value>(name).into_iter().flatten().cloned().collect()
        }
        Kind::Switch => {
            let values = matches.get_many::<String>(name).into_iter().flatten();
            values.map(|value| Value::Bool(value == "true")).collect()
        }
        Kind::Text | Kind::Word(_) => {
            let values = matches.get_many::<String>(name).into_iter().flatten();
            values.map(|value| Value::String(value.clone())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use kakehi_command::Schemas;
    use serde_json::json;

    use super::*;

    fn described(properties: &[&str]) -> CommandDescription {
        let properties: Map<_, _> = properties
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "type": "string" })))
            .collect();
        let arguments = json!({ "type": "object", "properties": properties });
        let schemas = Schemas { arguments: Some(arguments), ..Schemas::default() };
        let (name, text) = ("name".to_owned(), String::new());
        CommandDescription { name, text, read_only: false, allowed: true, schemas }
    }

    #[test]
    fn each_property_is_a_flag_of_its_own_whatever_its_name() {
        let names =
            ["", "-", "--x", "a b", "é", "a_b", "a-b", "c_d", "help", "h", "=", "ARGUMENTS"];
        let described = described(&names);
        command(&described).debug_assert();
        let given = ["--a_b=1", "--a-b=2", "--c-d=3", "--help=4", "--a b=5"].map(OsString::from);
        let read = read(&described, &given).unwrap().unwrap();
        assert_eq!(read, json!({ "a_b": "1", "a-b": "2", "c_d": "3", "help": "4", "a b": "5" }));
    }

    #[test]
    fn nothing_of_a_hostile_description_reaches_a_terminal_unescaped() {
        let evil = "x\u{1b}]0;pwned\u{7}\u{202e}\u{9b}31m";
        let property = |more: Value| {
            let mut property = json!({ "description": evil, "title": evil, "default": evil });
            property.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            property
        };
        let of_evil = json!([{ "const": evil, "description": evil }, { "const": "b" }]);
        let arguments = json!({ "type": "object", "title": evil, "description": evil,
            "properties": {
                (evil): { "type": "string" },
                "text": property(json!({ "type": "string" })),
                "word": property(json!({ "oneOf": of_evil })),
                "enum": property(json!({ "enum": [evil, "b"] })),
                "list": property(json!({ "type": "array", "items": { "enum": [evil] } })),
                "number": property(json!({ "type": "integer", "minimum": evil })),
                "json": property(json!({ "type": "object" })),
            }, "required": ["number"] });
        let mut described = described(&[]);
        described.schemas.arguments = Some(arguments);
        (described.name, described.text) = (evil.to_owned(), format!("{evil}\n\n{evil}"));
        let is_safe = |text: &str| escape_lines(text) == text;
        let mut command = command(&described);
        command.clone().debug_assert();
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            assert!(is_safe(&help) && help.contains("\\x1b]0;pwned"), "{help:?}");
        }
        for words in [&["--enum=c"][..], &["--word=c"], &["--number=x"], &["--other"], &[]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            let shown = read(&described, &words).unwrap_err().render().to_string();
            assert!(is_safe(&shown), "{shown:?}");
        }
        let words = [format!("--enum={evil}"), "--number=1".to_owned()].map(OsString::from);
        assert_eq!(read(&described, &words).unwrap().unwrap()["enum"], evil);
    }
}
