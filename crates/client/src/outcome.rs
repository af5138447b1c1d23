//! What became of a request that has no good answer.

use std::fmt;

/// What became of a request that did not end in OK. It is never guessed: where the truth is not
/// known, it says so.
///
/// ```
/// assert_eq!(kakehi_client::Outcome::NotSent.to_string(), "not_sent");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing of it left this process. It can be sent again without a second thought.
    NotSent,
    /// The server said no before it started anything.
    Refused,
    /// The server answered that it failed.
    Failed,
    /// It was sent, at least in part, and then no answer came: it may have been done, may still be
    /// going on, or may never have been read.
    Unknown,
}

impl Outcome {
    /// Its name, as in logs and in JSON: `not_sent`, `refused`, `failed`, `unknown`.
    ///
    /// ```
    /// assert_eq!(kakehi_client::Outcome::Unknown.name(), "unknown");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
