//! Reads typed values from a TOML document, and collects all problems.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::Problem;

pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// Collects the problems of a document.
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
    /// How many of them are about the syntax.
    syntax: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: vec![], syntax: 0 }
    }

    /// Records one problem per line, because the parser reports one mistake several times.
    pub(super) fn syntax(&mut self, span: Option<Range<usize>>, message: &str) {
        let line = self.line(span.map_or(self.text.len(), |span| span.start));
        if self.problems.iter().all(|problem| problem.line != line) {
            self.problems.push(Problem { line, text: message.to_owned() });
            self.syntax += 1;
        }
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, text: &str) {
        let line = self.line(span.start);
        // The text is shown in logs and on terminals.
        let text = text.replace(char::is_control, "\u{FFFD}");
        self.problems.push(Problem { line, text });
    }

    /// Records that `key` should be `what`.
    pub(super) fn expected(&mut self, key: &str, value: &Value, what: &str) {
        let found = describe(value.get_ref());
        self.problem(&value.span(), &format!("{key}: expected {what}, found {found}"));
    }

    /// Records that a value is missing, unless a syntax error may have hidden it.
    pub(super) fn missing(&mut self, span: &Range<usize>, text: &str) {
        if self.syntax == 0 {
            self.problem(span, text);
        }
    }

    pub(super) fn string<'v>(
        &mut self,
        key: &str,
        value: &'v Value,
        what: &str,
    ) -> Option<&'v str> {
        match value.get_ref() {
            // The system accepts no string with a NUL byte.
            DeValue::String(text) if !text.contains('\0') => Some(text),
            _ => {
                self.expected(key, value, what);
                None
            }
        }
    }

    /// Returns `false` if the value is not a boolean.
    pub(super) fn boolean(&mut self, key: &str, value: &Value) -> bool {
        if let DeValue::Boolean(boolean) = value.get_ref() {
            return *boolean;
        }
        self.expected(key, value, "true or false");
        false
    }

    /// Returns the strings of an array, each with its position.
    pub(super) fn strings<'v>(
        &mut self,
        key: &str,
        value: &'v Value,
        what: &str,
    ) -> Vec<(&'v str, Range<usize>)> {
        let DeValue::Array(values) = value.get_ref() else {
            self.expected(key, value, what);
            return vec![];
        };
        let mut strings = vec![];
        for (index, value) in values.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if let Some(text) = self.string(&key, value, "a string") {
                strings.push((text, value.span()));
            }
        }
        strings
    }

    pub(super) fn table<'v, 'd>(
        &mut self,
        key: &str,
        value: &'v Value<'d>,
        what: &str,
    ) -> Option<&'v DeTable<'d>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.expected(key, value, what);
        None
    }

    pub(super) fn count(&mut self, key: &str, value: &Value) -> Option<usize> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        // The maximum of a semaphore.
        let number =
            number.filter(|number| (1..=tokio::sync::Semaphore::MAX_PERMITS).contains(number));
        if number.is_none() {
            self.expected(key, value, "a whole number, at least 1");
        }
        number
    }

    /// Zero means no limit.
    pub(super) fn duration(&mut self, key: &str, value: &Value) -> Option<Duration> {
        let what = "a duration such as \"10m\" or \"1h 30m\"";
        let text = self.string(key, value, what)?;
        match humantime::parse_duration(text) {
            Ok(duration) => Some(duration).filter(|duration| !duration.is_zero()),
            Err(error) => {
                let text = format!("{key}: expected {what}, found {text:?}: {error}");
                self.problem(&value.span(), &text);
                None
            }
        }
    }

    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        1 + before.filter(|byte| *byte == b'\n').count()
    }
}

fn describe(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
