//! What is said when there is no good answer: to a person in three parts, to a program in a word.

use std::{error::Error as StdError, io};

use kakehi_client::{Error, Outcome, Refusal};
use serde_json::json;

use super::{
    escape::{escape, escape_json},
    exit,
    reply::Answer,
    ssh::SshError,
};

/// Why the client ends without OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) code: u8,
    /// For a program.
    pub(crate) word: &'static str,
    /// What became of the request.
    pub(crate) outcome: Outcome,
    /// What happened.
    pub(crate) what: String,
    pub(crate) why: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Failure {
    /// Of nothing that was sent.
    pub(crate) fn unsent(code: u8, word: &'static str, parts: [&str; 3]) -> Self {
        Self::new(code, word, Outcome::NotSent, parts)
    }

    fn new(code: u8, word: &'static str, outcome: Outcome, [what, why, remedy]: [&str; 3]) -> Self {
        let [what, why, remedy] = [what, why, remedy].map(ToOwned::to_owned);
        Self { code, word, outcome, what, why, remedy }
    }

    /// The system does not let this process wait for anything.
    pub(crate) fn system(error: &io::Error) -> Self {
        let remedy = "see the limits of this process: `ulimit -a`";
        Self::unsent(exit::SYSTEM, "system", ["cannot start", &error.to_string(), remedy])
    }

    /// The answers ended, and the library did not say why.
    pub(crate) fn unanswered() -> Self {
        let parts = ["no final answer came", "the answers ended before it", "see the server's log"];
        Self::new(exit::PROTOCOL, "protocol", Outcome::Unknown, parts)
    }

    pub(crate) fn usage(what: &str, why: &str, remedy: &str) -> Self {
        Self::unsent(exit::USAGE, "usage", [what, why, remedy])
    }

    /// Standard output cannot be written, for another reason than that nobody reads it.
    pub(crate) fn output(error: &io::Error) -> Self {
        let parts = [
            "standard output cannot be written",
            &error.to_string(),
            "make room there, or write elsewhere; the request was given up",
        ];
        Self::new(exit::OUTPUT, "output", Outcome::Unknown, parts)
    }

    /// Somebody wants this process to end, and the final answer has not come.
    pub(crate) fn interrupted(code: u8, why: &str) -> Self {
        let word = if code == exit::INTERRUPTED { "interrupted" } else { "terminated" };
        let what = format!("{word} before the final answer");
        let remedy = "see what still runs by `client status`";
        Self::new(code, word, Outcome::Unknown, [&what, why, remedy])
    }

    /// Of a final ERROR; `hint` is what to do if the reason for it does not say so.
    pub(crate) fn of_answer(answer: &Answer, code: u8, hint: &str) -> Self {
        let (what, word, remedy) = match answer.response.refused {
            None => ("the request failed", "failed", hint),
            Some(why) => refusal(why, hint),
        };
        let outcome = answer.response.refused.map_or(Outcome::Failed, |_| Outcome::Refused);
        let why = match &answer.response.message {
            message if message.is_empty() => "the server does not say",
            message => message,
        };
        Self::new(code, word, outcome, [what, why, remedy])
    }

    /// For a person. Whatever is in it, each part is one harmless line.
    pub(crate) fn text(&self, error: &str) -> String {
        let (what, why, remedy) = (escape(&self.what), escape(&self.why), escape(&self.remedy));
        format!("{error} {what}\n  why: {why}\n  try: {remedy}\n")
    }

    /// For a program: the one terminal line that `--json` always has.
    pub(crate) fn json(&self) -> String {
        let message = json!(format!("{}: {}", self.what, self.why)).to_string();
        let (word, outcome, message) = (self.word, self.outcome.name(), escape_json(&message));
        format!(
            r#"{{"status":"ERROR","error":"{word}","outcome":"{outcome}","message":{message}}}"#
        )
    }
}

/// What happened, the word for it, and what to do.
fn refusal(why: Refusal, hint: &str) -> (&'static str, &'static str, &str) {
    match why {
        Refusal::Denied => {
            ("the server denies it", "permission", "ask who runs the server to allow you this")
        }
        Refusal::Busy => ("the server is busy", "busy", "try again later"),
        Refusal::ShuttingDown => {
            ("the server is shutting down", "shutting_down", "try again once it is back")
        }
        Refusal::Malformed => (
            "the server does not understand the request",
            "malformed",
            "see what it can do: `client list`, its manual; its version: `client status`",
        ),
        Refusal::TooLarge => {
            ("the request is too large for the server", "too_large", "ask for less at once")
        }
        Refusal::TooSlow => {
            ("the request took too long to arrive", "too_slow", "see how busy this machine is")
        }
        _ => ("the server refused", "refused", hint),
    }
}

impl From<Error<Answer>> for Failure {
    fn from(error: Error<Answer>) -> Self {
        if let Some(ssh) = of_ssh(&error) {
            return ssh;
        }
        let (code, word, what, remedy) = kind(&error);
        let rest = match error.outcome() {
            Outcome::NotSent => "; nothing was sent",
            Outcome::Unknown => "; whether the request was done is not known",
            _ => "",
        };
        Self::new(code, word, error.outcome(), [what, &format!("{error}{rest}"), remedy])
    }
}

/// What ssh says of the way is more than what it means here.
fn of_ssh(error: &Error<Answer>) -> Option<Failure> {
    let mut cause = StdError::source(error)?;
    let io = loop {
        match cause.downcast_ref::<io::Error>() {
            Some(io) => break io,
            None => cause = cause.source()?,
        }
    };
    let failure = Failure::from(io.get_ref()?.downcast_ref::<SshError>()?.clone());
    if error.is_not_sent() {
        return Some(failure);
    }
    let outcome = error.outcome();
    Some(Failure { code: exit::PROTOCOL, word: "disconnected", outcome, ..failure })
}

type Kind = (u8, &'static str, &'static str, &'static str);

fn kind(error: &Error<Answer>) -> Kind {
    if error.is_deadline() {
        let remedy = "see what runs by `client status`; allow more by --deadline (0: no limit)";
        return (exit::TIMEOUT, "deadline", "the request took too long", remedy);
    }
    if error.is_timeout() {
        let remedy = "look closer by `client doctor`; wait longer by --timeout (0: no limit)";
        return (exit::TIMEOUT, "timeout", "the server does not answer", remedy);
    }
    if error.is_wrong_server() {
        let remedy = "do not trust it; find out who listens there, or correct --server-uid";
        return (exit::PERMISSION, "permission", "another user's server is there", remedy);
    }
    if error.is_unconnected() {
        return unconnected(error);
    }
    if error.is_too_large() {
        let remedy = "ask for less at once";
        return (exit::PROTOCOL, "too_large", "a message is too large", remedy);
    }
    if error.is_malformed() || error.is_unexpected() {
        let remedy = "see whether it is a server of this version that listens there";
        return (exit::PROTOCOL, "protocol", "what came is not an answer to the request", remedy);
    }
    if error.is_not_sent() {
        let remedy = "see whether the server is alive: `client status`, its log";
        return (exit::NOT_RUNNING, "not_running", "the server does not take the request", remedy);
    }
    let remedy = "see what runs by `client status`, and the server's log";
    (exit::PROTOCOL, "disconnected", "the connection ended before the final answer", remedy)
}

fn unconnected(error: &Error<Answer>) -> Kind {
    const WHAT: &str = "cannot reach the server";
    match error.io_kind() {
        Some(io::ErrorKind::PermissionDenied) => {
            let remedy = "ask who runs the server to let you in; `client doctor` looks closer";
            (exit::PERMISSION, "permission", WHAT, remedy)
        }
        Some(io::ErrorKind::WouldBlock) => {
            (exit::BUSY, "busy", WHAT, "try again later; `client doctor` looks closer")
        }
        _ => {
            let remedy = "start the server, or say where it listens by --socket PATH";
            (exit::NOT_RUNNING, "not_running", WHAT, remedy)
        }
    }
}

#[cfg(test)]
mod tests;
