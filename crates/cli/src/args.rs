//! The command line.

use std::{env, ffi::OsString, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args, CommandFactory, Error, Parser, Subcommand, ValueEnum, ValueHint,
    error::{ContextKind, ContextValue, ErrorKind},
};
use kakehi_client::Timeouts;

use super::{
    exit,
    hosts::Hosts,
    output::When,
    runs::{RunFlags, RunsCommand},
    ssh::SshHost,
    view::Format,
};

/// Without blank lines that would not fit on a screen of 40 lines.
fn template() -> String {
    const START: &str = "\
{about}
{usage-heading} {usage}
{subcommands}
Options (`kakehi man` prints the manual, with all options and exit statuses):
{options}
";
    START.to_owned() + &exit::help()
}

/// Run the jobs and commands of a daemon over its Unix socket
#[derive(Debug, Parser)]
#[command(name = "kakehi", version, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, help_template = template())]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the arguments of this process.
    ///
    /// # Errors
    /// Wrong usage, or a request for help. The error suggests no hidden command.
    pub(crate) fn read() -> Result<Self, Error> {
        let read = Self::try_parse().map_err(|error| without_hidden(error, &Self::command()))?;
        // clap misses a conflict between an option before the command and one after it.
        let Options { host, hosts, context, server_uid, .. } = &read.options;
        let is_elsewhere = !host.is_empty() || hosts.is_some() || context.is_some();
        if is_elsewhere && server_uid.is_some() {
            let text = "--server-uid is for a server on this machine, named by --socket\n";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(read)
    }
}

fn without_hidden(mut error: Error, command: &clap::Command) -> Error {
    const KIND: ContextKind = ContextKind::SuggestedSubcommand;
    let mut names = match error.remove(KIND) {
        Some(ContextValue::String(name)) => vec![name],
        Some(ContextValue::Strings(names)) => names,
        _ => return error,
    };
    names.retain(|name| command.find_subcommand(name).is_none_or(|found| !found.is_hide_set()));
    let names = match names.as_slice() {
        [] => return error,
        [name] => ContextValue::String(name.clone()),
        _ => ContextValue::Strings(names),
    };
    error.insert(KIND, names);
    error
}

/// The options of all commands. Each help text fits on one line of 80 columns; the manual page says
/// more.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
#[expect(clippy::doc_markdown, reason = "the text is shown on a terminal")]
pub(crate) struct Options {
    /// The server's socket [env: KAKEHI_SOCKET]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// Server on another machine: ssh://[USER@]HOST[:PORT]
    #[arg(long, global = true, value_name = "URL", conflicts_with = "server_uid")]
    #[arg(value_hint = ValueHint::Hostname, action = ArgAction::Append)]
    pub(crate) host: Vec<SshHost>,
    /// Send the request to each host listed in FILE
    #[arg(long, global = true, value_name = "@FILE", conflicts_with = "server_uid")]
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) hosts: Option<Hosts>,
    /// Number of hosts to ask at the same time [default: 16]
    #[arg(long, global = true, value_name = "COUNT", default_value_t = NonZeroUsize::MIN.saturating_add(15))]
    #[arg(hide_default_value = true, hide = true)]
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) parallel: NonZeroUsize,
    /// Use the server of a context [env: KAKEHI_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", value_hint = ValueHint::Other)]
    #[arg(conflicts_with_all = ["host", "hosts", "socket", "server_uid"])]
    pub(crate) context: Option<String>,
    /// Refuse a server that does not run as the user with this UID
    #[arg(long, global = true, value_name = "UID", value_hint = ValueHint::Other, hide = true)]
    pub(crate) server_uid: Option<u32>,
    /// Limit for each response; 0: no limit [default 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) timeout: Option<Duration>,
    /// Limit for the whole request; 0: no limit (default)
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) deadline: Option<Duration>,
    /// table, wide, json, yaml or name [default: table]
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) output: Format,
    /// Do not shorten tables to the width of the terminal
    #[arg(long, global = true, hide = true)]
    pub(crate) no_trunc: bool,
    /// Print each response as a line of JSON
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    /// Do not escape the output of a job on a terminal
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log to standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// auto, always or never [default: auto]
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    #[arg(hide_possible_values = true, hide_default_value = true, hide = true)]
    pub(crate) color: When,
}

impl Options {
    /// The timeout and the deadline. Zero means no limit.
    pub(crate) fn clocks(&self) -> Timeouts {
        let Timeouts { timeout, deadline } = Timeouts::default();
        Timeouts { timeout: self.timeout.or(timeout), deadline: self.deadline.or(deadline) }
    }

    /// The socket that an option or the environment names.
    pub(crate) fn given_socket(&self) -> Option<PathBuf> {
        let variable = || env::var_os("KAKEHI_SOCKET").filter(|path| !path.is_empty());
        self.socket.clone().or_else(|| variable().map(PathBuf::from))
    }

    /// Whether the server runs on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.host.is_empty() && self.hosts.is_none()
    }

    /// The other machine, if exactly one is named by itself.
    pub(crate) fn single_host(&self) -> Option<&SshHost> {
        match self.host.as_slice() {
            [host] if self.hosts.is_none() => Some(host),
            _ => None,
        }
    }

    /// All other machines, each once, if one request goes to many; `None`: it goes to one server.
    pub(crate) fn many_hosts(&self) -> Option<Vec<SshHost>> {
        if self.hosts.is_none() && self.host.len() < 2 {
            return None;
        }
        let listed = self.hosts.iter().flat_map(|hosts| hosts.0.iter());
        let mut all: Vec<SshHost> = vec![];
        for host in self.host.iter().chain(listed) {
            if !all.contains(host) {
                all.push(host.clone());
            }
        }
        Some(all)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job; output and exit status are those of the job
    ///
    /// `kakehi run JOB --help` shows the arguments of the job.
    ///
    /// The first Ctrl-C cancels the job and waits up to 2 s for its end. A second Ctrl-C exits at
    /// once. A terminal shows the job's control characters escaped; a pipe or a file gets the
    /// unchanged bytes.
    Run {
        /// The name of the job: see `kakehi list`
        #[arg(value_hint = ValueHint::Other)]
        job: String,
        /// Arguments for the job. Put `--` before arguments that start with a hyphen
        #[arg(value_hint = ValueHint::Other)]
        args: Vec<String>,
        #[command(flatten)]
        flags: RunFlags,
    },
    #[command(flatten)]
    Runs(RunsCommand),
    /// List the jobs that you may run
    List,
    /// Show the server's state and the running requests
    Status {
        /// Print metrics in the text format of Prometheus
        #[arg(long, conflicts_with_all = ["json", "output"])]
        prometheus: bool,
    },
    /// Show a live screen of the server: runs, progress, rates
    ///
    /// `?` shows the keys. The screen needs a terminal of at least 40 columns. If the server stops,
    /// `top` connects again as soon as the server is back. `top` works with any server, and shows only
    /// what the server reports.
    #[cfg(feature = "top")]
    Top(super::top::TopFlags),
    /// Cancel running requests
    Cancel {
        /// The id of a run, a unique prefix of one, or the id of a request
        #[arg(value_hint = ValueHint::Other, value_name = "RUN")]
        #[arg(required_unless_present_any = ["job", "all"], conflicts_with_all = ["job", "all"])]
        id: Option<String>,
        /// Cancel all your runs of this job
        #[arg(long, conflicts_with = "all")]
        job: Option<String>,
        /// Cancel all your requests; as root, the requests of all users
        #[arg(long)]
        all: bool,
    },
    /// Stop the server, and wait until it has stopped
    ///
    /// Running requests may continue for the server's drain time. With --host, the command does not
    /// wait.
    Stop,
    /// Send any request, written in JSON
    ///
    /// The fields `id`, `version`, `timeout_ms` and `deadline_ms` are added if they are absent. All
    /// other fields are sent unchanged.
    Send {
        /// A JSON object. Without it, or with `-`, it is read from standard input
        #[arg(value_name = "JSON", value_hint = ValueHint::Other)]
        request: Option<String>,
    },
    /// Describe the server and its commands, or a job
    Describe {
        /// Describe only this command or job
        command: Option<String>,
    },
    /// Call a command of a server that describes itself
    ///
    /// `kakehi call COMMAND --help` shows the command's flags. The arguments are checked before
    /// anything is sent. Put the options of kakehi itself before the command.
    Call {
        /// The command and its flags: see `kakehi describe`
        #[arg(value_names = ["COMMAND", "FLAGS"], required = true, num_args = 1..)]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Ask a server that was started with --demo for a countdown
    #[command(hide = true)]
    Demo,
    /// Find out why the server cannot be reached, and what to do
    Doctor,
    /// Send requests to many machines, over NATS
    #[cfg(feature = "fleet")]
    Fleet(super::fleet::FleetArguments),
    #[cfg(feature = "fleet")]
    Bridge(super::fleet::BridgeArguments),
    /// Give names to servers, and choose the default one
    Context(super::context::ContextArguments),
    /// Offer the server's commands to agents, by MCP
    ///
    /// Each command, and each job of kakehid, is a tool of the Model Context Protocol. Standard input
    /// and output carry only messages of the protocol. The log of `-v` is on standard error.
    #[cfg(feature = "mcp")]
    Mcp(super::mcp::McpArguments),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Print the manual page
    // For packages: the help has 40 lines.
    #[command(hide = true)]
    Man,
    /// Connect standard input and output to the server's socket
    #[command(hide = true)]
    DialStdio {
        /// Tell the client at the other end when the connection is made
        #[arg(long)]
        announce: bool,
    },
}

impl Command {
    /// Whether it needs the server of a context. The other end of ssh does not: its user's choice is
    /// for commands there.
    pub(crate) fn asks_a_server(&self) -> bool {
        match self {
            Self::Context(_) | Self::Completions { .. } | Self::Man | Self::DialStdio { .. } => {
                false
            }
            #[cfg(feature = "fleet")]
            Self::Fleet(_) | Self::Bridge(_) => false,
            _ => true,
        }
    }
}

/// The shells that have completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Parses a duration such as `30s` or `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let parsed = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    parsed.map_err(|_| "expected a duration such as 30s or 1m30s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_behind_the_command() {
        for line in ["kakehi --timeout 1m30s status", "kakehi status --timeout 1m30s"] {
            let options = parse(line).unwrap().options;
            assert_eq!(options.clocks().timeout, Some(Duration::from_secs(90)), "{line}");
            assert_eq!(options.clocks().deadline, None, "{line}");
        }
        let clocks = |line| parse(line).unwrap().options.clocks();
        assert_eq!(clocks("kakehi status --timeout 0").timeout, Some(Duration::ZERO));
        assert_eq!(clocks("kakehi status"), Timeouts::default());
    }

    #[test]
    fn a_jobs_arguments_with_hyphens_stand_after_two_hyphens() {
        let Command::Run { job, args, .. } =
            parse("kakehi run backup a --json -- --b -c").unwrap().command
        else {
            panic!("not a run");
        };
        assert_eq!((job.as_str(), args), ("backup", vec!["a".into(), "--b".into(), "-c".into()]));
    }

    #[test]
    fn no_hidden_command_is_suggested() {
        for (line, suggested) in [
            ("kakehi dial-stdo", Some("'list'")),
            ("kakehi - x", None),
            ("kakehi dem", None),
            ("kakehi cancle", Some("'call', 'cancel'")),
        ] {
            let error = without_hidden(parse(line).unwrap_err(), &Arguments::command());
            let text = error.render().to_string();
            assert!(!text.contains("'dial-stdio'") && !text.contains("'demo'"), "{text}");
            match suggested {
                Some(names) => assert!(text.contains(names), "{text}"),
                None => assert!(!text.contains("tip:"), "{text}"),
            }
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "kakehi status --timeout 2",
            "kakehi status --timeout -1s",
            "kakehi run",
            "kakehi cancel",
            "client unknown",
            "kakehi status extra",
            "kakehi status --raw --json",
            "kakehi status --json -o yaml",
            "kakehi status -o xml",
            "kakehi run --raw job --json",
            "kakehi status --color sometimes",
            "kakehi completions powershell",
            "kakehi --host example.org status",
            "kakehi --host ssh://example.org --server-uid 0 status",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
