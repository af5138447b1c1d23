//! What a run writes becomes its progress.

use std::{borrow::Cow, ops::Not, os::fd::AsFd};

use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_channel::Error;
use kakehi_server::Context;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    child::Pipes,
    lines::{Lines, Piece},
};

/// How many lines there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

/// Sends each line as it appears, in the order of its stream, no faster than the client reads:
/// nothing more is read before what was read is on its way. Ends when both pipes are closed; once
/// `over`, with what is in them.
///
/// # Errors
/// When a line cannot be sent. A client that left is no error.
pub(crate) async fn forward(
    context: &Context,
    pipes: Pipes,
    over: &CancellationToken,
) -> Result<Counts, Error> {
    let mut stdout = Lines::new(pipes.stdout);
    let mut stderr = Lines::new(pipes.stderr);
    let mut finishing = false;
    while stdout.is_open() || stderr.is_open() {
        // Whichever is ready; if both are, either: none can starve the other.
        let read = tokio::select! {
            read = stdout.fill(), if stdout.is_open() => read,
            read = stderr.fill(), if stderr.is_open() => read,
            () = over.cancelled(), if !finishing => {
                finishing = true;
                stdout.finish();
                stderr.finish();
                Ok(())
            }
        };
        if let Err(error) = read {
            warn!(%error, "cannot read what a job writes");
        }
        send(context, "stdout", &mut stdout).await?;
        send(context, "stderr", &mut stderr).await?;
    }
    Ok(Counts { stdout: stdout.count(), stderr: stderr.count() })
}

async fn send<R: AsyncRead + AsFd + Unpin>(
    context: &Context,
    stream: &'static str,
    lines: &mut Lines<R>,
) -> Result<(), Error> {
    while let Some(piece) = lines.next() {
        let (message, tag) = encode(stream, &piece);
        context.progress_with(message, &tag).await?;
    }
    Ok(())
}

/// The content of a line's PROCESSING. With its message, it tells each byte of the stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Tag {
    stream: &'static str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Not::not")]
    cut: bool,
    /// Said where there is none though it is the end of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    newline: Option<bool>,
    /// The bytes, where they are not UTF-8; the message is what can be shown of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn encode<'a>(stream: &'static str, piece: &Piece<'a>) -> (Cow<'a, str>, Tag) {
    let Piece { bytes, line, part, cut, newline } = *piece;
    let (message, base64) = match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => (String::from_utf8_lossy(bytes), Some(STANDARD.encode(bytes))),
    };
    let newline = (!newline && !cut).then_some(false);
    (message, Tag { stream, line, part, cut, newline, base64 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(piece: &Piece) -> serde_json::Value {
        let (message, tag) = encode("stdout", piece);
        json!([message, serde_json::to_value(tag).unwrap()])
    }

    #[test]
    fn a_message_and_its_content_tell_each_byte() {
        let line = Piece { bytes: b"", line: 7, part: None, cut: false, newline: true };
        let tag = json!({ "stream": "stdout", "line": 7 });
        assert_eq!(told(&Piece { bytes: "ä\r".as_bytes(), ..line }), json!(["ä\r", tag]));
        assert_eq!(told(&line), json!(["", tag]));
        assert_eq!(
            told(&Piece { bytes: b"a\xffb", ..line }),
            json!(["a\u{FFFD}b", { "stream": "stdout", "line": 7, "base64": "Yf9i" }]),
        );
        assert_eq!(
            told(&Piece { bytes: b"a", newline: false, ..line }),
            json!(["a", { "stream": "stdout", "line": 7, "newline": false }]),
        );
        assert_eq!(
            told(&Piece { bytes: b"a", part: Some(1), cut: true, newline: false, ..line }),
            json!(["a", { "stream": "stdout", "line": 7, "part": 1, "cut": true }]),
        );
        assert_eq!(
            told(&Piece { bytes: b"a", part: Some(2), newline: false, ..line }),
            json!(["a", { "stream": "stdout", "line": 7, "part": 2, "newline": false }]),
        );
    }
}
