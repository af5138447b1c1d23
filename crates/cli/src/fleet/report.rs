//! The output of `kakehi fleet`: text, or lines of JSON.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
};

use serde_json::{Value, json};

use super::Stop;
use crate::{
    escape::{escape_json, escape_lines},
    exit,
};

/// Standard output.
pub(super) struct Report {
    is_json: bool,
    is_terminal: bool,
    out: io::Stdout,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        let is_terminal = !is_json && io::stdout().is_terminal();
        let is_terminal = is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { is_json, is_terminal, out: io::stdout() }
    }

    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether text goes to a terminal that can move its cursor.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes text without escaping it.
    pub(super) fn raw(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints a line of text, or of JSON.
    pub(super) fn line(&mut self, text: &str, value: impl FnOnce() -> Value) -> io::Result<()> {
        self.text(text)?;
        self.json(value)
    }

    /// Prints a line of text, unless JSON is asked for. The caller escapes text from nodes.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.put(text) }
    }

    /// Prints a line of JSON, if that is asked for.
    pub(super) fn json(&mut self, value: impl FnOnce() -> Value) -> io::Result<()> {
        if !self.is_json {
            return Ok(());
        }
        let text = value().to_string();
        self.put(&escape_json(&text))
    }

    /// Prints on standard error.
    pub(super) fn aside(text: &str) {
        let mut err = io::stderr();
        // There is no other place to say so.
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// The exit status; an error is printed.
    pub(super) fn end(mut self, done: Result<u8, Stop>) -> u8 {
        match done {
            Ok(code) => code,
            Err(Stop(message, code)) => {
                let message = escape_lines(&message);
                // A failed write cannot be reported anywhere else.
                let _ = if self.is_json {
                    self.json(|| json!({ "event": "error", "error": message }))
                } else {
                    writeln!(io::stderr(), "kakehi: {message}")
                };
                code
            }
        }
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::BrokenPipe => exit::STDOUT_CLOSED,
            _ => exit::OUTPUT,
        };
        Self(error.to_string(), code)
    }
}
