//! The live part of the table, at the bottom of the terminal. It follows the rows of nodes that
//! have ended.
//!
//! The cursor stays at the start of the first row. If a terminal becomes narrower and wraps the
//! rows, all of them are still below the cursor. A row that the terminal moves into its history
//! cannot be erased. So the rows take at most half of the height: they fit when the width halves.

use std::{collections::BTreeMap, fmt::Write, time::Instant};

use kakehi_client::Response;
use kakehi_fleet::Name;
use rustix::termios::tcgetwinsize;

use super::rows::Counts;
use crate::{
    escape::escape,
    output::steps,
    text::{elapsed, shorten},
};

/// How many nodes are shown at most.
const ROWS: usize = 16;

/// The width of the bar of all nodes, and of one node's.
const BAR: usize = 20;
const SMALL_BAR: usize = 10;

/// The columns and rows of a terminal that does not tell its size.
const SIZE: (usize, usize) = (80, 24);

/// Cuts what exceeds the width. The terminal may become narrower while the rows are on their way.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Erases all rows from the cursor on, and keeps its place. First the row of the cursor: where the
/// rest of a whole screen is erased at once, tmux moves it into its history.
const ERASE: &str = "\r\x1b[K\x1b7\x1b[B\x1b[J\x1b8";

/// How much of a message is kept, in characters.
const KEPT: usize = 512;

/// A node that runs the request.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) since: Instant,
    /// The last message that is not empty.
    pub(super) last: String,
    /// The finished steps, and the total.
    steps: Option<(u64, u64)>,
}

impl Running {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), last: String::new(), steps: None }
    }

    pub(super) fn progress(&mut self, response: &Response) {
        if !response.message.is_empty() {
            self.last = response.message.chars().take(KEPT).collect();
        }
        let content = response.content.as_ref().map(ToString::to_string);
        self.steps = content.and_then(|content| steps(&content)).or(self.steps);
    }
}

/// The live part of the table.
#[derive(Debug)]
pub(super) struct Area {
    width: usize,
    nodes: usize,
    /// Whether it is on the screen.
    is_drawn: bool,
    /// Lines to print above the live part at the next draw.
    above: String,
}

impl Area {
    pub(super) fn new(width: usize, nodes: usize) -> Self {
        Self { width, nodes, is_drawn: false, above: String::new() }
    }

    /// Adds a permanent line above the live part.
    pub(super) fn above(&mut self, line: &str) {
        self.above.push_str(line);
        self.above.push('\n');
    }

    /// Returns the text to write to the terminal.
    pub(super) fn draw(
        &mut self,
        under_way: &BTreeMap<Name, Running>,
        queued: usize,
        counts: &Counts,
    ) -> String {
        let lines = self.lines(under_way, queued, counts, size());
        let mut text = self.close();
        let _ = write!(text, "{NO_WRAP}{}{WRAP}", lines.join("\n"));
        if lines.len() > 1 {
            let _ = write!(text, "\x1b[{}A", lines.len() - 1);
        }
        text.push('\r');
        self.is_drawn = true;
        text
    }

    /// Returns what removes the live part, and shows the rows that wait.
    pub(super) fn close(&mut self) -> String {
        let erase = if std::mem::take(&mut self.is_drawn) { ERASE } else { "" };
        erase.to_owned() + &std::mem::take(&mut self.above)
    }

    fn lines(
        &self,
        under_way: &BTreeMap<Name, Running>,
        queued: usize,
        counts: &Counts,
        (columns, height): (usize, usize),
    ) -> Vec<String> {
        let (done, width) = (counts.total(), self.width);
        let mut summary =
            format!("  {} {done}/{}", bar(done as u64, self.nodes as u64, BAR), self.nodes);
        for (count, what) in [(under_way.len(), "running"), (queued, "queued")] {
            if count > 0 {
                let _ = write!(summary, "  {what} {count}");
            }
        }
        if done > 0 {
            let _ = write!(summary, "  {}", counts.text("  "));
        }
        let mut lines = vec![summary];
        // Below the summary.
        let room = (height / 2).saturating_sub(1);
        let all = under_way.len();
        let shown = if all <= room.min(ROWS) { all } else { room.saturating_sub(1).min(ROWS) };
        for (name, running) in under_way.iter().take(shown) {
            let progress = running.steps.map_or_else(String::new, |(done, total)| {
                let percent = u128::from(done.min(total)) * 100 / u128::from(total.max(1));
                format!("{} {percent:>3}%", bar(done, total, SMALL_BAR))
            });
            let (time, last) = (elapsed(running.since.elapsed()), escape(&running.last));
            lines
                .push(format!("{name:width$}  {:10}  {progress:18}  {time:>6}  {last}", "running"));
        }
        if shown < all && room > 0 {
            lines.push(format!("  and {} more", all - shown));
        }
        // Some terminals wrap a row that fills the last column.
        let columns = columns.saturating_sub(1);
        lines.iter().map(|line| shorten(line, columns).into_owned()).collect()
    }
}

/// The columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(SIZE, |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

fn bar(done: u64, total: u64, width: usize) -> String {
    let part = u128::from(done.min(total)) * width as u128 / u128::from(total.max(1));
    let part = usize::try_from(part).unwrap_or(width);
    let head = if part < width { ">" } else { "" };
    format!("[{:<width$}]", "=".repeat(part) + head)
}

#[cfg(test)]
mod tests {
    use kakehi_fleet::Summary;
    use serde_json::json;

    use super::*;

    fn counts(ok: usize, failed: usize) -> Counts {
        let mut summary = Summary::default();
        (summary.ok, summary.failed) = (ok, failed);
        Counts { summary, cancelled: 0 }
    }

    #[test]
    fn the_live_part_has_a_bar_and_a_row_for_each_node_under_way() {
        let area = Area::new(6, 52);
        let mut running = Running::new();
        let mut response = Response::processing("x", "/srv/www\x1b[31m");
        response.content = Some(json!({ "done": 62, "total": 100 }));
        running.progress(&response);
        let under_way = BTreeMap::from([("web-07".parse().unwrap(), running)]);
        let lines = area.lines(&under_way, 26, &counts(21, 1), (200, 24));
        assert_eq!(
            lines[0],
            "  [========>           ] 22/52  running 1  queued 26  21 ok  1 failed"
        );
        assert_eq!(lines[1], "web-07  running     [======>   ]  62%      0 s  /srv/www\\x1b[31m");
        let short = area.lines(&under_way, 26, &counts(21, 1), (20, 24));
        assert!(short.iter().all(|line| line.len() < 20), "{short:?}");
    }

    #[test]
    fn what_was_drawn_is_removed_and_rows_stay_above_it() {
        let mut area = Area::new(4, 3);
        area.above("row 1");
        let first = area.draw(&BTreeMap::new(), 3, &Counts::default());
        assert!(first.starts_with("row 1\n\x1b[?7l  [>"), "{first:?}");
        assert!(first.ends_with("queued 3\x1b[?7h\r"), "{first:?}");
        area.above("row 2");
        let under_way = BTreeMap::from([("n".parse().unwrap(), Running::new())]);
        let second = area.draw(&under_way, 2, &Counts::default());
        assert!(
            second.starts_with("\r\x1b[K\x1b7\x1b[B\x1b[J\x1b8row 2\n\x1b[?7l  [>"),
            "{second:?}"
        );
        assert!(second.contains("queued 2\nn     running"), "{second:?}");
        // The cursor returns to the first row.
        assert!(second.ends_with("\x1b[?7h\x1b[1A\r"), "{second:?}");
        assert_eq!(area.close(), ERASE);
        assert_eq!(area.close(), "");
    }

    #[test]
    fn many_nodes_under_way_are_bounded() {
        let nodes = (0..100).map(|at| (format!("n-{at}").parse().unwrap(), Running::new()));
        let nodes = nodes.collect();
        let area = Area::new(4, 100);
        for (height, expected, more) in [
            (60, ROWS + 2, "  and 84 more"),
            (24, 12, "  and 90 more"),
            (10, 5, "  and 97 more"),
            (4, 2, "  and 100 more"),
        ] {
            let lines = area.lines(&nodes, 0, &Counts::default(), (80, height));
            assert_eq!((lines.len(), lines.last().unwrap().as_str()), (expected, more));
        }
        let lines = area.lines(&nodes, 0, &Counts::default(), (80, 2));
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
