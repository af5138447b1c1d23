//! Durations for a person, in one form.

use std::time::Duration;

/// A duration for a person: `3 ms`, `11.0 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => elapsed(duration),
    }
}

/// A duration in whole seconds: `0 s`, `11 s`, `2 m 05 s`, `1 h 02 m`, `3 d 04 h`.
#[must_use]
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} m {:02} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {:02} m", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
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
}
