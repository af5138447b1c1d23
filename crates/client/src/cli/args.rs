//! What can be typed.

use std::{env, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use kakehi_client::Clocks;

use super::{exit, output::When, ssh::SshHost};

/// Asks a server over its Unix socket: progress as it comes, then exactly one final answer
///
/// Without a command, it asks for a countdown, of the server on the default path or, if none
/// listens there, of one that it starts inside itself.
#[derive(Debug, Parser)]
#[command(name = "client", version, after_help = exit::help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What holds for all commands.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
#[expect(clippy::doc_markdown, reason = "this is shown on a terminal")]
pub(crate) struct Options {
    /// Where the server listens
    ///
    /// By default it is where the variable KAKEHI_SOCKET says; without that,
    /// $XDG_RUNTIME_DIR/kakehi/kakehi.sock; where there is none, /run/kakehi/kakehi.sock.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Ask a server on another machine, by way of ssh
    ///
    /// It is written `ssh://[USER@]HOST[:PORT]`. The client must be on the PATH there, or where the
    /// variable KAKEHI_REMOTE_CLIENT says; --socket is a path there.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "server_uid")]
    pub(crate) host: Option<SshHost>,
    /// Refuse a server that runs as another user than this one
    #[arg(long, global = true, value_name = "UID")]
    pub(crate) server_uid: Option<u32>,
    /// How long to wait for each response, such as 2s or 1m30s; 0: no limit [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long to wait for the final answer; 0: no limit [default: 0]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// Print each response as a line of JSON; the last line is the only final one
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Give a job's bytes to the terminal as they are: only for jobs that you trust
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Tell what happens, on standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Whether to use colours: auto, always or never
    ///
    /// By default it is auto: on a terminal, unless the variable NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) color: When,
}

impl Options {
    /// Both clocks; zero is no limit.
    pub(crate) fn clocks(&self) -> Clocks {
        let Clocks { timeout, deadline } = Clocks::DEFAULT;
        Clocks { timeout: self.timeout.or(timeout), deadline: self.deadline.or(deadline) }
    }

    /// Where the server listens, if that was said.
    pub(crate) fn given_socket(&self) -> Option<PathBuf> {
        let variable = || env::var_os("KAKEHI_SOCKET").filter(|path| !path.is_empty());
        self.socket.clone().or_else(|| variable().map(PathBuf::from))
    }
}

/// What to ask.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job: its output is the output, its exit status the exit status
    ///
    /// The first Ctrl-C cancels the job and waits up to 2 s for its end, the second leaves at once.
    /// What the job writes is shown with control characters escaped, the tab too; --raw gives the
    /// bytes.
    Run {
        /// Its name: see `client list`
        job: String,
        /// What it is to get; after `--` if it begins with a hyphen
        args: Vec<String>,
    },
    /// List the jobs that you may run
    List,
    /// Tell how the server is, and what runs
    Status,
    /// Cancel a running request
    Cancel {
        /// The request's id: see `client status`
        id: String,
    },
    /// Stop the server; what runs may end
    Stop,
    /// Send any request
    ///
    /// Fields that are absent are filled in: `id`, `version`, and the two clocks `timeout_ms` and
    /// `deadline_ms`. Everything else goes out as it is.
    Send {
        /// A JSON object; `-` or nothing: it is read from standard input
        #[arg(value_name = "JSON")]
        request: Option<String>,
    },
    /// Find out why the server cannot be reached, and what to do
    Doctor,
    /// Print a script that completes arguments
    Completions {
        /// For this shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
    /// Join standard input and output to the server's socket
    #[command(hide = true)]
    DialStdio {
        /// Tell the client at the other end when it begins
        #[arg(long)]
        announce: bool,
    },
}

/// Shells that can complete arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_arguments_make_sense_to_clap() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_behind_the_command_or_alone() {
        for line in [
            "client --timeout 1m30s status",
            "client status --timeout 1m30s",
            "client --timeout 1m30s",
        ] {
            let options = parse(line).unwrap().options;
            assert_eq!(options.clocks().timeout, Some(Duration::from_secs(90)), "{line}");
            assert_eq!(options.clocks().deadline, None, "{line}");
        }
        let clocks = |line| parse(line).unwrap().options.clocks();
        assert_eq!(clocks("client --timeout 0").timeout, Some(Duration::ZERO));
        assert_eq!(clocks("client"), Clocks::DEFAULT);
    }

    #[test]
    fn a_jobs_arguments_with_hyphens_stand_behind_two() {
        let Some(Command::Run { job, args }) =
            parse("client run backup a --json -- --b -c").unwrap().command
        else {
            panic!("it is a run");
        };
        assert_eq!((job.as_str(), args), ("backup", vec!["a".into(), "--b".into(), "-c".into()]));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for line in [
            "client --timeout 2",
            "client --timeout -1s",
            "client run",
            "client cancel",
            "client unknown",
            "client status extra",
            "client --raw --json",
            "client run --raw job --json",
            "client --color sometimes",
            "client completions powershell",
            "client --host example.org status",
            "client --host ssh://example.org --server-uid 0 status",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
