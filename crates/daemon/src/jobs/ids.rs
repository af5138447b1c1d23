//! Ids of runs: unique within a daemon, short, and sorted by time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01T00:00:00Z, in seconds since the Unix epoch.
const START: Duration = Duration::from_secs(1_767_225_600);
/// Ids per second before ids run ahead of the clock.
const PER_SECOND: u128 = 32;
/// Digits of an id. Seven digits last until 2060.
const DIGITS: usize = 7;
/// Base 32 without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Returns the number of the next run: larger than `last`, and at least the present time.
pub(crate) fn next(last: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH + START).unwrap_or_default();
    let now = since.as_micros() * PER_SECOND / 1_000_000;
    u64::try_from(now).unwrap_or(u64::MAX).max(last.saturating_add(1))
}

/// Writes the number of a run as its id.
pub(crate) fn encode(number: u64) -> String {
    let (mut digits, mut rest) = (vec![], number);
    while rest > 0 || digits.len() < DIGITS {
        let digit = usize::try_from(rest % 32).unwrap_or_default();
        digits.push(ALPHABET.get(digit).copied().unwrap_or(b'0'));
        rest /= 32;
    }
    digits.iter().rev().copied().map(char::from).collect()
}

/// Reads the id of a run.
pub(crate) fn decode(id: &str) -> Option<u64> {
    let digit = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte);
    id.bytes().try_fold(0_u64, |number, byte| {
        number.checked_mul(32)?.checked_add(u64::try_from(digit(byte)?).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_unique_and_sorted_by_time() {
        let mut last = 0;
        let ids: Vec<_> = (0..1000)
            .map(|_| {
                last = next(last);
                encode(last)
            })
            .collect();
        assert!(ids.iter().all(|id| id.len() == DIGITS), "{:?}", ids.first());
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_repeat_an_id() {
        assert_eq!(next(u64::MAX - 1), u64::MAX);
        assert_eq!(encode(33), "0000011");
        assert_eq!(decode("0000011"), Some(33));
        assert_eq!(decode(&encode(u64::MAX)), Some(u64::MAX));
        assert_eq!(decode("0000o11"), None);
    }
}
