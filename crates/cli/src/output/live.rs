//! The live line: progress at the bottom of a terminal, removed at the end.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::pipe::Pipe;
use crate::{
    escape::escape,
    text::{elapsed, shorten, tab_as_space},
};

/// How often the spinner turns.
pub(crate) const TICK: Duration = Duration::from_millis(100);

const SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
/// The largest and the smallest width of the bar, in columns. It takes a third of the terminal.
const BAR: (usize, usize) = (24, 6);
/// Columns left free at the end, because some terminals wrap a line that fills the last one.
const FREE: usize = 1;
/// How many characters of a message are kept: more than any terminal shows in a line.
const KEPT: usize = 1024;

/// A spinner, the elapsed time, the last progress message, and a bar if the progress has steps.
/// All but the message is ASCII, which each terminal can show. The line first appears when the
/// spinner first turns, so that a short request does not flicker. Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct Live(Rc<RefCell<Line>>);

#[derive(Debug)]
struct Line {
    since: Instant,
    turns: usize,
    message: String,
    /// Steps that are done, of how many.
    steps: Option<(u64, u64)>,
    /// The width of the terminal when the line was drawn; `None`: the line is hidden.
    drawn: Option<usize>,
}

impl Live {
    /// On standard error, which is a terminal.
    pub(crate) fn new() -> Self {
        let (since, message) = (Instant::now(), String::new());
        Self(Rc::new(RefCell::new(Line { since, turns: 0, message, steps: None, drawn: None })))
    }

    /// Keeps a progress message, to be shown from the next turn on.
    pub(crate) fn progress(&self, message: &str, steps: Option<(u64, u64)>) {
        let line = &mut *self.0.borrow_mut();
        // A tab has no width of its own.
        let kept: String = message.chars().take(KEPT).map(tab_as_space).collect();
        line.message = escape(&kept).into_owned();
        line.steps = steps.or(line.steps);
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
            let columns = columns();
            let text = line.text(columns.saturating_sub(FREE));
            // The cursor stays at the start of the line. A terminal that becomes narrower wraps the
            // line, and the cursor is then in the first of its rows.
            write(&format!("\r{}{text}\x1b[K\r", line.rest(columns)));
            line.drawn = Some(columns);
        }
    }

    /// The text that it shows now.
    pub(crate) fn text(&self, columns: usize) -> String {
        self.0.borrow().text(columns)
    }

    /// Removes the line, until it is shown again.
    pub(crate) fn hide(&self) {
        let line = &mut *self.0.borrow_mut();
        if line.drawn.is_some() {
            write(&format!("\r{}\x1b[K", line.rest(columns())));
            line.drawn = None;
        }
    }
}

impl Line {
    /// Erases the other rows of a line that a narrower terminal has wrapped.
    fn rest(&self, columns: usize) -> &'static str {
        if self.drawn.is_some_and(|drawn| drawn > columns) { "\x1b[J" } else { "" }
    }

    fn text(&self, columns: usize) -> String {
        let spinner = SPINNER.get(self.turns % SPINNER.len()).unwrap_or(&"");
        let elapsed = elapsed(self.since.elapsed());
        let bar = self.steps.map(|(done, total)| bar(done, total, columns)).unwrap_or_default();
        let text = format!("{spinner} {elapsed} {bar}{}", self.message);
        shorten(text.trim_end(), columns).into_owned()
    }
}

fn bar(done: u64, total: u64, columns: usize) -> String {
    let (most, least) = BAR;
    let width = (columns / 3).clamp(least, most);
    let part = u128::from(done.min(total)) * width as u128 / u128::from(total.max(1));
    let part = usize::try_from(part).unwrap_or(width);
    let head = if part < width { ">" } else { "" };
    format!("[{:<width$}] {done}/{total} ", "=".repeat(part) + head)
}

/// The numbers `done` and `total` of a progress response's content, if it has both.
pub(crate) fn steps(content: &str) -> Option<(u64, u64)> {
    #[derive(Deserialize)]
    struct Steps<'a> {
        #[serde(borrow)]
        done: &'a RawValue,
        #[serde(borrow)]
        total: &'a RawValue,
    }
    // serde takes an array for the fields of a struct.
    let object = Some(content).filter(|content| content.starts_with('{'))?;
    let Steps { done, total } = serde_json::from_str(object).ok()?;
    let (done, total) = (number(done.get())?, number(total.get())?);
    (total > 0).then_some((done, total))
}

/// Negative numbers are 0, and fractions are cut.
fn number(json: &str) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let saturated = |number: f64| number as u64;
    json.parse().ok().or_else(|| serde_json::from_str(json).ok().map(saturated))
}

fn columns() -> usize {
    Pipe::stderr().columns().unwrap_or(80)
}

fn write(text: &str) {
    Pipe::stderr().try_write(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_progress_with_steps_adds_a_bar() {
        let live = Live::new();
        live.0.borrow_mut().turns = 2;
        live.progress("half", None);
        assert_eq!(live.0.borrow().text(80), "- 0 s half");
        live.progress("half", Some((5, 10)));
        assert_eq!(live.0.borrow().text(80), "- 0 s [============>           ] 5/10 half");
        live.progress("done", Some((12, 10)));
        assert_eq!(live.0.borrow().text(80), "- 0 s [========================] 12/10 done");
        live.progress("a\tmessage", None);
        assert_eq!(live.0.borrow().text(36), "- 0 s [============] 12/10 a message");
        assert_eq!(live.0.borrow().text(20), "- 0 s [======] 12...");
        live.progress("", Some((u64::MAX - 1, u64::MAX)));
        assert!(live.0.borrow().text(80).starts_with("- 0 s [=======================>] 1844"));
    }

    #[test]
    fn a_bar_needs_two_numbers() {
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
            assert_eq!(steps(&content.to_string()), expected, "{content}");
        }
    }
}
