//! Errors of ssh: what failed, why, and what to do.

use std::{
    error::Error,
    ffi::OsStr,
    fmt, io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process::ExitStatus,
};

use serde_json::Value;

use super::{SshHost, quote::quote};
use crate::{escape::escape_bytes, exit, failure::Failure};

/// An error of ssh in three parts, and its exit status. The parts are not escaped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshError {
    code: u8,
    what: String,
    why: String,
    remedy: String,
}

/// How ssh ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'e> {
    pub(super) host: &'e SshHost,
    /// The client to run on the other machine.
    pub(super) client: &'e OsStr,
    /// Whether that client had connected to the server.
    pub(super) was_established: bool,
    pub(super) status: ExitStatus,
    /// The end of the text on stderr.
    pub(super) said: &'e [u8],
}

impl SshError {
    /// `None` if ssh succeeded.
    pub(super) fn of(end: End<'_>) -> Option<Self> {
        let End { host, client, was_established, status, said } = end;
        let lost = || format!("lost the connection to {host}");
        let Some(code) = status.code() else {
            let why = format!("ssh was ended by signal {}", status.signal().unwrap_or_default());
            return Some(Self::new(exit::NOT_RUNNING, lost(), why, log_in(host)));
        };
        let line = last_line(said);
        let why = reason(line, host);
        // 255 is of ssh itself. Other codes are of the shell or the client on that machine.
        Some(match code {
            0 => return None,
            255 if was_established => {
                let remedy = "check the result on the server once it can be reached again";
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
        let remedy = "install the client of OpenSSH";
        let why = "no folder of PATH contains ssh";
        Self::new(exit::NOT_RUNNING, "cannot find ssh on this machine", why, remedy)
    }

    pub(super) fn system(what: &str, error: &io::Error) -> Self {
        Self::new(exit::NOT_RUNNING, what, error.to_string(), "check that ssh works by hand")
    }

    pub(super) fn interrupted(code: u8, host: &SshHost) -> Self {
        let what = "interrupted before the request was sent";
        let why = format!("ssh had not connected to {host} yet");
        Self::new(code, what, why, "run the command again")
    }

    pub(super) fn unquotable(word: &[u8]) -> Self {
        let what = format!("cannot pass {} to a shell", escape_bytes(word));
        let why = "it is empty, or has control characters or bytes that are not UTF-8";
        Self::new(exit::USAGE, what, why, "use another path, such as a symbolic link")
    }

    /// The program on the other machine is not the client.
    pub(super) fn not_the_client(host: &SshHost, client: &OsStr) -> Self {
        let what = format!("the program that answers on {host} is not kakehi");
        let why = "a login script or a forced command may run instead";
        Self::new(exit::PROTOCOL, what, why, by_hand(host, client))
    }

    fn no_client(host: &SshHost, client: &OsStr, is_missing: bool, why: String) -> Self {
        let state = if is_missing { "find" } else { "run" };
        let name = escape_bytes(client.as_bytes());
        let what = format!("cannot {state} `{name}` on {host}");
        let remedy = "install kakehi there, on the PATH of ssh, or name its path here: \
                      KAKEHI_REMOTE_CLIENT=/path/to/kakehi";
        Self::new(exit::NOT_RUNNING, what, why, remedy)
    }

    /// The client on the other machine reports why it cannot reach the server.
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
    format!("check the login: {} true", ssh(host))
}

fn by_hand(host: &SshHost, client: &OsStr) -> String {
    let client = quote(client).unwrap_or_else(|_| "kakehi".into());
    format!("find the cause: {} {client} doctor", ssh(host))
}

fn ssh(host: &SshHost) -> String {
    match host.port {
        None => format!("ssh {host}"),
        Some(port) => format!("ssh -p {port} {host}"),
    }
}

/// The last line that is not empty. Warnings and greetings come before it.
fn last_line(said: &[u8]) -> &[u8] {
    let mut lines = said.split(|byte| b"\r\n".contains(byte)).map(<[u8]>::trim_ascii);
    lines.rfind(|line| !line.is_empty()).unwrap_or_default()
}

/// The reason in the words of ssh, without the host, which is named already.
fn reason(line: &[u8], host: &SshHost) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_prefix(&format!("{host}: ")).unwrap_or(&line);
    let line = line.strip_prefix("ssh: ").unwrap_or(line).trim_end_matches('.');
    if line.is_empty() { "ssh gave no reason".into() } else { line.into() }
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

    /// The error for an ssh that ended with the wait status `raw` after it wrote `said`.
    fn of(raw: i32, was_established: bool, said: &str) -> Option<(u8, String, String)> {
        let host: SshHost = "ssh://hana@host:2222".parse().unwrap();
        let (client, status) = (OsStr::new("kakehi"), ExitStatus::from_raw(raw));
        let said = said.as_bytes();
        let error = SshError::of(End { host: &host, client, was_established, status, said })?;
        assert!(!error.remedy.is_empty());
        Some((error.code, error.what, error.why))
    }

    #[test]
    fn each_end_of_ssh_has_its_code_and_its_words() {
        const LOST: &str = "lost the connection to hana@host";
        const EXIT: i32 = 256;
        let words = r#"{"what":"no server listens","why":"it ended","remedy":"start it"}"#;
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
                "ssh gave no reason",
            ),
            (
                127 * EXIT,
                false,
                "sh: client: not found",
                exit::NOT_RUNNING,
                "cannot find `kakehi` on hana@host",
                "sh: client: not found",
            ),
            (
                126 * EXIT,
                false,
                "sh: client: denied",
                exit::NOT_RUNNING,
                "cannot run `kakehi` on hana@host",
                "sh: client: denied",
            ),
            (69 * EXIT, false, words, 69, "on hana@host, no server listens", "it ended"),
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
