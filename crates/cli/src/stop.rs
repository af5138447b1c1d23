//! Why the responses to a request are not read up to the final one.

use kakehi_client::{Error, ErrorKind, Outcome};

use super::{confirm::Unconfirmed, failure::Failure, output::Unwritable, reply::Answer};

/// Why the responses to a request are not read up to the final one.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(Failure),
    /// The server cannot be reached.
    Unreached(Failure),
    /// The reader closed standard output.
    Closed,
    Again(Again),
}

/// Why another request must be sent. The server has started nothing.
#[derive(Debug)]
pub(crate) enum Again {
    /// The user must confirm the run, and can be asked.
    Unconfirmed(Unconfirmed),
    /// The server does not know the command or a field of it, and there is a request that other servers
    /// know.
    Otherwise,
}

impl From<Error<Answer>> for Stop {
    fn from(error: Error<Answer>) -> Self {
        let is_unreached = error.kind() == ErrorKind::Unconnected;
        // A server that refuses a connection may close it before its reason can be read.
        let is_shut_out =
            error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Disconnected;
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
            Unwritable::Late => Self::Failed(Failure::unread()),
            Unwritable::Failed(error) => Self::Failed(Failure::output(&error)),
        }
    }
}
