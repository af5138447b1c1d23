//! A line that a job wrote, restored from a progress response.

use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_client::Response;

use crate::{
    content::{Content, Tag},
    output::To,
    reply::Answer,
};

/// A line, or a piece of a long one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) to: To,
    /// As the job wrote them, without the end of the line.
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: &'static [u8],
}

impl Line {
    /// An error returns the response, which is not a line of a job.
    pub(crate) fn of(answer: Answer) -> Result<Self, Box<Answer>> {
        if answer.line().is_none() {
            return Err(Box::new(answer));
        }
        // The JSON is not kept while the bytes are decoded.
        let Answer { json, response: Response { message, content, .. } } = answer;
        drop(json);
        let Some(Content::Line(Tag { is_stdout, base64, has_end })) = content else {
            return Ok(Self { to: To::Stdout, bytes: message.into_bytes(), end: b"" });
        };
        let decoded = base64.and_then(|text| STANDARD.decode(text).ok());
        let bytes = decoded.unwrap_or_else(|| message.into_bytes());
        let to = if is_stdout { To::Stdout } else { To::Stderr };
        Ok(Self { to, bytes, end: if has_end { b"\n" } else { b"" } })
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
            let line = Line::of(answer(message, &content)).unwrap();
            assert_eq!([&line.bytes, line.end].concat(), expected, "{content}");
        }
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
            assert!(Line::of(answer("", &content)).is_err(), "{content}");
        }
    }
}
