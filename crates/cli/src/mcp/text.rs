//! Parts of a text within a size.

/// The start of a text, of at most `size` bytes.
pub(super) fn start(text: &str, size: usize) -> &str {
    let mut end = size.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The end of a text, of at most `size` bytes.
pub(super) fn end(text: &str, size: usize) -> &str {
    let mut start = text.len().saturating_sub(size);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut() {
        for (size, first, last) in [(0, "", ""), (1, "a", ""), (3, "aé", "é"), (9, "aéé", "aéé")]
        {
            assert_eq!((start("aéé", size), end("aéé", size)), (first, last), "{size}");
        }
    }
}
