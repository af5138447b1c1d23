//! A simple decoder of a server's bytes for one request.

use kakehi_channel::{Decode, ErrorKind, Json, Response, ResponseMessage, Status};
use kakehi_client::{Error, Outcome};

/// The client's limit for a response, in bytes.
pub(super) const MAX: usize = 512;

/// The expected result of one request.
#[derive(Debug)]
pub(super) struct Plain {
    /// The responses before the end, without keep-alives. `None` stands for a malformed frame.
    pub(super) progress: Vec<Option<Response>>,
    pub(super) end: End,
    /// Whether no byte follows the final response.
    pub(super) is_clean: bool,
}

/// The expected end of a request.
#[derive(Debug)]
pub(super) enum End {
    Final(Response),
    Malformed,
    Unexpected,
    TooLarge,
    Disconnected,
    Timeout,
}

impl Plain {
    /// Decodes the result of the request `id` from these bytes. `has_end`: the stream ends there.
    pub(super) fn of(says: &[u8], id: &str, has_end: bool) -> Self {
        Self::of_first(says, id, has_end).0
    }

    /// Like [`of`](Self::of). Also returns the bytes after the final response.
    pub(super) fn of_first<'s>(mut says: &'s [u8], id: &str, has_end: bool) -> (Self, &'s [u8]) {
        let mut progress = vec![];
        let end = loop {
            let Some(nul) = says.iter().take(MAX).position(|byte| *byte == 0) else {
                break match has_end {
                    _ if says.len() >= MAX => End::TooLarge,
                    true => End::Disconnected,
                    false => End::Timeout,
                };
            };
            let response: Option<Response> = Json::default().decode(&says[..nul]).ok();
            says = &says[nul + 1..];
            match response {
                Some(response) if !answers(&response, id) => break End::Unexpected,
                Some(response) if response.status.is_final() => break End::Final(response),
                Some(response) if response.is_keep_alive() => {}
                response => progress.push(response),
            }
        };
        (Self { progress, end, is_clean: says.is_empty() }, says)
    }

    /// Whether the connection can serve another request, if no byte follows.
    pub(super) fn ends_well(&self) -> bool {
        let is_final = matches!(&self.end, End::Final(response) if response.refused.is_none());
        is_final && !self.progress.contains(&None)
    }
}

/// Whether `response` answers the request `id`. A refusal of an unreadable request has no id.
fn answers(response: &Response, id: &str) -> bool {
    response.id == id || (response.id.is_empty() && response.status == Status::Error)
}

impl End {
    /// # Panics
    /// If `answer` differs.
    pub(super) fn check(&self, answer: &Result<Response, Error>) {
        let is_it = match (answer, self) {
            (Ok(answer), Self::Final(expected)) => {
                answer.status == Status::Ok && answer == expected
            }
            (Err(error), Self::Final(expected)) => {
                let is_refused = expected.refused.is_some();
                expected.status == Status::Error
                    && error.response() == Some(expected)
                    && (error.outcome() == Outcome::Refused, error.outcome() == Outcome::Failed)
                        == (is_refused, !is_refused)
            }
            (Ok(_), _) => false,
            (Err(error), _) if error.outcome() != Outcome::Unknown => false,
            (Err(error), Self::Malformed) => error.kind() == ErrorKind::Malformed,
            (Err(error), Self::Unexpected) => error.kind() == ErrorKind::Unexpected,
            (Err(error), Self::TooLarge) => error.kind() == ErrorKind::TooLarge,
            (Err(error), Self::Disconnected) => error.kind() == ErrorKind::Disconnected,
            (Err(error), Self::Timeout) => error.kind() == ErrorKind::Timeout,
        };
        assert!(is_it, "{answer:?} instead of {self:?}");
    }
}
