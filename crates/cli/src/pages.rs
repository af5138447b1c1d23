//! The manual page.

use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{args::Arguments, exit, many};

/// The manual page, with all commands in one.
pub(crate) fn manual() -> Vec<u8> {
    let mut page = vec![];
    // Writing into memory cannot fail.
    let _ = write(&mut page);
    page
}

fn write(page: &mut dyn io::Write) -> io::Result<()> {
    let command = Arguments::command().subcommand_help_heading("COMMAND");
    // The help has no room for them.
    let mut command = command.mut_args(|arg| arg.hide(false));
    command.build();
    let man = Man::new(command.clone()).title("KAKEHI").date(DATE).manual("User Commands");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    commands(&command).to_writer(page)?;
    man.render_options_section(page)?;
    notes().to_writer(page)?;
    statuses().to_writer(page)
}

/// The date of the page.
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
        for inner in sub.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let words: Vec<_> = inner.get_positionals().map(|arg| format!(" {arg}")).collect();
            let title = format!("{}{}", inner.get_name(), words.concat());
            let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", []).text([bold(title)]).text([roman(about)]);
        }
        for arg in sub.get_positionals() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", []).text([bold(arg.to_string())]).text([roman(help)]);
        }
    }
    roff
}

/// More about the options, which `--help` has no room for.
fn notes() -> Roff {
    const ENVIRONMENT: [(&str, &str); 7] = [
        ("KAKEHI_SOCKET", "The server's socket, if no option names a server."),
        ("KAKEHI_CONTEXT", "The context, if neither an option nor KAKEHI_SOCKET names a server."),
        ("XDG_CONFIG_HOME", "The folder of the contexts: see FILES. Default: ~/.config."),
        ("XDG_RUNTIME_DIR", "The folder of the user's own server: see FILES."),
        ("KAKEHI_REMOTE_CLIENT", "With --host: the path of kakehi on the other machine."),
        ("NO_COLOR", "Turns colours off, unless --color=always."),
        ("TERM", "`dumb` turns colours and the progress line off."),
    ];
    const FILES: [(&str, &str); 3] = [
        (
            "$XDG_CONFIG_HOME/kakehi/config.toml",
            "The contexts. `context` names the chosen one; a table [contexts.NAME] has `host`, `socket` \
             or both. An unknown key is an error.",
        ),
        ("$XDG_RUNTIME_DIR/kakehi/kakehi.sock", "The socket of the user's own server."),
        (
            "/run/kakehi/kakehi.sock",
            "The socket of the system's server. Used if the user's own server has no socket.",
        ),
    ];
    const NOTES: [&str; 7] = [
        "A DURATION is written as 500ms, 30s or 1m30s.",
        "With --host, kakehi runs ssh, which must find kakehi on the other machine. --socket is then \
         a path on that machine.",
        "The options --socket, --host, --hosts and --context name the server. Without them, the first \
         of these counts: KAKEHI_SOCKET; KAKEHI_CONTEXT; the context that `kakehi context use` chose; \
         the sockets under FILES. `kakehi context show` shows which one counts.",
        "--host can be given several times, and --hosts takes a file: one host on each line, with or \
         without ssh://; # starts a comment. Each host then gets the request, at most \
         --parallel hosts at the same time (default: 16). ssh asks no questions. Each line of output starts with the name of its \
         host; a table of all outcomes follows. With --json, each line has `host`, and the last one \
         is the summary.",
        "`kakehi top` asks the server every second (--interval), shows how long its answer takes, \
         and estimates the time left by the median of the last 21 successful runs of a job.",
        "With -o json and -o yaml, commands print the content of the answer. The output of a \
         job has no such format: `run`, `attach` and `logs` refuse -o. With -o name, list and describe print names, and status the ids of the runs. With -o wide, \
         tables have more columns and are not shortened.",
        "With --json, the last line is the final response, or an object with `status`, `error`, \
         `outcome` and `message`. For a request that did nothing, `refused`, `error` or \
         `content.reason` names the reason. For a job that did not end by itself, \
         `content.ended_by` names the cause.",
    ];
    let mut roff = Roff::new();
    for (title, rows) in [("ENVIRONMENT", &ENVIRONMENT[..]), ("FILES", &FILES)] {
        roff.control("SH", [title]);
        for (name, meaning) in rows {
            roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["NOTES"]);
    for (index, note) in NOTES.into_iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(note)]);
    }
    roff
}

fn statuses() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(many::ORDER)]);
    for (code, _, meaning) in exit::TABLE {
        roff.control("TP", []).text([bold(code.to_string())]).text([roman(meaning)]);
    }
    roff
}
