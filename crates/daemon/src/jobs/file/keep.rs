//! Reads the bounds on kept runs: `keep = { output = "4 MiB", runs = 100, days = 30 }`.

use std::time::Duration;

use super::reader::{Reader, Value};
use crate::jobs::job::Keep;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A century.
const MAX_DAYS: usize = 36_500;

/// Reads the table. Keys that are absent keep their defaults.
pub(super) fn read(reader: &mut Reader, key: &str, value: &Value) -> Keep {
    let mut keep = Keep::default();
    let Some(table) = reader.table(key, value, "a table with `output`, `runs` or `days`") else {
        return keep;
    };
    for (inner, value) in table {
        let (span, inner) = (inner.span(), inner.get_ref().as_ref());
        let path = format!("{key}.{inner}");
        match inner {
            "output" => keep.output = output(reader, &path, value).unwrap_or(keep.output),
            "runs" => keep.runs = reader.count(&path, value).unwrap_or(keep.runs),
            "days" => {
                let days = reader.count(&path, value).unwrap_or(30).min(MAX_DAYS);
                keep.age = DAY * u32::try_from(days).unwrap_or(u32::MAX);
            }
            _ => {
                let text = format!("{path}: unknown key, expected `output`, `runs` or `days`");
                reader.problem(&span, &text);
            }
        }
    }
    keep
}

fn output(reader: &mut Reader, key: &str, value: &Value) -> Option<u64> {
    let what = "a size such as \"512 KiB\" or \"4 MiB\"";
    let size = size(reader.string(key, value, what)?);
    if size.is_none() {
        reader.expected(key, value, what);
    }
    size
}

/// Reads a number with one of the units B, KiB, MiB and GiB; `0` needs none.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let shift = match unit.trim_start() {
        "B" => 0,
        "" if number == 0 => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_binary_unit() {
        for (text, bytes) in [("0", 0), ("7 B", 7), ("2KiB", 2048), ("4 MiB", 4 << 20)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "7", "MiB", "1 MB", "-1 B", "99999999999 GiB", "1.5 MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
