//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use kakehi_server::Limits;

use crate::jobs::Bounds;

/// Runs named jobs for local users. A caller gets the output while the job runs, then its result.
///
/// Listens on a Unix socket that it creates, or on one that systemd passes.
#[derive(Debug, Parser)]
#[command(name = "kakehid", version, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[arg(long, env = "KAKEHI_SOCKET", value_name = "PATH", help = SOCKET_HELP)]
    pub(crate) socket: Option<PathBuf>,

    /// The TOML file that declares the jobs, or a folder of `*.toml` files. SIGHUP reloads it
    #[arg(long, value_name = "PATH")]
    pub(crate) jobs: Option<PathBuf>,

    /// The folder for the records and the output of runs. Without it, they are removed when the daemon
    /// ends
    #[arg(long, env = "STATE_DIRECTORY", value_name = "PATH")]
    pub(crate) state: Option<PathBuf>,

    /// Only check the jobs, print the problems, and exit with 1 if there are any
    #[arg(long, requires = "jobs")]
    pub(crate) check: bool,

    /// Print the manual page
    #[arg(long)]
    pub(crate) man: bool,

    /// Also answer the commands countdown, echo and fail, to try a client
    #[arg(long)]
    pub(crate) demo: bool,

    /// Permission bits of the socket, in octal. Connecting needs write permission
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    pub(crate) mode: u32,

    /// The group of the socket, by name or number; needs --mode 660
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<u32>,

    /// How long runs may continue after SIGTERM or SIGINT. The remaining runs then get SIGTERM, and
    /// SIGKILL 5s later. The daemon ends at most 10s after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = no_limit)]
    pub(crate) drain: Duration,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

const SOCKET_HELP: &str = "The socket to listen on [default: $XDG_RUNTIME_DIR/kakehi/kakehi.sock, \
    or for root /run/kakehi/kakehi.sock]";

const AFTER_HELP: &str = "\
Times are written as 500ms, 10s or 1m30s; 0 means no limit. Sizes are in bytes.

Signals:
  TERM, INT  shut down. New and queued runs are refused. Running ones may continue for --drain,
             then they get SIGTERM, and SIGKILL 5s later. A second signal kills all at once
  HUP        reload the jobs. If a file has an error, the previous jobs stay in use

Environment:
  RUST_LOG   the levels and targets to log to stderr [default: info,async_nats=warn]

Exit status:
  0 stopped by a request or a signal, 1 could not start or the jobs file has an error,
  2 wrong usage, 130 or 143 ended at once by a second signal";

/// One flag for each of the library's limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// The most connections at once, and the most running requests at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size)]
    connections: usize,

    /// The most connections and running requests of one user
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = size)]
    connections_per_uid: usize,

    /// Additional connections for commands such as status and cancel; at most 4 for each user
    #[arg(long, value_name = "N", default_value_t = 16)]
    control_connections: usize,

    /// The most detached runs at once
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = size)]
    detached: usize,

    /// The most detached runs at once of one user
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size)]
    detached_per_uid: usize,

    /// The size of the largest request
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = size)]
    request_bytes: usize,

    /// The size of the largest response
    #[arg(long, value_name = "BYTES", default_value_t = 16_777_216, value_parser = size)]
    response_bytes: usize,

    /// The size of all responses that wait for one client
    #[arg(long, value_name = "BYTES", default_value_t = 262_144, value_parser = size)]
    outgoing_bytes: usize,

    /// The size of all unfinished requests of all connections
    #[arg(long, value_name = "BYTES", default_value_t = 67_108_864, value_parser = size)]
    unfinished_bytes: usize,

    /// How long a request may take to arrive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = no_limit)]
    request_time: Duration,

    /// How long a client may leave responses unread. Does not apply to `run`
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = no_limit)]
    write_time: Duration,

    /// The longest timeout of a request; longer ones are shortened
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    max_timeout: Duration,

    /// The longest deadline of a request, and the deadline of a request without one
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    max_deadline: Duration,

    /// How long a request whose client disconnected may take to end. Its job gets SIGTERM at once
    /// and SIGKILL after 5s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = no_limit)]
    cleanup_time: Duration,
}

/// The most connections of one user beside those for running requests.
const CONTROL_PER_UID: usize = 4;

impl From<&LimitArguments> for Bounds {
    fn from(arguments: &LimitArguments) -> Self {
        Self {
            connections: arguments.connections,
            connections_per_uid: arguments.connections_per_uid,
            detached: arguments.detached,
            detached_per_uid: arguments.detached_per_uid,
        }
    }
}

impl From<LimitArguments> for Limits {
    fn from(arguments: LimitArguments) -> Self {
        let control = arguments.control_connections;
        let control_per_uid = control.min(CONTROL_PER_UID);
        let unless_zero = |time: Duration| Some(time).filter(|time| !time.is_zero());
        Self {
            connections: arguments.connections.saturating_add(control),
            connections_per_uid: arguments.connections_per_uid.saturating_add(control_per_uid),
            request_bytes: arguments.request_bytes,
            response_bytes: arguments.response_bytes,
            outgoing_bytes: arguments.outgoing_bytes,
            unfinished_bytes: arguments.unfinished_bytes,
            request_time: arguments.request_time,
            write_time: arguments.write_time,
            max_timeout: unless_zero(arguments.max_timeout),
            max_deadline: unless_zero(arguments.max_deadline),
            cleanup_time: arguments.cleanup_time,
            ..Self::default()
        }
    }
}

fn mode(text: &str) -> Result<u32, String> {
    const BITS: RangeInclusive<u32> = 0..=0o777;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| BITS.contains(mode));
    mode.ok_or_else(|| "expected permission bits in octal, such as 660".to_owned())
}

fn group(text: &str) -> Result<u32, String> {
    let gid = text.parse().ok();
    let gid = gid.or_else(|| uzers::get_group_by_name(text).map(|group| group.gid()));
    gid.ok_or_else(|| "no such group".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size > 0);
    size.ok_or_else(|| "expected a whole number, at least 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Zero means no limit.
fn no_limit(text: &str) -> Result<Duration, String> {
    duration(text).map(|time| if time.is_zero() { Duration::MAX } else { time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        let arguments = ["server"].iter().chain(arguments);
        Arguments::try_parse_from(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_the_limits_are_those_of_the_library() {
        let arguments = parse(&[]).unwrap();
        assert_eq!((arguments.mode, arguments.group), (0o600, None));
        assert_eq!(arguments.drain, Duration::from_secs(5));
        let Limits { connections, connections_per_uid, .. } = Limits::default();
        let (connections, connections_per_uid) = (connections + 16, connections_per_uid + 4);
        let expected = Limits { connections, connections_per_uid, ..Limits::default() };
        assert_eq!(Limits::from(arguments.limits), expected);
    }

    #[test]
    fn each_limit_has_its_flag() {
        #[rustfmt::skip]
        let arguments = parse(&[
            "--connections", "1", "--connections-per-uid", "2", "--request-bytes", "3",
            "--response-bytes", "4", "--outgoing-bytes", "5", "--unfinished-bytes", "6",
            "--request-time", "7s", "--write-time", "8s", "--max-timeout", "9s",
            "--max-deadline", "1m 30s", "--cleanup-time", "11ms",
        ]);
        let expected = Limits {
            connections: 1 + 16,
            connections_per_uid: 2 + 4,
            request_bytes: 3,
            response_bytes: 4,
            outgoing_bytes: 5,
            unfinished_bytes: 6,
            request_time: Duration::from_secs(7),
            write_time: Duration::from_secs(8),
            max_timeout: Some(Duration::from_secs(9)),
            max_deadline: Some(Duration::from_secs(90)),
            cleanup_time: Duration::from_millis(11),
            ..Limits::default()
        };
        assert_eq!(Limits::from(arguments.unwrap().limits), expected);
    }

    #[test]
    fn a_time_of_zero_is_without_limit() {
        let arguments = parse(&["--drain", "0", "--write-time", "0s", "--max-deadline", "0"]);
        let arguments = arguments.unwrap();
        assert_eq!(arguments.drain, Duration::MAX);
        let limits = Limits::from(arguments.limits);
        assert_eq!((limits.write_time, limits.max_deadline), (Duration::MAX, None));
    }

    #[test]
    fn modes_are_octal_and_groups_have_names_or_numbers() {
        let arguments = parse(&["--mode", "0660", "--group", "root"]).unwrap();
        assert_eq!((arguments.mode, arguments.group), (0o660, Some(0)));
        assert_eq!(parse(&["--group", "4321"]).unwrap().group, Some(4321));
        for wrong in [
            &["--mode", "689"][..],
            &["--mode", "7777"],
            &["--group", "no-such-group"],
            &["--connections", "0"],
            &["--drain", "5"],
            &["--check"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
