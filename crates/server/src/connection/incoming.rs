//! What comes from a client.

use kakehi_channel::{Error, Refusal, Request};
use tracing::debug;

/// The next thing of it.
pub(crate) enum Incoming<C> {
    Request(Request<C>),
    /// Something that is answered by a refusal; `last`: nothing can be read behind it.
    Unusable {
        id: String,
        why: Refusal,
        message: String,
        last: bool,
    },
    End,
}

impl<C> Incoming<C> {
    pub(super) fn last(why: Refusal, message: String) -> Self {
        Self::Unusable { id: String::new(), why, message, last: true }
    }

    pub(super) fn error(error: &Error, id_of: fn(&[u8]) -> Option<String>) -> Self {
        if error.io_kind().is_some() {
            debug!(%error, "the connection failed");
            return Self::End;
        }
        let why = if error.is_too_large() { Refusal::TooLarge } else { Refusal::Malformed };
        let id = error.payload().and_then(|payload| id_of(payload)).unwrap_or_default();
        Self::Unusable { id, why, message: error.to_string(), last: error.is_fatal() }
    }
}
