//! The live line: what goes on, at the bottom of a terminal, and nothing of it left afterwards.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use humantime::format_duration;
use rustix::{stdio::stderr, termios::tcgetwinsize};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::pipe::Pipe;

/// How often the spinner turns.
pub(crate) const TICK: Duration = Duration::from_millis(100);

const SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
/// The width of the bar, in columns.
const BAR: usize = 24;
/// What is left free at the end: the terminal writes `^C` there.
const FREE: usize = 4;

/// A spinner, how long it takes, the last progress, and a bar if that tells how far it is. ASCII
/// around the message, so that each terminal can show it. It is first shown when the spinner first
/// turns: what is done at once does not flicker. Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct Live(Rc<RefCell<Line>>);

#[derive(Debug)]
struct Line {
    since: Instant,
    turns: usize,
    message: String,
    so_far: Option<(u64, u64)>,
    is_drawn: bool,
}

impl Live {
    /// On standard error, which is a terminal.
    pub(crate) fn new() -> Self {
        let (since, message) = (Instant::now(), String::new());
        Self(Rc::new(RefCell::new(Line {
            since,
            turns: 0,
            message,
            so_far: None,
            is_drawn: false,
        })))
    }

    /// Keeps a progress message, which must be harmless, to be shown from the next turn on.
    pub(crate) fn progress(&self, message: &str, content: Option<&Value>) {
        let line = &mut *self.0.borrow_mut();
        message.clone_into(&mut line.message);
        line.so_far = content.and_then(so_far).or(line.so_far);
    }

    /// Turns the spinner.
    pub(crate) fn turn(&self) {
        self.0.borrow_mut().turns += 1;
        self.show();
    }

    /// Draws the line, once it has turned.
    pub(crate) fn show(&self) {
        let line = &mut *self.0.borrow_mut();
        if line.turns > 0 {
            let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
            let columns = if columns == 0 { 80 } else { columns };
            write(&format!("\r{}\x1b[K", line.text(columns.saturating_sub(FREE))));
            line.is_drawn = true;
        }
    }

    /// What it shows now.
    pub(crate) fn text(&self, columns: usize) -> String {
        self.0.borrow().text(columns)
    }

    /// Takes the line away, until it is shown again.
    pub(crate) fn hide(&self) {
        let line = &mut *self.0.borrow_mut();
        if std::mem::take(&mut line.is_drawn) {
            write("\r\x1b[K");
        }
    }
}

impl Line {
    fn text(&self, columns: usize) -> String {
        let spinner = SPINNER.get(self.turns % SPINNER.len()).unwrap_or(&"");
        let elapsed = format_duration(Duration::from_secs(self.since.elapsed().as_secs()));
        let bar = self.so_far.map(|(done, total)| bar(done, total)).unwrap_or_default();
        let text = format!("{spinner} {elapsed} {bar}{}", self.message);
        cut(text.trim_end(), columns)
    }
}

fn bar(done: u64, total: u64) -> String {
    let part = u128::from(done.min(total)) * BAR as u128 / u128::from(total.max(1));
    let part = usize::try_from(part).unwrap_or(BAR);
    let head = if part < BAR { ">" } else { "" };
    format!("[{:<BAR$}] {done}/{total} ", "=".repeat(part) + head)
}

/// As much of `text` as `columns` show.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(3);
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    text.chars().take_while(fits).chain("...".chars()).collect()
}

/// `done` and `total`, if the content has both and they make sense.
fn so_far(content: &Value) -> Option<(u64, u64)> {
    let number = |name| {
        let value = content.get(name)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        value.as_u64().or_else(|| value.as_f64().map(|number| number as u64))
    };
    let (done, total) = (number("done")?, number("total")?);
    (total > 0).then_some((done, total))
}

fn write(text: &str) {
    Pipe::stderr().try_write(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_line_has_a_bar_once_it_is_known_how_far_it_is() {
        let live = Live::new();
        live.0.borrow_mut().turns = 2;
        live.progress("half", None);
        assert_eq!(live.0.borrow().text(80), "- 0s half");
        live.progress("half", Some(&json!({ "done": 5, "total": 10 })));
        assert_eq!(live.0.borrow().text(80), "- 0s [============>           ] 5/10 half");
        live.progress("done", Some(&json!({ "done": 12, "total": 10 })));
        assert_eq!(live.0.borrow().text(80), "- 0s [========================] 12/10 done");
        live.progress("a message", None);
        assert_eq!(live.0.borrow().text(20), "- 0s [===========...");
        live.progress("", Some(&json!({ "done": u64::MAX - 1, "total": u64::MAX })));
        assert!(live.0.borrow().text(80).starts_with("- 0s [=======================>] 1844"));
    }

    #[test]
    fn a_message_is_cut_where_the_terminal_ends() {
        for (text, columns, expected) in [
            ("hello", 5, "hello"),
            ("hello!", 5, "he..."),
            ("筧筧筧", 6, "筧筧筧"),
            ("筧筧筧筧", 6, "筧..."),
            ("hello", 0, "..."),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected, "{text}");
        }
    }

    #[test]
    fn a_bar_needs_two_numbers_that_make_sense() {
        for (content, expected) in [
            (json!({ "done": 3, "total": 10 }), Some((3, 10))),
            (json!({ "done": 0.5, "total": 1e300 }), Some((0, u64::MAX))),
            (json!({ "done": -3, "total": 10 }), Some((0, 10))),
            (json!({ "done": 11, "total": 10 }), Some((11, 10))),
            (json!({ "done": 0, "total": 0 }), None),
            (json!({ "done": "3", "total": 10 }), None),
            (json!({ "total": 10 }), None),
            (json!([3, 10]), None),
        ] {
            assert_eq!(so_far(&content), expected, "{content}");
        }
    }
}
