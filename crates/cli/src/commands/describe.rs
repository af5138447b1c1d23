//! A server's description, for a person and for a program.

use std::slice;

use kakehi_command::{CommandDescription, Description};
use serde::Serialize;

use super::{UNDESCRIBED, find, flags};
use crate::{
    escape::{escape, escape_json, escape_lines},
    failure::Failure,
    view::{Format, Style, table, yaml},
};

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
    if command.read_only {
        text.push_str("\nIt changes nothing.\n");
    }
    if !command.allowed {
        text.push_str("\nYou may not run it.\n");
    }
    Ok(escape_lines(&text))
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
        let may = if command.allowed { "yes" } else { "no" };
        let changes = if command.read_only { "no" } else { "yes" };
        [&command.name, may, changes, about].map(str::to_owned).to_vec()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text + &table(&["COMMAND", "ALLOWED", "CHANGES", "ABOUT"], &rows, style)
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
