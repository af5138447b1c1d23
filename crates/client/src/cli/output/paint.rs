//! Colours, where they are wanted.

use std::{env, ffi::OsStr};

use clap::ValueEnum;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// The colours of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    pub(crate) const NONE: Self = Self { is_on: false };

    pub(crate) fn new(when: When, is_terminal: bool) -> Self {
        let is_on = match when {
            When::Always => true,
            When::Never => false,
            // An empty NO_COLOR is as none, says no-color.org.
            When::Auto => {
                is_terminal && !is_dumb() && env::var_os("NO_COLOR").unwrap_or_default().is_empty()
            }
        };
        Self { is_on }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A terminal that knows no more than a typewriter.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").as_deref() == Some(OsStr::new("dumb"))
}
