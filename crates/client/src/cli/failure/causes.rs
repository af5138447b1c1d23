//! What the library and the server say went wrong, in the client's words: each in one place.

use std::{error::Error as StdError, io};

use kakehi_client::{Error, Outcome, Refusal};

use super::Failure;
use crate::cli::{exit, reply::Answer, ssh::SshError};

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

/// The exit status, the word for a program, what happened, and what to do.
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

/// Of a refusal: what happened, the word for it, and what to do; `hint`, if the reason is none.
pub(super) fn refusal(why: Refusal, hint: &str) -> (&'static str, &'static str, &str) {
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
