//! What hinders a value from being written.

use std::fmt;

use serde::ser;

use crate::buffer::Full;

/// Why a value was not written.
#[derive(Debug)]
pub(in super::super) enum Unwritten {
    Full(Full),
    Json(serde_json::Error),
}

impl Unwritten {
    /// Tells a full buffer from a value that JSON cannot express.
    pub(super) fn of(error: serde_json::Error) -> Self {
        if !error.is_io() {
            return Self::Json(error);
        }
        let error = std::io::Error::from(error);
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()) {
            Some(full) => Self::Full(*full),
            None => Self::Json(ser::Error::custom(error)),
        }
    }
}

impl From<Full> for Unwritten {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl ser::Error for Unwritten {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Json(ser::Error::custom(message))
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Json(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unwritten {}
