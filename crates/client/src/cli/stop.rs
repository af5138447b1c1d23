//! What keeps answers from being followed to the final one.

use kakehi_client::Error;

use super::{failure::Failure, output::Unwritable, reply::Answer};

/// Why the answers are not followed to the final one.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(Failure),
    /// There is no connection on which anything can be sent.
    Unreached(Failure),
    /// Nobody reads standard output.
    Closed,
}

impl From<Error<Answer>> for Stop {
    fn from(error: Error<Answer>) -> Self {
        let is_unreached = error.is_unconnected() && !error.is_wrong_server();
        // A server that closes a connection at once may have said why too early to be heard.
        let is_shut_out = error.is_not_sent() && error.is_disconnected();
        if is_unreached || is_shut_out {
            Self::Unreached(error.into())
        } else {
            Self::Failed(error.into())
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unwritable> for Stop {
    fn from(error: Unwritable) -> Self {
        match error {
            Unwritable::Closed => Self::Closed,
            Unwritable::Failed(error) => Self::Failed(Failure::output(&error)),
        }
    }
}
