//! Finds the end of the plain part of a long string.

use memchr::memchr2;

/// How many bytes are searched at once. A special byte costs at most one search of this size.
const STEP: usize = 1024;

/// The index of the first byte that ends a string or must be escaped in one: a quote, a backslash or
/// a control character.
#[inline(never)]
pub(super) fn first_special(bytes: &[u8]) -> Option<usize> {
    for (step, bytes) in bytes.chunks(STEP).enumerate() {
        let end = memchr2(b'"', b'\\', bytes);
        let plain = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        // Without branches, so that the compiler checks many bytes at once.
        let has_control = plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ';
        let control = if has_control { plain.iter().position(|byte| *byte < b' ') } else { None };
        if let Some(at) = control.or(end) {
            return Some(step * STEP + at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_at_each_place() {
        for special in [b'"', b'\\', b'\n', 0, 31] {
            for at in (0..40).chain(STEP - 40..STEP + 40).chain(2 * STEP - 2..2 * STEP + 2) {
                let mut bytes = vec![b' '; 2 * STEP + 9];
                assert_eq!(first_special(&bytes), None);
                bytes[at] = special;
                assert_eq!(first_special(&bytes), Some(at), "{special} at {at}");
                bytes[2 * STEP + 8] = b'"';
                assert_eq!(first_special(&bytes), Some(at), "{special} at {at}");
            }
        }
        assert_eq!(first_special("é\u{7f}~".as_bytes()), None);
    }
}
