//! Sends the output of a run to a client.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    io,
    ops::Not,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_channel::ChannelError;
use kakehi_server::Context;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    chunk::{Chunk, End, Piece, Stream},
    runs::{Live, Next, Progress, Reader},
};

/// How a client gets output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// One response for each line.
    #[default]
    Lines,
    /// One response for all lines that are there.
    Pieces,
}

/// Which output a client gets, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) form: Form,
    /// Whether each response says when it was read.
    pub(crate) timestamps: bool,
    /// Only chunks that were read at this time or later.
    pub(crate) since_ms: u64,
    /// Only the last lines of the output that is kept now.
    pub(crate) tail: Option<u64>,
    /// How long the client may take nothing; `None`: no limit.
    pub(crate) patience: Option<Duration>,
}

/// Why output is no longer sent.
#[derive(Debug)]
pub(crate) enum Lost {
    /// A line is over the limit on responses.
    Unsendable(ChannelError),
    /// The client took nothing for this long.
    Stalled(Duration),
    Unreadable(io::Error),
}

/// Sends output to a client.
pub(crate) struct Follower<'a> {
    context: &'a Context,
    selection: Selection,
    /// The number of the next chunk.
    next: u64,
    /// Where the output begins, because of [`Selection::tail`]: the number of a chunk, and how many
    /// of its lines are skipped.
    from: (u64, u64),
}

impl<'a> Follower<'a> {
    pub(crate) fn new(context: &'a Context, selection: Selection) -> Self {
        Self { context, selection, next: 0, from: (0, 0) }
    }

    /// Sends the output of a run up to its end. `owner` waits for this client.
    ///
    /// # Errors
    /// Why the rest is not sent. A disconnect of the client is not an error.
    pub(crate) async fn follow(
        &mut self,
        reader: &mut Reader,
        owner: Option<&Live>,
    ) -> Result<(), Lost> {
        loop {
            let next = reader.next().await.map_err(Lost::Unreadable)?;
            if !self.send(next, owner).await? {
                return Ok(());
            }
        }
    }

    /// Sends the output that exists now.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub(crate) async fn catch_up(&mut self, reader: &mut Reader) -> Result<(), Lost> {
        loop {
            match reader.try_next().await.map_err(Lost::Unreadable)? {
                Next::Nothing | Next::End => return Ok(()),
                next => self.send(next, None).await?,
            };
        }
    }

    /// Finds the last [`Selection::tail`] lines of `reader`. Holds the lengths of the chunks that
    /// have them.
    ///
    /// # Errors
    /// If kept output cannot be read.
    pub(crate) async fn skip_to_tail(&mut self, mut reader: Reader) -> Result<(), Lost> {
        let Some(tail) = self.selection.tail else { return Ok(()) };
        let mut last = Tail::new(tail);
        while let Next::Chunks(chunks) = reader.try_next().await.map_err(Lost::Unreadable)? {
            for chunk in chunks.iter().filter(|chunk| chunk.at_ms >= self.selection.since_ms) {
                last.add(chunk.number, chunk.lines(), chunk.end != End::Cut);
            }
        }
        self.from = last.from();
        self.next = self.from.0;
        Ok(())
    }

    /// Returns `false` at the end.
    async fn send(&mut self, next: Next, owner: Option<&Live>) -> Result<bool, Lost> {
        match next {
            Next::Chunks(chunks) => {
                for chunk in &chunks {
                    self.chunk(chunk).await?;
                    if let Some(owner) = owner {
                        owner.take(chunk.bytes.len());
                    }
                }
            }
            Next::Progress(progress) => {
                let Progress { done, total } = progress;
                self.say(&format!("{done} of {total}"), &progress).await?;
            }
            Next::Nothing => {}
            Next::End => return Ok(false),
        }
        Ok(true)
    }

    async fn chunk(&mut self, chunk: &Chunk) -> Result<(), Lost> {
        let missing = chunk.number.saturating_sub(self.next);
        if missing > 0 {
            let gap = BTreeMap::from([("missing_chunks", missing)]);
            self.say("some output is no longer kept", &gap).await?;
        }
        self.next = self.next.max(chunk.number + 1);
        let (first, skipped) = self.from;
        if chunk.at_ms < self.selection.since_ms || chunk.number < first {
            return Ok(());
        }
        let mut skip = if chunk.number == first { skipped } else { 0 };
        let is_whole = self.selection.form == Form::Pieces && skip == 0;
        if is_whole && let Some((message, tag)) = whole(chunk, self.selection.timestamps) {
            match self.say(message, &tag).await {
                // Its lines may each be small enough.
                Err(Lost::Unsendable(_)) if tag.lines.is_some() => {}
                sent => return sent,
            }
        }
        for piece in chunk.pieces() {
            if skip > 0 {
                skip -= u64::from(!piece.cut);
                continue;
            }
            let (message, tag) = encode(chunk, &piece, self.selection.timestamps);
            self.say(&message, &tag).await?;
        }
        Ok(())
    }

    async fn say<T: Serialize + Sync>(&self, message: &str, content: &T) -> Result<(), Lost> {
        let sending = self.context.progress_with(message, content);
        let sent = match self.selection.patience {
            Some(limit) => timeout(limit, sending).await.map_err(|_| Lost::Stalled(limit))?,
            None => sending.await,
        };
        sent.map_err(Lost::Unsendable)
    }
}

/// The chunks that have the last lines.
#[derive(Debug)]
struct Tail {
    wanted: u64,
    /// Number and lines of each chunk, and whether it ends with a line.
    chunks: VecDeque<(u64, u64, bool)>,
    /// The sum of their lines.
    lines: u64,
    /// The number of the chunk after the last one.
    end: u64,
}

impl Tail {
    fn new(wanted: u64) -> Self {
        Self { wanted, chunks: VecDeque::new(), lines: 0, end: 0 }
    }

    fn add(&mut self, number: u64, lines: u64, is_end: bool) {
        self.chunks.push_back((number, lines, is_end));
        self.lines += lines;
        self.end = number + 1;
        // Keep the chunk in which the first wanted line begins.
        while let Some((_, first, is_end)) = self.chunks.front().copied()
            && self.lines - first >= self.wanted.saturating_add(u64::from(!is_end))
        {
            self.chunks.pop_front();
            self.lines -= first;
        }
    }

    /// Returns the number of the first chunk, and how many of its lines are skipped.
    fn from(&self) -> (u64, u64) {
        let first = self.chunks.front().map_or(self.end, |(number, ..)| *number);
        (first, self.lines.saturating_sub(self.wanted))
    }
}

/// The content of a response with output. With the message, it gives each byte of the stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Tag {
    stream: &'static str,
    line: u64,
    /// How many lines there are, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Not::not")]
    cut: bool,
    /// `false` at the end of a stream without a newline.
    #[serde(skip_serializing_if = "Option::is_none")]
    newline: Option<bool>,
    /// The bytes if they are not UTF-8. The message then has replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// All lines of a chunk as one response; `None` if they are not UTF-8.
fn whole(chunk: &Chunk, timestamps: bool) -> Option<(&str, Tag)> {
    let text = std::str::from_utf8(&chunk.bytes).ok()?;
    let message = if chunk.end == End::Newline { text.strip_suffix('\n')? } else { text };
    let lines = chunk.lines();
    let tag = Tag {
        stream: name(chunk.stream),
        line: chunk.line,
        lines: (lines > 1).then_some(lines),
        part: (chunk.part > 0 || chunk.end == End::Cut).then_some(chunk.part + 1),
        cut: chunk.end == End::Cut,
        newline: (chunk.end == End::Stream).then_some(false),
        base64: None,
        at_ms: timestamps.then_some(chunk.at_ms),
    };
    Some((message, tag))
}

fn encode<'a>(chunk: &Chunk, piece: &Piece<'a>, timestamps: bool) -> (Cow<'a, str>, Tag) {
    let Piece { bytes, line, part, cut, newline } = *piece;
    let (message, base64) = match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => (String::from_utf8_lossy(bytes), Some(STANDARD.encode(bytes))),
    };
    let newline = (!newline && !cut).then_some(false);
    let (stream, at_ms) = (name(chunk.stream), timestamps.then_some(chunk.at_ms));
    (message, Tag { stream, line, lines: None, part, cut, newline, base64, at_ms })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chunk(bytes: &[u8], part: u32, end: End) -> Chunk {
        Chunk {
            number: 0,
            at_ms: 5,
            stream: Stream::Stdout,
            line: 7,
            part,
            end,
            bytes: bytes.into(),
        }
    }

    fn lines(chunk: &Chunk) -> Value {
        let encoded = chunk.pieces().map(|piece| {
            let (message, tag) = encode(chunk, &piece, false);
            json!([message, tag])
        });
        encoded.collect()
    }

    #[test]
    fn the_tail_begins_in_the_chunk_that_has_its_first_line() {
        let from = |wanted, chunks: &[(u64, u64, bool)]| {
            let mut tail = Tail::new(wanted);
            for (number, lines, is_end) in chunks {
                tail.add(*number, *lines, *is_end);
            }
            tail.from()
        };
        // The first line of the last chunk begins in the chunk before.
        let chunks = [(4, 3, true), (5, 0, false), (6, 2, true)];
        assert_eq!(from(9, &chunks), (4, 0));
        assert_eq!(from(5, &chunks), (4, 0));
        assert_eq!(from(4, &chunks), (4, 1));
        assert_eq!(from(2, &chunks), (5, 0));
        assert_eq!(from(1, &chunks), (6, 1));
        assert_eq!(from(0, &chunks), (7, 0));
        assert_eq!(from(3, &[]), (0, 0));
    }

    #[test]
    fn a_message_and_its_content_give_each_byte() {
        let tag = json!({ "stream": "stdout", "line": 7 });
        assert_eq!(lines(&chunk("ä\r\n".as_bytes(), 0, End::Newline)), json!([["ä\r", tag]]));
        assert_eq!(lines(&chunk(b"\n", 0, End::Newline)), json!([["", tag]]));
        assert_eq!(
            lines(&chunk(b"a\xffb\n", 0, End::Newline)),
            json!([["a\u{FFFD}b", { "stream": "stdout", "line": 7, "base64": "Yf9i" }]]),
        );
        assert_eq!(
            lines(&chunk(b"a", 0, End::Stream)),
            json!([["a", { "stream": "stdout", "line": 7, "newline": false }]]),
        );
        assert_eq!(
            lines(&chunk(b"a", 0, End::Cut)),
            json!([["a", { "stream": "stdout", "line": 7, "part": 1, "cut": true }]]),
        );
        assert_eq!(
            lines(&chunk(b"a", 1, End::Stream)),
            json!([["a", { "stream": "stdout", "line": 7, "part": 2, "newline": false }]]),
        );
    }

    #[test]
    fn the_lines_of_a_chunk_can_be_one_response() {
        let whole = |chunk: &Chunk, timestamps| {
            whole(chunk, timestamps).map(|(message, tag)| json!([message, tag]))
        };
        assert_eq!(
            whole(&chunk(b"a\n\nb\n", 1, End::Newline), true),
            Some(
                json!(["a\n\nb", { "stream": "stdout", "line": 7, "lines": 3, "part": 2, "at_ms": 5 }])
            ),
        );
        let one = chunk(b"a\n", 0, End::Newline);
        assert_eq!(Some(lines(&one)[0].clone()), whole(&one, false));
        assert_eq!(whole(&chunk(b"a\xff\nb\n", 0, End::Newline), false), None);
    }
}
