//! A line that a job wrote, made of the progress that tells it.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::cli::{escape::escape_bytes, reply::Answer};

/// A line, or a piece of a long one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) is_stdout: bool,
    bytes: Cow<'a, [u8]>,
    has_end: bool,
}

impl<'a> Line<'a> {
    /// `None`: this progress is not a job's line.
    pub(crate) fn of(answer: &'a Answer) -> Option<Self> {
        let tag = answer.line()?;
        let bytes = match tag.base64.as_ref().and_then(|text| STANDARD.decode(text).ok()) {
            Some(bytes) => Cow::Owned(bytes),
            None => Cow::Borrowed(answer.response.message.as_bytes()),
        };
        Some(Self { is_stdout: tag.is_stdout, bytes, has_end: tag.has_end })
    }

    /// The bytes as the job wrote them, if that is asked for; else what a terminal can be given.
    pub(crate) fn show(&self, is_raw: bool) -> Vec<u8> {
        let escaped = if is_raw { None } else { Some(escape_bytes(&self.bytes)) };
        let bytes = escaped.as_ref().map_or(&*self.bytes, |text| text.as_bytes());
        [bytes, if self.has_end { b"\n" } else { b"" }].concat()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(message: &str, content: &Value) -> Answer {
        let text = json!({
            "id": "", "version": 0, "status": "PROCESSING", "message": message, "content": content,
        });
        Answer::of(&text.to_string())
    }

    #[test]
    fn each_byte_of_a_job_is_restored() {
        for (message, content, expected) in [
            ("hello", json!({ "stream": "stdout", "line": 1 }), &b"hello\n"[..]),
            ("", json!({ "stream": "stderr", "line": 1 }), b"\n"),
            ("hel", json!({ "stream": "stdout", "line": 1, "part": 1, "cut": true }), b"hel"),
            ("lo", json!({ "stream": "stdout", "line": 1, "part": 2 }), b"lo\n"),
            ("end", json!({ "stream": "stdout", "line": 2, "newline": false }), b"end"),
            ("?", json!({ "stream": "stdout", "line": 1, "base64": "/wA=" }), b"\xff\0\n"),
            ("?", json!({ "stream": "stdout", "line": 1, "base64": "no base64" }), b"?\n"),
        ] {
            let answer = answer(message, &content);
            assert_eq!(Line::of(&answer).unwrap().show(true), expected, "{content}");
        }
    }

    #[test]
    fn without_raw_a_line_is_harmless_and_stays_one_line() {
        let content = json!({ "stream": "stdout", "line": 1 });
        let shown = Line::of(&answer("a\n\x1b[2Jb\u{202e}", &content)).unwrap().show(false);
        assert_eq!(shown, b"a\\n\\x1b[2Jb\\u{202e}\n");
        let content = json!({ "stream": "stderr", "line": 1, "base64": "/xsb" });
        assert_eq!(Line::of(&answer("", &content)).unwrap().show(false), b"\\xff\\x1b\\x1b\n");
    }

    #[test]
    fn other_progress_is_no_line() {
        for content in [
            json!(null),
            json!([]),
            json!({ "done": 1, "total": 2 }),
            json!({ "stream": "stdin" }),
            json!({ "stream": 1 }),
        ] {
            assert_eq!(Line::of(&answer("", &content)), None, "{content}");
        }
    }
}
