//! Contexts: named servers in a file of the user.
//!
//! The server of a command is named by, in this order: `--socket`, `--host`, `--hosts` or `--context`;
//! `KAKEHI_SOCKET`; `KAKEHI_CONTEXT`; the context that `kakehi context use` chose; the default places.

mod file;

use std::{env, path::PathBuf};

use clap::{Args, Subcommand, ValueHint};
use serde_json::{Value, json};

pub(crate) use self::file::Place;
use self::file::{File, Name};
use super::{
    args::Options,
    failure::Failure,
    output::Output,
    reach,
    view::{Format, Style, table, yaml},
};

/// The variable that names a context.
const VARIABLE: &str = "KAKEHI_CONTEXT";
/// The name that stands for the default sockets. No context can have it.
pub(super) const DEFAULT: &str = "default";

/// Commands about contexts.
#[derive(Debug, Args)]
pub(crate) struct ContextArguments {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// Add a context
    Add {
        /// 1 to 64 letters, digits, `.`, `_` and `-`
        name: Name,
        /// ssh://[USER@]HOST[:PORT], or the path of a socket
        #[arg(value_name = "SERVER", value_hint = ValueHint::AnyPath)]
        place: Place,
        /// The path of the socket on the other machine
        #[arg(long = "remote-socket", value_name = "PATH", value_hint = ValueHint::Other)]
        socket: Option<PathBuf>,
        /// Also choose it
        #[arg(long = "use")]
        choose: bool,
        /// Replace a context of this name
        #[arg(long)]
        force: bool,
    },
    /// Choose the context that commands use. The name `default` ends the choice
    Use { name: Name },
    /// List the contexts
    #[command(alias = "ls")]
    List,
    /// Remove contexts
    #[command(alias = "rm")]
    Remove {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Name>,
    },
    /// Show the server that commands use, and why. With NAME, show this context
    Show { name: Option<Name> },
}

/// Executes a command about contexts. Returns the exit status.
pub(crate) fn run(arguments: ContextArguments, options: &Options, output: &mut Output) -> u8 {
    let is_list = matches!(arguments.command, ContextCommand::List);
    match answer(arguments.command, options, Style::of(output, options)) {
        Ok(text) => {
            if is_list && text.is_empty() {
                let note = "no contexts; add one: kakehi context add NAME ssh://HOST";
                output.note("note:", note.to_owned());
            }
            output.print(text.as_bytes())
        }
        Err(failure) => output.end(&failure),
    }
}

fn answer(command: ContextCommand, options: &Options, style: Style) -> Result<String, Failure> {
    match command {
        ContextCommand::Add { name, place, socket, choose, force } => {
            name.check_new()?;
            File::change(|file| {
                let place = place.with_socket(socket)?;
                if !force {
                    file.check_unused(&name, &place)?;
                }
                file.set(&name, &place);
                if choose {
                    file.choose(&name)?;
                }
                Ok(())
            })?;
            Ok(String::new())
        }
        ContextCommand::Use { name } => {
            File::change(|file| file.choose(&name)).map(|()| String::new())
        }
        ContextCommand::Remove { names } => {
            File::change(|file| names.iter().try_for_each(|name| file.remove(name)))?;
            Ok(String::new())
        }
        ContextCommand::List => list(&File::read()?, options, style),
        ContextCommand::Show { name: Some(name) } => {
            let file = File::read()?;
            let place = file.get(&name)?;
            let rows = [name.to_string(), place.to_string()];
            let value = json!({ "context": name.to_string(), "server": place.to_string() });
            Ok(format(options, &value, || table(&["CONTEXT", "SERVER"], &[rows.to_vec()], style)))
        }
        ContextCommand::Show { name: None } => show(options, style),
    }
}

fn list(file: &File, options: &Options, style: Style) -> Result<String, Failure> {
    let chosen = file.chosen()?;
    let all = file.all()?;
    let value = all.iter().map(|(name, place)| {
        let is_chosen = chosen.as_ref() == Some(name);
        json!({ "context": name.to_string(), "server": place.to_string(), "chosen": is_chosen })
    });
    let value: Value = value.collect();
    let rows = all.iter().map(|(name, place)| {
        let mark = if chosen.as_ref() == Some(name) { "chosen" } else { "" };
        vec![name.to_string(), place.to_string(), mark.to_owned()]
    });
    let rows: Vec<_> = rows.collect();
    Ok(format(options, &value, || {
        if rows.is_empty() {
            String::new()
        } else {
            table(&["CONTEXT", "SERVER", ""], &rows, style)
        }
    }))
}

/// All sources of the server in their order, with the one that counts.
fn show(options: &Options, style: Style) -> Result<String, Failure> {
    let file = File::read()?;
    let variable = variable().map(|name| name.to_string_lossy().into_owned());
    let flags = flags(options);
    let socket = options.given_socket().filter(|_| options.socket.is_none());
    let socket = socket.map(|path| path.display().to_string());
    let chosen = file.chosen()?.map(|name| name.to_string());
    let sources = [
        ("options", flags),
        ("KAKEHI_SOCKET", socket),
        (VARIABLE, variable),
        ("chosen context", chosen),
        (DEFAULT, Some(reach::default_place().display().to_string())),
    ];
    let used = sources.iter().position(|(_, value)| value.is_some());
    let server = |index: usize, value: &str| -> Result<String, Failure> {
        let is_name = index == 2 || index == 3 || (index == 0 && options.context.is_some());
        if !is_name {
            return Ok(value.to_owned());
        }
        let name: Name = value.parse().map_err(|why: String| invalid(value, &why))?;
        if name.is_default() {
            return Ok(reach::default_place().display().to_string());
        }
        file.get(&name).map(|place| place.to_string())
    };
    let (mut rows, mut values) = (vec![], vec![]);
    for (index, (source, value)) in sources.iter().enumerate() {
        let is_used = used == Some(index);
        let place = match value {
            Some(value) if is_used => Some(server(index, value)?),
            _ => None,
        };
        values.push(json!({ "source": source, "value": value, "used": is_used, "server": place }));
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let used = place.map(|place| format!("used: {place}")).unwrap_or_default();
        rows.push(vec![(*source).to_owned(), cell(value.clone()), used]);
    }
    let path = file.path().display().to_string();
    let value = json!({ "file": path, "sources": values });
    Ok(format(options, &value, || {
        let table = table(&["SOURCE", "VALUE", "SERVER"], &rows, style);
        if style.format == Format::Name { table } else { format!("{table}\nfile: {path}\n") }
    }))
}

/// The options that name a server.
fn flags(options: &Options) -> Option<String> {
    let hosts = options.many_hosts().map(|hosts| format!("{} hosts", hosts.len()));
    let host = options.single_host().map(super::ssh::SshHost::url);
    let socket = options.socket.as_ref().map(|path| path.display().to_string());
    options.context.clone().or(hosts).or(host).or(socket)
}

fn format(options: &Options, value: &Value, table: impl FnOnce() -> String) -> String {
    match options.output {
        _ if options.json => format!("{value}\n"),
        Format::Json => format!("{value}\n"),
        Format::Yaml => yaml(value),
        _ => table(),
    }
}

/// Names the server by a context, unless an option or `KAKEHI_SOCKET` names one.
///
/// # Errors
/// The context does not exist, or the file is not usable.
pub(crate) fn apply(options: &mut Options) -> Result<(), Failure> {
    let is_given = !options.is_local() || options.given_socket().is_some();
    // The option conflicts with other names of a server, but not with the variable.
    if is_given && options.context.is_none() {
        return Ok(());
    }
    let given = options.context.clone();
    let given = given.or_else(|| variable().map(|name| name.to_string_lossy().into_owned()));
    let file = File::read()?;
    let name = match given {
        Some(text) => Some(text.parse::<Name>().map_err(|why| invalid(&text, &why))?),
        None => file.chosen()?,
    };
    let Some(name) = name else { return Ok(()) };
    if name.is_default() {
        // Not even the variable counts.
        options.socket = options.context.as_ref().map(|_| reach::default_place());
        return Ok(());
    }
    let Place { host, socket } = file.get(&name)?;
    options.host = host.into_iter().collect();
    options.socket = socket;
    Ok(())
}

/// The names of all contexts, as far as the file is usable.
pub(crate) fn names() -> Vec<String> {
    let all = File::read().and_then(|file| file.all()).unwrap_or_default();
    all.into_iter().map(|(name, _)| name.to_string()).collect()
}

fn variable() -> Option<std::ffi::OsString> {
    env::var_os(VARIABLE).filter(|name| !name.is_empty())
}

fn invalid(name: &str, why: &str) -> Failure {
    let remedy = "see the contexts: `kakehi context list`";
    Failure::usage(&format!("{name:?} is not the name of a context"), why, remedy)
}
