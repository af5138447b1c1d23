//! An output that nobody sees, for the probe.

use super::{Live, Options, Output};

impl Output {
    /// As a terminal has it, with the live line or without.
    pub(crate) fn captured(options: &Options, has_live: bool) -> Self {
        Self { live: has_live.then(Live::new), ..Self::new(options) }
    }

    /// Adds what the live line shows now.
    pub(crate) fn capture_live(&mut self, columns: usize) {
        if let Some(live) = &self.live {
            let text = live.text(columns);
            self.aside(text.as_bytes());
        }
    }

    /// All that would have been written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.queue.into_bytes()
    }
}
