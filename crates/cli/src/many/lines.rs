//! Whole lines of each stream of a host, so that lines of hosts do not mix.

use crate::{output::To, text::tab_as_space, view::Line};

/// The longest line that waits for its end, in bytes.
const LONGEST: usize = 64 * 1024;
/// How much of the last line the table gets, in characters.
const SHOWN: usize = 256;

/// The unfinished lines of a host, and its last line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    unfinished: [Vec<u8>; 2],
    last: String,
}

impl Lines {
    /// Adds a line or a piece of one. Returns the lines that are finished, without their ends.
    pub(super) fn add(&mut self, Line { to, bytes, end }: Line) -> Vec<Vec<u8>> {
        let [stdout, stderr] = &mut self.unfinished;
        let waiting = if to == To::Stdout { stdout } else { stderr };
        waiting.extend_from_slice(&bytes);
        if end.is_empty() && waiting.len() < LONGEST {
            return vec![];
        }
        let whole = std::mem::take(waiting);
        let lines: Vec<_> = whole.split(|byte| *byte == b'\n').map(last_return).collect();
        for line in &lines {
            self.remember(line);
        }
        lines
    }

    /// The lines that have no end.
    pub(super) fn finish(&mut self) -> Vec<(To, Vec<u8>)> {
        let rest = std::mem::take(&mut self.unfinished);
        let rest = [To::Stdout, To::Stderr].into_iter().zip(rest);
        let rest: Vec<_> = rest.filter(|(_, line)| !line.is_empty()).collect();
        let rest: Vec<_> = rest.into_iter().map(|(to, line)| (to, last_return(&line))).collect();
        for (_, line) in &rest {
            self.remember(line);
        }
        rest
    }

    /// The last line that is not empty.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    fn remember(&mut self, line: &[u8]) {
        if !line.trim_ascii().is_empty() {
            self.last =
                String::from_utf8_lossy(line).chars().take(SHOWN).map(tab_as_space).collect();
        }
    }
}

/// The last text between two carriage returns, as a terminal would show it.
fn last_return(line: &[u8]) -> Vec<u8> {
    let mut texts = line.split(|byte| *byte == b'\r');
    texts.rfind(|text| !text.is_empty()).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(to: To, bytes: &[u8], end: &'static [u8]) -> Line {
        Line { to, bytes: bytes.to_vec(), end }
    }

    #[test]
    fn pieces_wait_for_the_end_of_their_line() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(line(To::Stdout, b"a\nb", b"\n")), [b"a", b"b"]);
        assert!(lines.add(line(To::Stdout, b"\r 10%", b"")).is_empty());
        assert_eq!(lines.add(line(To::Stderr, b"error", b"\n")), [b"error"]);
        assert!(lines.add(line(To::Stdout, b"\r 20%", b"")).is_empty());
        assert_eq!(lines.last(), "error");
        assert_eq!(lines.finish(), [(To::Stdout, b" 20%".to_vec())]);
        assert_eq!(lines.last(), " 20%");
        assert!(lines.finish().is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LONGEST];
        assert_eq!(lines.add(line(To::Stdout, &long, b"")).len(), 1);
        assert_eq!(lines.last().len(), SHOWN);
    }
}
