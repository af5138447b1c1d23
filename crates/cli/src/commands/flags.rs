//! A command's flags, made of the JSON Schema of its arguments.

use std::ffi::OsString;

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, Error,
    builder::PossibleValuesParser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use kakehi_command::CommandDescription;
use serde_json::{Map, Value};

use super::{
    check::check,
    outline::{outline, range},
    schema::Schema,
    value::{Json, choices},
};
use crate::{
    args::Arguments,
    escape::{escape, escape_lines},
};

/// The name of the single argument of a command whose arguments are not an object.
const WHOLE: &str = "ARGUMENTS";
/// The help of an argument that must be JSON, and nothing more is known.
const UNKNOWN: &str = "The arguments as JSON; the server has no schema of them";

/// The arguments that `words` give, checked. `None`: there are none.
pub(super) fn read(
    description: &CommandDescription,
    words: &[OsString],
) -> Result<Option<Value>, Error> {
    let mut command = command(description);
    let schema = description.schemas.arguments.as_ref().map(Schema::root);
    if let (Some(schema), [word]) = (schema, words)
        && let (Shape::Fields, Some(text)) = (shape(schema), word.to_str())
        && text.trim_start().starts_with('{')
    {
        return object(schema, text)
            .map(Some)
            .map_err(|why| command.error(ErrorKind::ValueValidation, why));
    }
    let program = OsString::from("kakehi");
    let matches = command.try_get_matches_from_mut(std::iter::once(&program).chain(words));
    let matches = matches.map_err(|error| with_place(error, &description.name))?;
    let whole = || matches.get_one::<Value>(WHOLE).cloned();
    let Some(schema) = schema else { return Ok(whole()) };
    let arguments = match shape(schema) {
        Shape::Nothing => return Ok(None),
        Shape::Whole => return Ok(whole()),
        Shape::Fields => Value::Object(fields(schema, &matches)),
    };
    check(schema, &arguments).map_err(|why| command.error(ErrorKind::ValueValidation, why))?;
    Ok(Some(arguments))
}

/// Adds the right place to an error about an option of the program itself.
fn with_place(mut error: Error, name: &str) -> Error {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let program = Arguments::command();
    let is_own = |arg: &Arg| arg.get_long().is_some_and(|long| *given == format!("--{long}"));
    if error.kind() == ErrorKind::UnknownArgument && program.get_arguments().any(is_own) {
        let name = escape(name);
        let tip =
            format!("this option stands before the command: `kakehi call {given} ... {name}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// All arguments as one JSON object. A server ignores fields that it does not know, so a misspelt
/// one must be found here.
fn object(schema: Schema<'_>, text: &str) -> Result<Value, String> {
    let arguments: Value =
        serde_json::from_str(text).map_err(|error| format!("the argument is not JSON: {error}"))?;
    check(schema, &arguments)?;
    let known = schema.properties();
    let is_open = schema.get("additionalProperties").is_some();
    let given = arguments.as_object().into_iter().flatten().map(|(name, _)| name);
    for name in given.filter(|_| !is_open) {
        if !known.iter().any(|(known, ..)| known == name) {
            let form = outline(schema);
            return Err(format!("there is no field `{name}`; the arguments are {form}"));
        }
    }
    Ok(arguments)
}

/// The command as clap knows it, without a character that could harm a terminal: all texts are
/// the server's.
pub(crate) fn command(description: &CommandDescription) -> Command {
    let CommandDescription { name, text, .. } = description;
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let name_in_usage = escape(name).into_owned();
    let mut command = Command::new(name_in_usage.clone())
        .bin_name(format!("kakehi call {name_in_usage}"))
        .about(one_line(first))
        .disable_version_flag(true);
    if !rest.is_empty() {
        command = command.long_about(escape_lines(text));
    }
    let Some(root) = &description.schemas.arguments else {
        return command.arg(Arg::new(WHOLE).help(UNKNOWN).value_parser(Json::unknown()));
    };
    let schema = Schema::root(root);
    match shape(schema) {
        Shape::Nothing => command,
        Shape::Whole => {
            let help = match schema.words() {
                Some(_) => String::new(),
                None => format!("The arguments: {}", outline(schema)),
            };
            let value =
                Arg::new(WHOLE).help(help).required(true).value_parser(Json::of(root, root));
            command.arg(value.allow_negative_numbers(true))
        }
        Shape::Fields => {
            let properties = properties(schema);
            let names: Vec<_> = properties.iter().map(|(name, ..)| *name).collect();
            command = command.disable_help_flag(names.contains(&"help"));
            let flags: Vec<_> = properties
                .into_iter()
                .map(|(name, is_required, schema)| {
                    flag(root, name, &long(name, &names), schema).required(is_required)
                })
                .collect();
            command.override_usage(usage(&name_in_usage, &flags)).args(flags)
        }
    }
}

/// How to call the command: with flags, or with one JSON object.
fn usage(name: &str, flags: &[Arg]) -> String {
    let call = format!("kakehi call {name}");
    let required = flags.iter().filter(|flag| flag.is_required_set());
    let required = required.map(|flag| written(flag, ["<", ">"]));
    let call_with: Vec<_> = std::iter::once(call.clone()).chain(required).collect();
    let call_with = call_with.join(" ");
    let more = if flags.iter().all(Arg::is_required_set) { "" } else { " [OPTIONS]" };
    format!("{call_with}{more}\n       {call} '{{...}}'    # the arguments as one JSON object")
}

/// The arguments on one line, optional ones in brackets.
pub(super) fn summary(description: &CommandDescription) -> String {
    let arguments = description.schemas.arguments.as_ref().map(Schema::root);
    if let Some((Shape::Whole, schema)) = arguments.map(|schema| (shape(schema), schema)) {
        return match schema.words() {
            Some(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"),
            None => outline(schema),
        };
    }
    let command = command(description);
    let flags = command.get_arguments().filter(|flag| flag.get_id() != "help");
    let words = flags.map(|flag| {
        let name = written(flag, ["", ""]);
        if flag.is_required_set() { name } else { format!("[{name}]") }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the flag in the form of the command line, with the name of its value between `around`.
fn written(flag: &Arg, around: [&str; 2]) -> String {
    let [before, after] = around;
    match (flag.get_long(), flag.get_value_names().unwrap_or_default()) {
        (None, _) => "JSON".to_owned(),
        (Some(long), [value, ..]) if !flag.is_require_equals_set() => {
            format!("--{long} {before}{value}{after}")
        }
        (Some(long), _) => format!("--{long}"),
    }
}

/// A text in one line, escaped.
pub(super) fn one_line(text: &str) -> String {
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
    let (text, default) = (schema.text(), schema.default());
    let schema = schema.present();
    let element = items(schema);
    let mut notes = bounds(schema);
    notes.extend(element.map(bounds).into_iter().flatten());
    if let (Kind::Json, None) = (kind(schema), element) {
        notes.push(format!("form: {}", outline(schema)));
    }
    notes.extend(default.and_then(|default| match default {
        Value::String(default) => Some(format!("default: {default}")),
        Value::Array(items) if items.is_empty() => None,
        default => Some(format!("default: {default}")),
    }));
    let notes: Vec<_> = notes.iter().map(|note| format!("[{note}]")).collect();
    let notes = notes.join(" ");
    let argument = Arg::new(name.to_owned()).long(long.to_owned());
    let argument = if long == name { argument } else { argument.alias(name.to_owned()) };
    match element {
        Some(items) => {
            let help = format!("{text} (repeat for each value, or give a JSON array) {notes}");
            let help = one_line(help.trim());
            let array = Json::list(root, schema.value, items.value);
            typed(root, argument, items, help).value_parser(array).action(ArgAction::Append)
        }
        None => typed(root, argument, schema, one_line(format!("{text} {notes}").trim())),
    }
}

/// The limits of a value, apart from its type, its choices and its range.
fn bounds(schema: Schema<'_>) -> Vec<String> {
    let number = |key: &str| schema.get(key).filter(|bound| bound.is_number());
    let mut notes = vec![];
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        notes.push(format!("pattern: {pattern}"));
    }
    for (min, max, unit) in
        [("minLength", "maxLength", "characters"), ("minItems", "maxItems", "values")]
    {
        match (number(min), number(max)) {
            (Some(min), Some(max)) => notes.push(format!("{min} to {max} {unit}")),
            (Some(min), None) => notes.push(format!("at least {min} {unit}")),
            (None, Some(max)) => notes.push(format!("at most {max} {unit}")),
            (None, None) => {}
        }
    }
    for (key, words) in [
        ("exclusiveMinimum", "more than"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
    ] {
        notes.extend(number(key).map(|bound| format!("{words} {bound}")));
    }
    notes
}

fn typed(root: &Value, argument: Arg, schema: Schema<'_>, help: String) -> Arg {
    let argument = argument.help(help);
    match kind(schema) {
        Kind::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .value_parser(["true", "false"]),
        Kind::Text => argument.value_name("TEXT").allow_hyphen_values(true),
        Kind::Word(words) => {
            argument.value_name("CHOICE").value_parser(PossibleValuesParser::new(choices(&words)))
        }
        Kind::Number => argument
            .value_name(one_line(&range(schema)))
            .allow_negative_numbers(true)
            .value_parser(Json::of(root, schema.value)),
        Kind::Json => argument.value_name("JSON").value_parser(Json::of(root, schema.value)),
    }
}

fn fields(schema: Schema<'_>, matches: &ArgMatches) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, _, schema) in properties(schema) {
        let schema = schema.present();
        let is_list = items(schema).is_some();
        let mut values = values(matches, name, &kind(schema), is_list);
        let value = match values.as_slice() {
            [] => continue,
            // A JSON array is the list itself.
            [Value::Array(_)] => values.remove(0),
            _ if is_list => Value::Array(values),
            _ => values.remove(0),
        };
        fields.insert(name.to_owned(), value);
    }
    fields
}

/// The values of a flag; none if it is not given.
fn values(matches: &ArgMatches, name: &str, kind: &Kind<'_>, is_list: bool) -> Vec<Value> {
    let texts = || matches.get_many::<String>(name).into_iter().flatten();
    match kind {
        Kind::Switch => texts().map(|value| Value::Bool(value == "true")).collect(),
        Kind::Text | Kind::Word(_) if !is_list => {
            texts().map(|value| Value::String(value.clone())).collect()
        }
        _ => matches.get_many::<Value>(name).into_iter().flatten().cloned().collect(),
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
