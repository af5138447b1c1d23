//! The commands that a server describes: shown, and called with checked arguments.

mod check;
mod describe;
mod flags;
mod outline;
mod schema;
mod value;

use std::ffi::OsString;

use kakehi_command::{CommandDescription, Description};
use serde_json::{Value, json};

pub(crate) use self::{describe::describe, flags::command};
use super::{failure::Failure, question::Question, reply::Answer};

/// The command that every server answers.
pub(crate) const DESCRIBE: &str = "kakehi.describe";
const UNDESCRIBED: &str = "the server does not describe its commands";
const SEND: &str = "send the command as JSON: `kakehi send '{\"command\": ...}'`";

/// Says what is wrong with a value, and where.
#[cfg(feature = "mcp")]
pub(crate) fn check_against(schema: &Value, value: &Value) -> Result<(), String> {
    check::check(schema::Schema::root(schema), value)
}

/// The request for the server's description.
pub(crate) fn question() -> Question {
    Question::command(&json!(DESCRIBE))
}

/// Why a command line ends before a request is sent.
pub(crate) enum Unsent {
    Failure(Failure),
    /// The arguments do not fit, or ask for help.
    Arguments(clap::Error),
}

/// The request that the words of `kakehi call` make: a command's name and its flags.
pub(crate) fn call(description: &Description, words: &[OsString]) -> Result<Question, Unsent> {
    let (name, rest) = words.split_first().ok_or_else(|| Unsent::Failure(no_name()))?;
    let name = name.to_string_lossy();
    let command = find(description, &name).map_err(Unsent::Failure)?;
    let arguments = flags::read(command, rest).map_err(Unsent::Arguments)?;
    Ok(Question::command(&match arguments {
        Some(arguments) => json!({ &*name: arguments }),
        None => Value::from(&*name),
    }))
}

/// The description in a server's answer.
pub(crate) fn description(answer: &Answer) -> Result<Description, Failure> {
    let content = answer.content().unwrap_or("null");
    serde_json::from_str(content)
        .map_err(|error| Failure::usage(UNDESCRIBED, &error.to_string(), SEND))
}

/// The same failure, unless it means that the server describes no commands.
pub(crate) fn undescribed(failure: Failure) -> Failure {
    if !matches!(failure.word, "unsupported" | "malformed") {
        return failure;
    }
    Failure { what: UNDESCRIBED.to_owned(), remedy: SEND.to_owned(), ..failure }
}

fn find<'d>(description: &'d Description, name: &str) -> Result<&'d CommandDescription, Failure> {
    let found = description.commands.iter().find(|command| command.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> =
            description.commands.iter().map(|command| command.name.as_str()).collect();
        let what = format!("there is no command `{name}`");
        if names.is_empty() {
            return Failure::usage(&what, UNDESCRIBED, SEND);
        }
        let why = format!("the server has {}", names.join(", "));
        Failure::usage(&what, &why, "list the commands with `kakehi describe`")
    })
}

fn no_name() -> Failure {
    let remedy = "list the commands with `kakehi describe`";
    Failure::usage("no command to call", "its name is missing", remedy)
}
