//! Why there is no connection through ssh: what happened, why, and what to do.

use std::{
    error::Error,
    ffi::OsStr,
    fmt, io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process::ExitStatus,
};

use serde_json::Value;

use super::{SshHost, quote::quote};
use crate::cli::{escape::escape_bytes, exit, failure::Failure};

/// What went wrong on the way through ssh, in three parts for a person, and how to exit. Not all of
/// it is harmless for a terminal yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshError {
    code: u8,
    what: String,
    why: String,
    remedy: String,
}

/// What is known when ssh has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'e> {
    pub(super) host: &'e SshHost,
    /// What was to be run there.
    pub(super) client: &'e OsStr,
    /// It had reached its server.
    pub(super) was_established: bool,
    pub(super) status: ExitStatus,
    /// The end of what stderr had.
    pub(super) said: &'e [u8],
}

impl SshError {
    /// `None`, if all is well.
    pub(super) fn of(end: End<'_>) -> Option<Self> {
        let End { host, client, was_established, status, said } = end;
        let lost = || format!("the connection to {host} is lost");
        let Some(code) = status.code() else {
            let why = format!("ssh was ended by signal {}", status.signal().unwrap_or_default());
            return Some(Self::new(exit::NOT_RUNNING, lost(), why, log_in(host)));
        };
        let line = last_line(said);
        let why = reason(line, host);
        // What ssh itself says ends in 255; all else is of the shell or the client there.
        Some(match code {
            0 => return None,
            255 if was_established => {
                let remedy = "see what the server has done, once it can be reached again";
                Self::new(exit::NOT_RUNNING, lost(), why, remedy)
            }
            255 if why.contains("Permission denied") => {
                Self::new(exit::PERMISSION, format!("cannot log in to {host}"), why, log_in(host))
            }
            255 => {
                let what = format!("cannot connect to {host} by ssh");
                Self::new(exit::NOT_RUNNING, what, why, log_in(host))
            }
            126 | 127 => Self::no_client(host, client, code == 127, why),
            _ => Self::of_client(host, code, line).unwrap_or_else(|| {
                let what = format!("the client on {host} ended with code {code}");
                Self::new(exit::NOT_RUNNING, what, why, by_hand(host, client))
            }),
        })
    }

    pub(super) fn no_ssh() -> Self {
        let remedy = "install OpenSSH's client";
        let why = "it is in no folder of PATH";
        Self::new(exit::NOT_RUNNING, "there is no ssh on this machine", why, remedy)
    }

    pub(super) fn system(what: &str, error: &io::Error) -> Self {
        Self::new(exit::NOT_RUNNING, what, error.to_string(), "see whether ssh works by itself")
    }

    pub(super) fn interrupted(code: u8, host: &SshHost) -> Self {
        let what = "interrupted before anything was sent";
        let why = format!("ssh had not connected to {host} yet");
        Self::new(code, what, why, "try again when there is time for it")
    }

    pub(super) fn unquotable(word: &[u8]) -> Self {
        let what = format!("{} cannot be named to a shell", escape_bytes(word));
        let why = "it is empty, or holds control characters or what is no text";
        Self::new(exit::USAGE, what, why, "give another path, such as a link to it")
    }

    /// What answers there is not the client.
    pub(super) fn not_the_client(host: &SshHost, client: &OsStr) -> Self {
        let what = format!("what answers on {host} is not Kakehi's client");
        let why = "a login script or a forced command may have taken its place";
        Self::new(exit::PROTOCOL, what, why, by_hand(host, client))
    }

    fn no_client(host: &SshHost, client: &OsStr, is_missing: bool, why: String) -> Self {
        let state = if is_missing { "is not there" } else { "cannot be run" };
        let name = escape_bytes(client.as_bytes());
        let what = format!("Kakehi's client {state} on {host}, by the name of `{name}`");
        let remedy = "install it there, on the PATH that ssh has, or name it: \
                      KAKEHI_REMOTE_CLIENT=/path/to/client";
        Self::new(exit::NOT_RUNNING, what, why, remedy)
    }

    /// The client there has said why it cannot reach its server.
    fn of_client(host: &SshHost, code: i32, line: &[u8]) -> Option<Self> {
        let said: Value = serde_json::from_slice(line).ok()?;
        let part = |name: &str| said.get(name).and_then(Value::as_str);
        let what = format!("on {host}, {}", part("what")?);
        Some(Self::new(u8::try_from(code).ok()?, what, part("why")?, part("remedy")?))
    }

    fn new(
        code: u8,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, what: what.into(), why: why.into(), remedy: remedy.into() }
    }
}

fn log_in(host: &SshHost) -> String {
    format!("see whether this works: {} true", ssh(host))
}

fn by_hand(host: &SshHost, client: &OsStr) -> String {
    let client = quote(client).unwrap_or_else(|_| "client".into());
    format!("see what this says: {} {client} doctor", ssh(host))
}

fn ssh(host: &SshHost) -> String {
    match host.port {
        None => format!("ssh {host}"),
        Some(port) => format!("ssh -p {port} {host}"),
    }
}

/// The last one that is not empty: warnings and greetings come before it.
fn last_line(said: &[u8]) -> &[u8] {
    let mut lines = said.split(|byte| b"\r\n".contains(byte)).map(<[u8]>::trim_ascii);
    lines.rfind(|line| !line.is_empty()).unwrap_or_default()
}

/// In ssh's words, but for the host, which is named already.
fn reason(line: &[u8], host: &SshHost) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_prefix(&format!("{host}: ")).unwrap_or(&line);
    let line = line.strip_prefix("ssh: ").unwrap_or(line).trim_end_matches('.');
    if line.is_empty() { "ssh does not say".into() } else { line.into() }
}

impl From<SshError> for Failure {
    fn from(SshError { code, what, why, remedy }: SshError) -> Self {
        let word = match code {
            exit::USAGE => "usage",
            exit::BUSY => "busy",
            exit::PROTOCOL => "protocol",
            exit::PERMISSION => "permission",
            exit::TIMEOUT => "timeout",
            exit::INTERRUPTED => "interrupted",
            exit::TERMINATED => "terminated",
            _ => "not_running",
        };
        Self::unsent(code, word, [&what, &why, &remedy])
    }
}

impl fmt::Display for SshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why, remedy, .. } = self;
        write!(f, "{what}: {why}; {remedy}")
    }
}

impl Error for SshError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an ssh that has ended with the wait status `raw`, and said `said`.
    fn of(raw: i32, was_established: bool, said: &str) -> Option<(u8, String, String)> {
        let host: SshHost = "ssh://hana@host:2222".parse().unwrap();
        let (client, status) = (OsStr::new("client"), ExitStatus::from_raw(raw));
        let said = said.as_bytes();
        let error = SshError::of(End { host: &host, client, was_established, status, said })?;
        assert!(!error.remedy.is_empty());
        Some((error.code, error.what, error.why))
    }

    #[test]
    fn each_end_of_ssh_has_its_code_and_its_words() {
        const LOST: &str = "the connection to hana@host is lost";
        const EXIT: i32 = 256;
        let words = r#"{"what":"nobody listens","why":"it ended","remedy":"start it"}"#;
        for (raw, established, said, code, what, why) in [
            (15, false, "", exit::NOT_RUNNING, LOST, "ssh was ended by signal 15"),
            (255 * EXIT, true, "ssh: reset.\n", exit::NOT_RUNNING, LOST, "reset"),
            (
                255 * EXIT,
                false,
                "Warning: x\r\nhana@host: Permission denied (publickey).\r\n",
                exit::PERMISSION,
                "cannot log in to hana@host",
                "Permission denied (publickey)",
            ),
            (
                255 * EXIT,
                false,
                "",
                exit::NOT_RUNNING,
                "cannot connect to hana@host by ssh",
                "ssh does not say",
            ),
            (
                127 * EXIT,
                false,
                "sh: client: not found",
                exit::NOT_RUNNING,
                "Kakehi's client is not there on hana@host, by the name of `client`",
                "sh: client: not found",
            ),
            (
                126 * EXIT,
                false,
                "sh: client: denied",
                exit::NOT_RUNNING,
                "Kakehi's client cannot be run on hana@host, by the name of `client`",
                "sh: client: denied",
            ),
            (69 * EXIT, false, words, 69, "on hana@host, nobody listens", "it ended"),
            (
                3 * EXIT,
                false,
                "nonsense",
                exit::NOT_RUNNING,
                "the client on hana@host ended with code 3",
                "nonsense",
            ),
        ] {
            let expected = (code, what.to_owned(), why.to_owned());
            assert_eq!(of(raw, established, said), Some(expected), "{raw} {said}");
        }
        assert_eq!(of(0, true, "whatever"), None);
    }

    #[test]
    fn each_code_has_its_word() {
        for (code, word) in [
            (exit::USAGE, "usage"),
            (exit::BUSY, "busy"),
            (exit::PROTOCOL, "protocol"),
            (exit::PERMISSION, "permission"),
            (exit::TIMEOUT, "timeout"),
            (exit::INTERRUPTED, "interrupted"),
            (exit::TERMINATED, "terminated"),
            (exit::NOT_RUNNING, "not_running"),
        ] {
            let error = SshError::new(code, "a", "b", "c");
            assert_eq!(error.to_string(), "a: b; c");
            let failure = Failure::from(error);
            assert_eq!(
                (failure.code, failure.word, failure.outcome.name()),
                (code, word, "not_sent")
            );
        }
    }
}
