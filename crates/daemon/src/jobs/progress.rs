//! The progress that a job reports in its output, or by lines to `$KAKEHI_PROGRESS_FD`.

use std::sync::Arc;

use regex::bytes::Regex;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};

use super::runs::{Live, Progress};

/// The longest line of the descriptor, in bytes.
const MAX_LINE: usize = 256;

/// How a job reports progress.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// By lines to `$KAKEHI_PROGRESS_FD`.
    Descriptor,
    Output(Rule),
}

/// How to find progress in output.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    regex: Regex,
    /// The only group is a percentage.
    is_percent: bool,
}

impl Rule {
    /// The last percentage, such as `37%` or `37.5 %`.
    ///
    /// # Errors
    /// Never: the pattern is constant.
    pub(crate) fn percent() -> Result<Self, String> {
        let regex = Regex::new(r"(\d{1,3})(?:[.,]\d+)?\s?%").map_err(|error| error.to_string())?;
        Ok(Self { regex, is_percent: true })
    }

    /// A pattern with two groups: the finished steps, and the total.
    ///
    /// # Errors
    /// Why `text` is not a valid pattern, in one line.
    pub(crate) fn pattern(text: &str) -> Result<Self, String> {
        let regex = Regex::new(text).map_err(|error| {
            let lines = error.to_string();
            lines.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        if regex.captures_len() != 3 {
            return Err("expected two groups: what is done, and the total".to_owned());
        }
        Ok(Self { regex, is_percent: false })
    }

    /// Returns the last progress in `bytes`.
    pub(crate) fn last(&self, bytes: &[u8]) -> Option<Progress> {
        let captures = self.regex.captures_iter(bytes).last()?;
        let number = |group| {
            let text = std::str::from_utf8(captures.get(group)?.as_bytes()).ok()?;
            text.parse::<u64>().ok()
        };
        let total = if self.is_percent { 100 } else { number(2)? };
        Some(Progress { done: number(1)?, total }).filter(|progress| progress.done <= total)
    }
}

/// Reads `37%`, `3/10` or `3 10` at the start of a line.
fn line(text: &[u8]) -> Option<Progress> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let percent = text.strip_suffix('%').map(|percent| (percent, "100"));
    let (done, total) = percent.or_else(|| text.split_once(['/', ' ']))?;
    let progress = Progress { done: done.trim().parse().ok()?, total: total.trim().parse().ok()? };
    Some(progress).filter(|progress| progress.done <= progress.total)
}

/// Reads the lines of the descriptor until the run closes it. Never fails: lines that report no
/// progress are ignored.
pub(crate) async fn follow(mut pipe: Receiver, live: Arc<Live>) {
    let mut buffer = vec![];
    while let Ok(count) = pipe.read_buf(&mut buffer).await
        && count > 0
    {
        let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut lines = buffer.get(..end).unwrap_or_default().rsplit(|byte| *byte == b'\n');
        if let Some(progress) = lines.find_map(line) {
            live.set_progress(progress);
        }
        buffer.drain(..end);
        if buffer.len() > MAX_LINE {
            buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with options")]
    fn progress(done: u64, total: u64) -> Option<Progress> {
        Some(Progress { done, total })
    }

    #[test]
    fn the_last_percentage_of_an_output_counts() {
        let rule = Rule::percent().unwrap();
        assert_eq!(rule.last(b"\r 3%\r 41.7 %"), progress(41, 100));
        assert_eq!(rule.last(b"100%\xff"), progress(100, 100));
        for text in ["7", "101%", "%"] {
            assert_eq!(rule.last(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_has_two_groups() {
        let rule = Rule::pattern(r"step (\d+) of (\d+)").unwrap();
        assert_eq!(rule.last(b"step 1 of 9\nstep 2 of 9\n"), progress(2, 9));
        assert_eq!(rule.last(b"step 9 of 2"), None);
        assert!(Rule::pattern(r"(\d+)").unwrap_err().contains("two groups"));
        assert!(Rule::pattern("(").unwrap_err().contains("unclosed group"));
    }

    #[test]
    fn a_line_of_the_descriptor_has_a_percentage_or_two_numbers() {
        assert_eq!(line(b"37%"), progress(37, 100));
        assert_eq!(line(b"3/10\r"), progress(3, 10));
        assert_eq!(line(b"3 10"), progress(3, 10));
        for text in ["", "x", "3", "11/10", "-1/10"] {
            assert_eq!(line(text.as_bytes()), None, "{text}");
        }
    }

    #[tokio::test]
    async fn the_descriptor_is_read_line_by_line_in_bounded_memory() {
        use tokio::{io::AsyncWriteExt, net::unix::pipe::pipe};
        let (mut sender, receiver) = pipe().unwrap();
        let live = Live::new(None);
        let reading = tokio::spawn(follow(receiver, Arc::clone(&live)));
        sender.write_all(&[b'x'; 10_000]).await.unwrap();
        sender.write_all(b"\n1/4\n2/4\n3/").await.unwrap();
        drop(sender);
        reading.await.unwrap();
        assert_eq!(live.progress(), progress(2, 4));
    }
}
