//! The command line as the completion engine sees it.

use std::{os::unix::fs::FileTypeExt, path::Path, sync::Arc};

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, builder::PossibleValuesParser};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter,
};
use kakehi_command::{CommandDescription, Description};
use serde_json::Value;

use super::{ask::Asker, values};
use crate::{args::Arguments, commands};

/// The program's commands. `given` are the words before the one to complete.
pub(super) fn command(asker: &Arc<Asker>, given: Option<&ArgMatches>) -> Command {
    let root = Arguments::command();
    let given = given.and_then(ArgMatches::subcommand);
    if let Some(("call", _)) = given {
        let description = values::description(asker).unwrap_or_default();
        return calls(&root, &description);
    }
    let run = given.filter(|(name, _)| *name == "run").map(|(_, run)| run);
    // The engine offers a hidden command if nothing else begins with the same letters.
    let shown = root.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let shown = shown.map(|sub| {
        let name = sub.get_name().to_owned();
        if name == "context" {
            return sub.mut_subcommands(|sub| sub.mut_args(with_contexts));
        }
        sub.mut_args(|arg| with_values(asker, &name, run, arg))
    });
    base().args(root.get_arguments().cloned().map(with_sockets)).subcommands(shown)
}

fn base() -> Command {
    Command::new("kakehi").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true)
}

fn with_sockets(arg: Arg) -> Arg {
    let is_socket = |path: &Path| path.metadata().is_ok_and(|file| file.file_type().is_socket());
    match arg.get_id().as_str() {
        "context" => arg.add(values::contexts()),
        "socket" => arg.add(ArgValueCompleter::new(PathCompleter::any().filter(is_socket))),
        _ => arg,
    }
}

/// The names of contexts for `use`, `show` and `remove`.
fn with_contexts(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "name" | "names" => arg.add(values::contexts()),
        _ => arg,
    }
}

fn with_values(asker: &Arc<Asker>, command: &str, run: Option<&ArgMatches>, arg: Arg) -> Arg {
    match (command, arg.get_id().as_str()) {
        ("run" | "runs" | "cancel", "job") => arg.add(values::jobs(asker)),
        ("run", "args") => {
            let Some(run) = run else { return arg };
            let job = run.get_one::<String>("job").cloned().unwrap_or_default();
            let index = run.get_many::<String>("args").map_or(0, Iterator::count);
            arg.add(values::choices(asker, job, index))
        }
        ("cancel", "id") => arg.add(values::running(asker)),
        ("attach" | "logs" | "rerun", "run") | ("wait", "runs") => arg.add(values::runs(asker)),
        ("describe", "command") => arg.add(values::commands(asker)),
        _ => arg,
    }
}

/// The commands of the server below `call`. The options of the program stand before them.
fn calls(root: &Command, description: &Description) -> Command {
    let own = || root.get_arguments().cloned().map(|arg| with_sockets(arg.global(false)));
    let commands = description.commands.iter().filter(|command| values::is_name(&command.name));
    let call = Command::new("call").disable_help_subcommand(true).args(own());
    base().args(own()).subcommand(call.subcommands(commands.map(described)))
}

fn described(description: &CommandDescription) -> Command {
    let mut description = description.clone();
    let properties =
        description.schemas.arguments.as_mut().and_then(|all| all.get_mut("properties"));
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        properties.retain(|name, _| values::is_name(name));
    }
    commands::command(&description).mut_args(flag)
}

fn flag(arg: Arg) -> Arg {
    if arg.is_require_equals_set() {
        return switch(&arg);
    }
    let mut values = arg.get_possible_values();
    if values.is_empty() {
        return arg;
    }
    values.retain(|value| values::is_name(value.get_name()));
    arg.value_parser(PossibleValuesParser::new(values))
}

/// `--flag` needs no value. The engine would offer one as the next word.
fn switch(arg: &Arg) -> Arg {
    let values = || ["true", "false"].map(CompletionCandidate::new).into();
    let switch = Arg::new(arg.get_id().clone()).action(ArgAction::SetTrue);
    let switch = switch.long(arg.get_long().unwrap_or_default().to_owned());
    let switch = switch.add(ArgValueCandidates::new(values));
    match arg.get_help() {
        Some(help) => switch.help(help.clone()),
        None => switch,
    }
}
