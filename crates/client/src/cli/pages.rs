//! What the program tells about itself: completions, and the manual page.

use std::io;

use clap::{Command, CommandFactory};
use clap_complete::{Generator, generate, shells};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{
    args::{Arguments, Shell},
    exit,
};

/// The script for `shell`.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    fn script(shell: impl Generator) -> Vec<u8> {
        let (mut command, mut script) = (Arguments::command(), vec![]);
        generate(shell, &mut command, "client", &mut script);
        script
    }
    match shell {
        Shell::Bash => script(shells::Bash),
        Shell::Zsh => script(shells::Zsh),
        Shell::Fish => script(shells::Fish),
    }
}

/// The manual page: all commands in one.
pub(crate) fn manual() -> Vec<u8> {
    let mut page = vec![];
    // Writing into memory cannot fail.
    let _ = write(&mut page);
    page
}

fn write(page: &mut dyn io::Write) -> io::Result<()> {
    let mut command = Arguments::command().subcommand_help_heading("COMMAND");
    command.build();
    let man = Man::new(command.clone()).title("CLIENT").date(DATE).manual("User Commands");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    commands(&command).to_writer(page)?;
    man.render_options_section(page)?;
    statuses().to_writer(page)
}

/// Of the page, which has a place for it. It says no more than the version does.
const DATE: &str = "2026-11-23";

fn commands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let positionals: Vec<_> = sub.get_positionals().map(|arg| format!(" {arg}")).collect();
        let title = format!("{}{}", sub.get_name(), positionals.concat());
        roff.control("SS", [title.as_str()]);
        let about = sub.get_long_about().or_else(|| sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        for (number, paragraph) in about.split("\n\n").enumerate() {
            if number > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(paragraph)]);
        }
        for arg in sub.get_positionals() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", []).text([bold(arg.to_string())]).text([roman(help)]);
        }
    }
    roff
}

fn statuses() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::TABLE {
        roff.control("TP", []).text([bold(code.to_string())]).text([roman(meaning)]);
    }
    roff
}
