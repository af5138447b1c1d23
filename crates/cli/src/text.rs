//! Text of a certain form: durations, and lines of a certain width.

use std::{borrow::Cow, time::Duration};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Marks where a text was shortened. ASCII, because each terminal can show it.
const CUT: &str = "...";

/// A duration for a person: `3 ms`, `11.0 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => elapsed(duration),
    }
}

/// A duration in whole seconds: `0 s`, `11 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} m {:02} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {:02} m", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_form() {
        for (ms, exact, whole) in [
            (0, "0 ms", "0 s"),
            (3, "3 ms", "0 s"),
            (999, "999 ms", "0 s"),
            (1_000, "1.0 s", "1 s"),
            (11_031, "11.0 s", "11 s"),
            (59_999, "59.9 s", "59 s"),
            (60_000, "1 m 00 s", "1 m 00 s"),
            (125_000, "2 m 05 s", "2 m 05 s"),
            (3_720_000, "1 h 02 m", "1 h 02 m"),
            (273_600_000, "3 d 04 h", "3 d 04 h"),
        ] {
            let given = Duration::from_millis(ms);
            assert_eq!((&*duration(given), &*elapsed(given)), (exact, whole));
        }
    }

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
