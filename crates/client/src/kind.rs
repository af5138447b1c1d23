//! What happened, in one enum: what an error prints, and where its cause is.

use std::{error::Error as StdError, fmt, io, time::Duration};

use kakehi_channel::{Error as ChannelError, Refusal};

use crate::{clocks::Clock, connect::Unconnected};

pub(crate) enum Kind {
    /// The server's final response is ERROR.
    Answer {
        message: String,
        refusal: Option<Refusal>,
    },
    Unconnected(Unconnected),
    Clock {
        clock: Clock,
        during: During,
        cause: Option<Unconnected>,
    },
    Channel(ChannelError),
    OtherId {
        expected: String,
        found: String,
    },
    UnknownStatus,
    Unexpected,
    Closed,
    Over,
}

/// What was waited for when a clock ran out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum During {
    Turn,
    Connecting,
    Writing,
    Reading,
}

impl Kind {
    /// The caller's own clock for one response ran out.
    pub(crate) fn patience(after: Duration) -> Self {
        Self::Clock { clock: Clock::Timeout(after), during: During::Reading, cause: None }
    }

    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Unconnected(error) | Self::Clock { cause: Some(error), .. } => error.io_kind(),
            Self::Channel(error) => error.io_kind(),
            _ => None,
        }
    }

    pub(crate) fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unconnected(error) | Self::Clock { cause: Some(error), .. } => {
                error.source().map(|source| source as _)
            }
            Self::Channel(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { message, refusal: Some(_) } => {
                write!(f, "the server refused: {message}")
            }
            Self::Answer { message, .. } => write!(f, "the server answered ERROR: {message}"),
            Self::Unconnected(error) => error.fmt(f),
            Self::Clock { clock, during, cause } => {
                match clock {
                    Clock::Timeout(after) => write!(f, "timed out after {after:?}")?,
                    Clock::Deadline(after) => write!(f, "the deadline of {after:?} passed")?,
                }
                write!(f, " waiting {during}")?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Self::Channel(error) => error.fmt(f),
            Self::OtherId { expected, found } => {
                write!(f, "a response to the request {found:?} came instead of {expected:?}")
            }
            Self::UnknownStatus => f.write_str("the response has a status that is not known"),
            Self::Unexpected => f.write_str("a response was waiting that no request had asked for"),
            Self::Closed => {
                f.write_str("the connection is closed: a request on it failed, or was given up")
            }
            Self::Over => f.write_str("the final response was given out before"),
        }
    }
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "for a connection to be free",
            Self::Connecting => "to be connected",
            Self::Writing => "for the server to read the request",
            Self::Reading => "for a response",
        })
    }
}

impl From<ChannelError> for Kind {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<Unconnected> for Kind {
    fn from(error: Unconnected) -> Self {
        Self::Unconnected(error)
    }
}
