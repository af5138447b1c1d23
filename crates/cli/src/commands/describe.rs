//! A server's description, for a person and for a program.

use std::slice;

use kakehi_command::{CommandDescription, Description};
use serde::Serialize;

use super::{UNDESCRIBED, find, flags, outline::outline, schema::Schema};
use crate::{
    escape::{escape, escape_json, escape_lines},
    failure::Failure,
    text::shorten,
    view::{Format, Style, table, yaml},
};

/// The widest summary of arguments in a table, in columns. `-o wide` shows all.
const WIDEST: usize = 48;

/// The output of `kakehi describe`: all commands, or one.
pub(crate) fn describe(
    description: &Description,
    name: Option<&str>,
    format: Format,
    style: Style,
) -> Result<String, Failure> {
    let Some(name) = name else {
        return match format {
            Format::Name => Ok(names(&description.commands)),
            Format::Table | Format::Wide => Ok(overview(description, style)),
            format => data(description, format),
        };
    };
    let command = find(description, name)?;
    match format {
        Format::Name => return Ok(names(slice::from_ref(command))),
        Format::Table | Format::Wide => {}
        format => return data(command, format),
    }
    let mut text = flags::command(command).render_long_help().to_string();
    for (label, schema) in [
        ("Returns", &command.schemas.reply),
        ("Progress", &command.schemas.progress),
        ("Details of an error", &command.schemas.fault),
    ] {
        let schema = schema.as_ref().map(Schema::root).filter(|schema| !schema.is("null"));
        if let Some(schema) = schema {
            text.extend(["\n", label, ": ", &outline(schema), "\n"]);
        }
    }
    for note in notes(command) {
        text.extend(["\n", note, ".\n"]);
    }
    Ok(escape_lines(&text))
}

/// The rights of the caller and the effect of the command.
fn notes(command: &CommandDescription) -> impl Iterator<Item = &'static str> {
    let denied = (!command.allowed).then_some("You may not call it");
    denied.into_iter().chain(command.read_only.then_some("Changes nothing"))
}

fn overview(description: &Description, style: Style) -> String {
    let Description { name, version, commands } = description;
    let mut text = format!("{} {}", escape(name), escape(version)).trim().to_owned();
    if !text.is_empty() {
        text += "\n\n";
    }
    if commands.is_empty() {
        return text + UNDESCRIBED + "; send them by `kakehi send`\n";
    }
    let rows = commands.iter().map(|command| {
        let about = command.text.lines().next().unwrap_or_default();
        let rights = match (command.allowed, command.read_only) {
            (false, _) => "denied",
            (true, true) => "read",
            (true, false) => "change",
        };
        let arguments = flags::summary(command);
        let arguments = match (arguments.as_str(), style.format) {
            ("", _) => "-".into(),
            (arguments, Format::Table) => shorten(arguments, WIDEST).into_owned(),
            _ => arguments,
        };
        [command.name.clone(), rights.to_owned(), about.to_owned(), arguments].to_vec()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text += &table(&["COMMAND", "ACCESS", "ABOUT", "ARGUMENTS"], &rows, style);
    text + "\n`kakehi describe COMMAND` shows one in full; `kakehi call COMMAND ARGUMENTS` calls it.\n"
}

fn names(commands: &[CommandDescription]) -> String {
    let mut text = String::new();
    for command in commands {
        text.push_str(&escape(&command.name));
        text.push('\n');
    }
    text
}

/// JSON or YAML.
fn data(described: &impl Serialize, format: Format) -> Result<String, Failure> {
    let failed = |error: serde_json::Error| {
        Failure::usage("the description cannot be shown", &error.to_string(), "see `kakehi send`")
    };
    if format == Format::Yaml {
        return Ok(yaml(&serde_json::to_value(described).map_err(failed)?));
    }
    let text = serde_json::to_string(described).map_err(failed)?;
    Ok(format!("{}\n", escape_json(&text)))
}
