//! Aligned columns.

use unicode_width::UnicodeWidthStr;

use super::Format;
use crate::{
    args::Options,
    escape::escape,
    output::{Output, Paint},
    text::shorten,
};

/// The columns between two cells.
const GAP: usize = 2;
/// The narrowest width that a column is shortened to.
const NARROW: usize = 5;

/// How a table looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) paint: Paint,
    /// The width to keep to; `None`: as wide as the cells are.
    pub(crate) columns: Option<usize>,
    pub(crate) format: Format,
    /// Whether the server runs on this machine, where its user ids have names.
    pub(crate) is_local: bool,
}

impl Style {
    pub(crate) fn of(output: &Output, options: &Options) -> Self {
        let is_local = options.is_local();
        let columns = output.columns().filter(|_| !options.no_trunc);
        Self { paint: output.paint, columns, format: options.output, is_local }
    }
}

/// Rows under a header. Each column is as wide as its widest cell. Where that is too wide, the widest
/// columns are shortened, but never the first one, which identifies the row. Cells are escaped.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], style: Style) -> String {
    if style.format == Format::Name {
        let line = |row: &Vec<String>| row.first().map(|name| format!("{}\n", escape(name)));
        return rows.iter().filter_map(line).collect();
    }
    let header: Vec<_> = header.iter().map(ToString::to_string).collect();
    let escaped = |row: &Vec<String>| row.iter().map(|cell| escape(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(escaped).collect();
    let width = |column| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.width());
        cells.chain(header.get(column).map(|name: &String| name.width())).max().unwrap_or(0)
    };
    let mut widths: Vec<_> = (0..header.len()).map(width).collect();
    let columns = style.columns.filter(|_| style.format == Format::Table);
    if let Some(columns) = columns {
        narrow(&mut widths, columns);
    }
    let line = |cells: &[String]| line(cells, &widths, columns);
    let mut out = style.paint.strong(&line(&header)) + "\n";
    for row in &rows {
        out += &line(row);
        out.push('\n');
    }
    out
}

/// Names and values, one pair on each line.
pub(crate) fn pairs(pairs: &[(&str, String)], style: Style) -> String {
    let widest = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let gap = " ".repeat(widest - name.width() + GAP);
        format!("{}{gap}{}\n", style.paint.strong(name), escape(value))
    };
    pairs.iter().map(line).collect()
}

/// Takes columns from the widest cells but the first, until all fit or are narrow.
fn narrow(widths: &mut [usize], columns: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns);
    while excess > 0 {
        let others = widths.iter_mut().skip(1);
        let Some(widest) = others.max_by_key(|width| **width).filter(|width| **width > NARROW)
        else {
            return;
        };
        *widest -= 1;
        excess -= 1;
    }
}

fn line(cells: &[String], widths: &[usize], columns: Option<usize>) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = shorten(cell, *width);
        line += &cell;
        line += &" ".repeat(width.saturating_sub(cell.width()) + GAP);
    }
    line.truncate(line.trim_end().len());
    match columns {
        Some(columns) => shorten(&line, columns).into_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::When;

    fn style(when: When) -> Style {
        let paint = Paint::new(when, true);
        Style { paint, columns: None, format: Format::Table, is_local: false }
    }

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(ToOwned::to_owned).to_vec()
    }

    #[test]
    fn columns_are_aligned_as_a_terminal_shows_them() {
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
        let shown = table(&["NAME", "TWO", "THREE"], &rows, style(When::Never));
        let expected = expected.replace("cafe\u{301}\u{301}   ", "café\u{301}    ");
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_widest_columns_are_shortened_to_the_width_of_the_terminal() {
        let rows = [row(["a-long-identifier", "a long cell", "a very long cell indeed"])];
        for (columns, expected) in [
            (55, "a-long-identifier  a long cell  a very long cell indeed"),
            (45, "a-long-identifier  a long cell  a very lon..."),
            (35, "a-long-identifier  a lo...  a ve..."),
            (25, "a-long-identifier  a ..."),
        ] {
            let style = Style { columns: Some(columns), ..style(When::Never) };
            let shown = table(&["NAME", "TWO", "THREE"], &rows, style);
            let line = shown.lines().nth(1).unwrap();
            assert!(line.starts_with(expected), "{columns}: {line:?}");
            assert!(line.width() <= columns, "{columns}: {line:?}");
        }
    }

    #[test]
    fn pairs_are_aligned() {
        let shown = pairs(&[("version", "1\n2".into()), ("pid", "7".into())], style(When::Never));
        assert_eq!(shown, "version  1\\n2\npid      7\n");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let shown = table(&["A", "B"], &[vec!["aa".into(), "b".into()]], style(When::Always));
        assert_eq!(shown, "\x1b[1mA   B\x1b[0m\naa  b\n");
    }
}
