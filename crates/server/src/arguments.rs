//! What the command line says.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use kakehi_server::Limits;

/// Runs named jobs for local users: progress as it comes, then exactly one final answer.
///
/// It listens on a Unix socket, or on the one that systemd hands over. Without --jobs there are
/// only the demo commands.
#[derive(Debug, Parser)]
#[command(name = "server", version, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[arg(long, env = "KAKEHI_SOCKET", value_name = "PATH", help = SOCKET_HELP)]
    pub(crate) socket: Option<PathBuf>,

    /// The TOML file that declares the jobs; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) jobs: Option<PathBuf>,

    /// Only say what is wrong with the jobs file, and exit with 1 if anything is
    #[arg(long, requires = "jobs")]
    pub(crate) check: bool,

    /// Permission bits of the socket, in octal: who may write may connect
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    pub(crate) mode: u32,

    /// The group of the socket, by name or number; goes with --mode 660
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<u32>,

    /// How long running requests may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = no_limit)]
    pub(crate) drain: Duration,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

const SOCKET_HELP: &str = "Where to listen [default: $XDG_RUNTIME_DIR/kakehi/kakehi.sock, \
    or for root /run/kakehi/kakehi.sock]";

const AFTER_HELP: &str = "\
Times are written as 500ms, 10s or 1m30s; 0 means without limit. Sizes are in bytes.

Signals:
  TERM, INT  end: new requests are refused, running ones may go on for --drain, then are
             cancelled; a second one ends at once
  HUP        read the jobs file again; if anything is wrong with it, the jobs stay as they are

Environment:
  RUST_LOG   what to log to stderr [default: info]

Exit status:
  0 ended as asked, 1 could not start or the jobs file is wrong, 2 wrong usage,
  130 or 143 ended at once by a second signal";

/// One flag for each of the library's limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = size)]
    connections: usize,

    /// Connections at once of one user
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = size)]
    connections_per_uid: usize,

    /// The largest request
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = size)]
    request_bytes: usize,

    /// The largest response
    #[arg(long, value_name = "BYTES", default_value_t = 16_777_216, value_parser = size)]
    response_bytes: usize,

    /// What may wait to be written to one client
    #[arg(long, value_name = "BYTES", default_value_t = 262_144, value_parser = size)]
    outgoing_bytes: usize,

    /// Unfinished requests over all connections
    #[arg(long, value_name = "BYTES", default_value_t = 67_108_864, value_parser = size)]
    unfinished_bytes: usize,

    /// How long a request may take to arrive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = no_limit)]
    request_time: Duration,

    /// How long a client may read nothing of what is written to it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = no_limit)]
    write_time: Duration,

    /// A longer timeout that a request asks for counts as this
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    max_timeout: Duration,

    /// How long any request may take
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    max_deadline: Duration,

    /// How long a cancelled job may take to end; it is killed after 5s in any case
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = no_limit)]
    cleanup_time: Duration,
}

impl From<LimitArguments> for Limits {
    fn from(arguments: LimitArguments) -> Self {
        let unless_zero = |time: Duration| Some(time).filter(|time| !time.is_zero());
        Self {
            connections: arguments.connections,
            connections_per_uid: arguments.connections_per_uid,
            request_bytes: arguments.request_bytes,
            response_bytes: arguments.response_bytes,
            outgoing_bytes: arguments.outgoing_bytes,
            unfinished_bytes: arguments.unfinished_bytes,
            request_time: arguments.request_time,
            write_time: arguments.write_time,
            max_timeout: unless_zero(arguments.max_timeout),
            max_deadline: unless_zero(arguments.max_deadline),
            cleanup_time: arguments.cleanup_time,
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
    gid.ok_or_else(|| "there is no such group".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size > 0);
    size.ok_or_else(|| "expected a whole number, at least 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Zero is without limit, never "at once".
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
        assert_eq!(Limits::from(arguments.limits), Limits::default());
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
            connections: 1,
            connections_per_uid: 2,
            request_bytes: 3,
            response_bytes: 4,
            outgoing_bytes: 5,
            unfinished_bytes: 6,
            request_time: Duration::from_secs(7),
            write_time: Duration::from_secs(8),
            max_timeout: Some(Duration::from_secs(9)),
            max_deadline: Some(Duration::from_secs(90)),
            cleanup_time: Duration::from_millis(11),
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
