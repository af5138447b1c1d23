//! The errors of the library and the reasons of the server, each with its exit status and words.

use std::{error::Error as StdError, io};

use kakehi_client::{Error, ErrorKind, Outcome, Refusal};

use super::{Failure, MAY_HAVE_DONE};
use crate::{
    exit,
    reply::{Answer, End},
    ssh::SshError,
};

impl From<Error<Answer>> for Failure {
    fn from(error: Error<Answer>) -> Self {
        if let Some(ssh) = of_ssh(&error) {
            return ssh;
        }
        if let Some(answer) = error
            .response()
            .filter(|_| error.outcome() == Outcome::Failed && error.kind() == ErrorKind::Deadline)
        {
            return Self::late(&answer.response.message);
        }
        if let Some(answer) = error
            .response()
            .filter(|_| error.outcome() == Outcome::Failed || error.outcome() == Outcome::Refused)
        {
            return Self::of_answer(answer, exit::of_answer(answer, false), "");
        }
        let (code, word, what, remedy) = kind(&error);
        let rest = match error.outcome() {
            Outcome::NotSent => "; the request was not sent",
            Outcome::Unknown => MAY_HAVE_DONE,
            _ => "",
        };
        Self::new(code, word, error.outcome(), [what, &format!("{error}{rest}"), remedy])
    }
}

/// An error of ssh says more than the error that it causes in the library.
fn of_ssh(error: &Error<Answer>) -> Option<Failure> {
    let mut cause = StdError::source(error)?;
    let io = loop {
        match cause.downcast_ref::<io::Error>() {
            Some(io) => break io,
            None => cause = cause.source()?,
        }
    };
    let failure = Failure::from(io.get_ref()?.downcast_ref::<SshError>()?.clone());
    if error.outcome() == Outcome::NotSent {
        return Some(failure);
    }
    let outcome = error.outcome();
    Some(Failure { code: exit::PROTOCOL, word: "disconnected", outcome, ..failure })
}

/// The exit status, the word for a program, what failed, and what to do.
type Kind = (u8, &'static str, &'static str, &'static str);

fn kind(error: &Error<Answer>) -> Kind {
    if error.kind() == ErrorKind::Deadline {
        let remedy =
            "see the running requests: `kakehi status`; allow more time: --deadline (0: no limit)";
        return (exit::TIMEOUT, "deadline", "the deadline passed", remedy);
    }
    if error.kind() == ErrorKind::Timeout {
        let remedy = "find the cause: `kakehi doctor`; wait longer: --timeout (0: no limit)";
        return (exit::TIMEOUT, "timeout", "the server does not answer", remedy);
    }
    if error.outcome() == Outcome::Done {
        let remedy = "use a `kakehi` of the server's version to read the answer";
        let what = "the request was done, but its answer cannot be read";
        return (exit::PROTOCOL, "unreadable", what, remedy);
    }
    if error.kind() == ErrorKind::WrongServer {
        let remedy = "do not trust this server; correct --server-uid, or find out who started it";
        return (exit::PERMISSION, "permission", "another user runs the server", remedy);
    }
    if error.kind() == ErrorKind::Unconnected {
        return unconnected(error);
    }
    if error.kind() == ErrorKind::TooLarge {
        let remedy = "ask for less at once";
        return (exit::PROTOCOL, "too_large", "a message is too large", remedy);
    }
    if error.kind() == ErrorKind::Malformed || error.kind() == ErrorKind::Unexpected {
        let remedy = "check that a Kakehi server of this version listens on the socket";
        return (exit::PROTOCOL, "protocol", "the server sent an invalid response", remedy);
    }
    if error.outcome() == Outcome::NotSent {
        let remedy = "check the server: `kakehi status`, and its log";
        return (
            exit::NOT_RUNNING,
            "not_running",
            "the server does not accept the request",
            remedy,
        );
    }
    let remedy = "see the running requests: `kakehi status`; see the server's log";
    (exit::PROTOCOL, "disconnected", "the connection ended before the final response", remedy)
}

fn unconnected(error: &Error<Answer>) -> Kind {
    const WHAT: &str = "cannot reach the server";
    match error.io_kind() {
        Some(io::ErrorKind::PermissionDenied) => {
            let remedy = "ask the server's administrator for access; details: `kakehi doctor`";
            (exit::PERMISSION, "permission", WHAT, remedy)
        }
        Some(io::ErrorKind::WouldBlock) => {
            (exit::BUSY, "busy", WHAT, "try again later; details: `kakehi doctor`")
        }
        _ => {
            let remedy = "start the server, or name its socket: --socket PATH";
            (exit::NOT_RUNNING, "not_running", WHAT, remedy)
        }
    }
}

/// Whether the message is the server's own, for an error that it has logged with its cause, or has
/// no text.
pub(super) fn is_logged(message: &str) -> bool {
    const OWN: [&str; 3] =
        ["the handler panicked", "the authorization panicked", "the answer cannot be sent: "];
    message.is_empty() || OWN.iter().any(|own| message.starts_with(own))
}

/// The failed action, the word for a program, and the remedy.
type Words<'w> = (&'static str, &'static str, &'w str);

/// The words for a run that the user has not confirmed.
pub(super) const UNCONFIRMED: Words<'static> = (
    "the job must be confirmed",
    "unconfirmed",
    "pass --yes, or run the command on a terminal, which asks",
);

/// The words for a jobs file with problems, which stand above.
pub(super) const NOT_RELOADED: Words<'static> = (
    "the jobs were not reloaded",
    "not_reloaded",
    "correct the file; check it with `kakehid --check --jobs PATH`",
);

/// The words for a refusal; `hint` is what to do if its reason is not known.
pub(super) fn refusal(why: Refusal, hint: &str) -> Words<'_> {
    match why {
        Refusal::Denied => (
            "the server denies the request",
            "permission",
            "ask the server's administrator for permission",
        ),
        Refusal::Busy => ("the server is busy", "busy", "try again later"),
        Refusal::ShuttingDown => {
            ("the server is shutting down", "shutting_down", "try again after its restart")
        }
        Refusal::Malformed => (
            "the request or its arguments are malformed",
            "malformed",
            "see the documentation of this server: its commands may differ from those of kakehid",
        ),
        Refusal::TooLarge => {
            ("the request is too large for the server", "too_large", "ask for less at once")
        }
        Refusal::TooSlow => {
            ("the request took too long to arrive", "too_slow", "check the load of this machine")
        }
        Refusal::Unsupported => (
            "the server has no such command",
            "unsupported",
            "see the commands of the server: `kakehi describe`",
        ),
        _ => ("the server refuses the request", "refused", hint),
    }
}

/// The words for a reason that the content of a final response names.
pub(super) fn reason(end: End<'_>) -> Option<Words<'static>> {
    if end.outcome == Some("unknown") {
        let remedy = "read its output: `kakehi logs RUN`; run the job again: `kakehi rerun RUN`";
        return Some(("the end of the run is not known", "unknown", remedy));
    }
    Some(match end.reason? {
        "no_such_job" => {
            ("there is no such job", "no_such_job", "see the jobs that you may run: `kakehi list`")
        }
        "invalid_arguments" => (
            "the job does not accept these arguments",
            "invalid_arguments",
            "see the arguments of the job: `kakehi describe JOB`",
        ),
        "not_executable" => (
            "the job's program cannot be executed",
            "not_executable",
            "correct `run` and `cwd` of this job in the jobs file",
        ),
        "cancelled" => (
            "the run was cancelled before it started",
            "cancelled",
            "see the running requests: `kakehi status`",
        ),
        "not_started" => (
            "the job was not started",
            "not_started",
            "see the server's log; then run the job again",
        ),
        "no_such_run" => (
            "there is no such run",
            "no_such_run",
            "see the runs: `kakehi runs`; those that go on: `kakehi status`",
        ),
        _ => return None,
    })
}
