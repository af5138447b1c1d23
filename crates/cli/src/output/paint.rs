//! Colours, where they are wanted.

use std::{env, ffi::OsStr};

use anstyle::{AnsiColor, Style};
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

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const STRONG: Style = Style::new().bold();

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
            // no-color.org: an empty NO_COLOR counts as unset.
            When::Auto => {
                is_terminal && !is_dumb() && env::var_os("NO_COLOR").unwrap_or_default().is_empty()
            }
        };
        Self { is_on }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with(GOOD, text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with(BAD, text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.with(STRONG, text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.is_on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Whether the terminal cannot move its cursor.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").as_deref() == Some(OsStr::new("dumb"))
}
