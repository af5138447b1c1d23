//! Completions: the scripts for the shells, and the words that a shell offers. The server is asked
//! for its commands, jobs and runs.

mod ask;
mod offers;
mod values;
mod words;

use std::{
    env,
    ffi::OsString,
    path::{Path, absolute},
    sync::Arc,
};

use clap::{CommandFactory, FromArgMatches, ValueEnum};
use clap_complete::engine::{CompletionCandidate, complete};

use self::{
    ask::Asker,
    words::{is_literal, unquote},
};
use super::{
    args::{Arguments, Options, Shell},
    escape::escape,
};

/// Set by the scripts to the name of the shell. The program then completes its arguments.
const VARIABLE: &str = "KAKEHI_COMPLETE";

/// The script for `shell`. It runs the program by the path that this process was started by.
pub(crate) fn script(shell: Shell) -> Vec<u8> {
    let (name, script) = match shell {
        Shell::Bash => ("bash", include_str!("kakehi.bash")),
        Shell::Zsh => ("zsh", include_str!("kakehi.zsh")),
        Shell::Fish => ("fish", include_str!("kakehi.fish")),
    };
    let call = |program: &str| format!("{VARIABLE}={name} {program}");
    script.replace(&call("kakehi"), &call(&program())).into_bytes()
}

/// `kakehi`, unless this process was started by another path. In quotes that each shell knows.
fn program() -> String {
    let started = env::args_os().next().unwrap_or_default();
    let is_path = Path::new(&started).components().count() > 1;
    let path = absolute(&started).ok().filter(|_| is_path);
    match path.as_deref().and_then(Path::to_str) {
        // A path with a quote would need another escape in each shell.
        Some(path) if !path.contains(['\'', '\\', '\n']) => format!("'{path}'"),
        _ => "kakehi".to_owned(),
    }
}

/// If a script has started the program: the words that the shell offers, a line for each.
pub(crate) fn answer() -> Option<Vec<u8>> {
    let shell = env::var_os(VARIABLE)?;
    let shell = Shell::from_str(shell.to_str()?, false).ok()?;
    let words: Vec<_> = env::args_os().skip(1).collect();
    let mut text = String::new();
    for offer in offers(words) {
        line(shell, &offer, &mut text);
    }
    Some(text.into_bytes())
}

/// The last word is the one to complete.
fn offers(words: Vec<OsString>) -> Vec<CompletionCandidate> {
    let plain = |word: &OsString| word.to_str().map_or_else(|| word.clone(), unquote);
    let last = words.len().saturating_sub(1);
    let given: Vec<_> = words.iter().take(last).map(plain).collect();
    let is_empty = words.last().is_none_or(|word| word.is_empty());
    let mut arguments = given.clone();
    arguments.extend(words.into_iter().next_back());
    let matches = Arguments::command().ignore_errors(true).try_get_matches_from(given).ok();
    let options = matches.as_ref().and_then(|given| Options::from_arg_matches(given).ok());
    let asker = Arc::new(Asker::new(options.as_ref()));
    let mut command = offers::command(&asker, matches.as_ref());
    let folder = env::current_dir().ok();
    let offers = complete(&mut command, arguments, last, folder.as_deref());
    let mut offers = offers.unwrap_or_default();
    offers
        .retain(|offer| !offer.is_hide_set() && offer.get_value().to_str().is_some_and(is_literal));
    // Before the first letter, options would hide the words that belong there.
    let is_option =
        |offer: &CompletionCandidate| offer.get_value().as_encoded_bytes().starts_with(b"-");
    if is_empty && !offers.iter().all(is_option) {
        offers.retain(|offer| !is_option(offer));
    }
    offers
}

/// Writes one offer. Zsh and fish show its help too.
fn line(shell: Shell, offer: &CompletionCandidate, text: &mut String) {
    let value = offer.get_value().to_string_lossy();
    let help = offer.get_help().map(ToString::to_string).unwrap_or_default();
    let help = escape(help.lines().next().unwrap_or_default()).into_owned();
    match shell {
        Shell::Zsh => {
            text.push_str(&value.replace(':', "\\:"));
            if !help.is_empty() {
                text.extend([":", &help.replace('\\', "\\\\")]);
            }
        }
        Shell::Fish if !help.is_empty() => text.extend([&value, "\t", &help]),
        Shell::Bash | Shell::Fish => text.push_str(&value),
    }
    text.push('\n');
}
