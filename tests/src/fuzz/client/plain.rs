//! What a server said to one request, read at once.

use kakehi_channel::{Decode, Json, Reply, Response, Status};
use kakehi_client::Error;

/// What the client is ready to receive, in bytes.
pub(super) const MAX: usize = 512;

/// What a request is to get.
#[derive(Debug)]
pub(super) struct Plain {
    /// Each response before the end that is no keep-alive; `None`: a frame that is no response.
    pub(super) progress: Vec<Option<Response>>,
    pub(super) end: End,
    /// Whether nothing is behind the final response.
    pub(super) is_clean: bool,
}

/// How a request is to end.
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
    /// Of the request `id`, if these bytes came, and then an end, or nothing.
    pub(super) fn of(says: &[u8], id: &str, has_end: bool) -> Self {
        Self::of_first(says, id, has_end).0
    }

    /// The same, with the bytes behind the final response.
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

    /// Whether another request may follow, if nothing is behind.
    pub(super) fn ends_well(&self) -> bool {
        let is_final = matches!(&self.end, End::Final(response) if response.refused.is_none());
        is_final && !self.progress.contains(&None)
    }
}

/// A server that could not read a request does not know its id.
fn answers(response: &Response, id: &str) -> bool {
    response.id == id || (response.id.is_empty() && response.status == Status::Error)
}

impl End {
    /// # Panics
    /// When `answer` is another end.
    pub(super) fn check(&self, answer: &Result<Response, Error>) {
        let is_it = match (answer, self) {
            (Ok(answer), Self::Final(expected)) => {
                answer.status == Status::Ok && answer == expected
            }
            (Err(error), Self::Final(expected)) => {
                let is_refused = expected.refused.is_some();
                expected.status == Status::Error
                    && error.response() == Some(expected)
                    && (error.is_refused(), error.is_failed()) == (is_refused, !is_refused)
            }
            (Ok(_), _) => false,
            (Err(error), _) if !error.is_unknown() => false,
            (Err(error), Self::Malformed) => error.is_malformed(),
            (Err(error), Self::Unexpected) => error.is_unexpected(),
            (Err(error), Self::TooLarge) => error.is_too_large(),
            (Err(error), Self::Disconnected) => error.is_disconnected(),
            (Err(error), Self::Timeout) => error.is_timeout(),
        };
        assert!(is_it, "{answer:?} instead of {self:?}");
    }
}
