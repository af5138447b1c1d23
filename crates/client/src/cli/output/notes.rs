//! A word in between.

use super::{live::Live, pipe::Pipe};
use crate::cli::escape::escape;

/// Says something on standard error while the output is in other hands.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    pub(super) live: Option<Live>,
    pub(super) is_silent: bool,
}

impl Notes {
    pub(crate) fn say(&self, text: &str) {
        if !self.is_silent {
            self.live.as_ref().inspect(|live| live.hide());
            let line = format!("{}\n", escape(text));
            // Not awaited: who is told may be who does not read.
            Pipe::stderr().try_write(line.as_bytes());
            self.live.as_ref().inspect(|live| live.show());
        }
    }
}
