//! Lines with carriage returns, as a terminal shows them: the last text between two of them.

use super::line::Line;

/// The longest text that waits for the end of its line, in bytes.
const LONGEST: usize = 4096;

/// The text after the last carriage return of a line that has no end yet.
#[derive(Debug, Default)]
pub(super) struct Returns {
    waiting: Option<Vec<u8>>,
}

/// The part of a line to show.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Line(Line),
    /// The line is not over: only the live line shows this text.
    Live(String),
}

impl Returns {
    /// Adds a line, or a piece of one.
    pub(super) fn add(&mut self, line: Line) -> Shown {
        if self.waiting.is_none() && !line.bytes.contains(&b'\r') {
            return Shown::Line(line);
        }
        let Line { to, bytes, end } = line;
        let whole = [self.waiting.take().unwrap_or_default(), bytes].concat();
        let texts = || whole.split(|byte| *byte == b'\r');
        let last = texts().rfind(|text| !text.is_empty()).unwrap_or_default().to_vec();
        if !end.is_empty() || last.len() > LONGEST {
            return Shown::Line(Line { to, bytes: last, end });
        }
        let text = String::from_utf8_lossy(last.trim_ascii()).into_owned();
        let is_over = whole.ends_with(b"\r");
        self.waiting = Some(if is_over { [last, b"\r".to_vec()].concat() } else { last });
        Shown::Live(text)
    }

    /// The text that still waits, once nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut rest = self.waiting.take().unwrap_or_default();
        rest.truncate(rest.trim_ascii_end().len());
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::To;

    fn line(text: &str, end: &'static [u8]) -> Line {
        Line { to: To::Stdout, bytes: text.into(), end }
    }

    #[test]
    fn only_the_last_text_between_carriage_returns_is_a_line() {
        let mut returns = Returns::default();
        let live = |text: &str| Shown::Live(text.to_owned());
        for (piece, end, shown) in [
            ("plain", &b"\n"[..], Shown::Line(line("plain", b"\n"))),
            ("no end", b"", Shown::Line(line("no end", b""))),
            ("dos\r", b"\n", Shown::Line(line("dos", b"\n"))),
            ("\r 10%", b"", live("10%")),
            ("\r 2", b"", live("2")),
            ("0%", b"", live("20%")),
            (" done", b"\n", Shown::Line(line(" 20% done", b"\n"))),
            ("30%\r", b"", live("30%")),
            ("40%", b"\n", Shown::Line(line("40%", b"\n"))),
            ("50%\r", b"", live("50%")),
        ] {
            assert_eq!(returns.add(line(piece, end)), shown, "{piece:?}");
        }
        assert_eq!(returns.finish(), b"50%");
        assert_eq!(returns.finish(), b"");
    }
}
