//! Aligned columns.

use unicode_width::UnicodeWidthStr;

use crate::cli::{escape::escape, output::Paint};

/// What stands between two columns.
const GAP: usize = 2;

/// Rows under a header, each column as wide as its widest cell is on a terminal. The cells are made
/// harmless.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], paint: Paint) -> String {
    let header: Vec<_> = header.iter().map(ToString::to_string).collect();
    let escaped = |row: &Vec<String>| row.iter().map(|cell| escape(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(escaped).collect();
    let width = |column| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.width());
        cells.chain(header.get(column).map(|name: &String| name.width())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let mut out = paint.strong(&line(&header, &widths)) + "\n";
    for row in &rows {
        out += &line(row, &widths);
        out.push('\n');
    }
    out
}

/// Names and values, one pair on each line.
pub(crate) fn pairs(pairs: &[(&str, String)], paint: Paint) -> String {
    let widest = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let gap = " ".repeat(widest - name.width() + GAP);
        format!("{}{gap}{}\n", paint.strong(name), escape(value))
    };
    pairs.iter().map(line).collect()
}

fn line(cells: &[impl AsRef<str>], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().map(AsRef::as_ref).zip(widths) {
        line += cell;
        line += &" ".repeat(width.saturating_sub(cell.width()) + GAP);
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::When;

    const PLAIN: fn() -> Paint = || Paint::new(When::Never, true);

    #[test]
    fn columns_are_aligned_as_a_terminal_shows_them() {
        let row = |cells: [&str; 3]| cells.map(ToOwned::to_owned).to_vec();
        let rows = [
            row(["筧", "x", "end"]),
            row(["café\u{301}", "long cell", ""]),
            row(["a\x1bb", "", "z"]),
        ];
        let expected = "\
NAME    TWO        THREE
筧      x          end
cafe\u{301}\u{301}   long cell
a\\x1bb             z
";
        let shown = table(&["NAME", "TWO", "THREE"], &rows, PLAIN());
        let expected = expected.replace("cafe\u{301}\u{301}   ", "café\u{301}    ");
        assert_eq!(shown, expected);
    }

    #[test]
    fn pairs_are_aligned() {
        let shown = pairs(&[("version", "1\n2".into()), ("pid", "7".into())], PLAIN());
        assert_eq!(shown, "version  1\\n2\npid      7\n");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let shown =
            table(&["A", "B"], &[vec!["aa".into(), "b".into()]], Paint::new(When::Always, false));
        assert_eq!(shown, "\x1b[1mA   B\x1b[0m\naa  b\n");
    }
}
