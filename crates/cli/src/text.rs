//! Text of a certain form: durations, and lines of a certain width.

use std::borrow::Cow;

pub(crate) use kakehi_time::{duration, elapsed};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Marks where a text was shortened. ASCII, because each terminal can show it.
const CUT: &str = "...";

/// At most `columns` columns of `text`, with `...` at the end where it was shortened.
pub(crate) fn shorten(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut left = columns.saturating_sub(CUT.len());
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    Cow::Owned(text.chars().take_while(fits).chain(CUT.chars()).collect())
}

/// A space for a tab, of which the width depends on where it stands.
pub(crate) fn tab_as_space(character: char) -> char {
    if character == '\t' { ' ' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shortened_to_the_columns_of_a_terminal() {
        for (text, columns, expected) in [
            ("hello", 5, "hello"),
            ("hello!", 5, "he..."),
            ("筧筧筧", 6, "筧筧筧"),
            ("筧筧筧筧", 6, "筧..."),
            ("hello", 0, "..."),
            ("", 0, ""),
        ] {
            assert_eq!(shorten(text, columns), expected, "{text}");
        }
    }
}
