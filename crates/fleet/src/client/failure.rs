//! Failures of requests, before they are errors of a type of response.

use std::time::Duration;

use kakehi_channel::{Refusal, Response};
use kakehi_client::{Error, Outcome};

/// Why a request has no final response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Transport(Outcome, String),
    Late {
        outcome: Outcome,
        after: Duration,
        is_deadline: bool,
    },
    /// By the broker.
    Denied(String),
}

impl Failure {
    pub(super) fn into_error<T>(self, id: &str) -> Error<Response<T>> {
        match self {
            Self::Transport(outcome, message) => Error::transport(outcome, message),
            Self::Late { outcome, after, is_deadline } => {
                Error::expired(outcome, after, is_deadline)
            }
            Self::Denied(why) => {
                let message = format!("the broker: {why}");
                Error::answered(Response::refused(id, Refusal::Denied, message))
            }
        }
    }
}
