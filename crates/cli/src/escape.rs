//! Escapes text of a server for a terminal.

use std::{borrow::Cow, fmt::Write};

/// Escapes each character that could move the cursor, change colours, hide or reorder text, or end
/// a line: C0 (the tab too), DEL, C1, bidirectional controls, and line and paragraph separators.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    replace(text, |out, character| match character {
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        // Writing into a string cannot fail.
        _ if character.is_ascii() => drop(write!(out, "\\x{:02x}", u32::from(character))),
        _ => drop(write!(out, "{}", character.escape_unicode())),
    })
}

/// The same for bytes. Bytes that are not UTF-8 become `\x9b`.
pub(crate) fn escape_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => escape(text),
        Err(_) => Cow::Owned(escape_chunks(bytes)),
    }
}

/// The same for text of several lines, whose ends stay.
pub(crate) fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// The same for valid JSON, which becomes one line of JSON with the same meaning.
pub(crate) fn escape_json(text: &str) -> Cow<'_, str> {
    replace(text, |out, character| match character {
        // In JSON, these occur only between tokens.
        '\t' | '\n' | '\r' => out.push(' '),
        _ => drop(write!(out, "\\u{:04x}", u32::from(character))),
    })
}

fn escape_chunks(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn replace(text: &str, put: impl Fn(&mut String, char)) -> Cow<'_, str> {
    // Most text is printable ASCII. The loop has no branch, so that the compiler vectorizes it.
    let is_plain = text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    if is_plain || !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if is_harmful(character) {
            put(&mut out, character);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::Value;

    use super::*;

    /// Any characters, many of them harmful.
    fn text() -> impl Strategy<Value = String> {
        let harmful = prop_oneof![
            0..0x20_u32,
            0x7f..0xa0_u32,
            Just(0x61c),
            0x2000..0x2070_u32,
            Just(u32::from('\\')),
        ];
        let character =
            prop_oneof![any::<char>(), harmful.prop_map(|c| char::from_u32(c).unwrap())];
        vec(character, 0..40).prop_map(|characters| characters.into_iter().collect())
    }

    /// The requirement, independent of the code.
    fn is_safe(text: &str) -> bool {
        text.chars().map(u32::from).all(|code| {
            !(code < 0x20
                || (0x7f..=0x9f).contains(&code)
                || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029].contains(&code)
                || (0x202a..=0x202e).contains(&code)
                || (0x2066..=0x2069).contains(&code))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_harmful_character_ever_comes_out(text in text()) {
            let shown = escape(&text);
            prop_assert!(is_safe(&shown), "{shown:?}");
            prop_assert!(is_safe(&escape_lines(&text).replace('\n', "")));
            prop_assert_eq!(escape(&shown), &*shown, "safe text does not change");
        }

        #[test]
        fn safe_text_is_not_copied(text in text()) {
            prop_assert_eq!(is_safe(&text), matches!(escape(&text), Cow::Borrowed(_)));
        }

        #[test]
        fn no_bytes_at_all_come_out_harmful(bytes in vec(any::<u8>(), 0..60)) {
            prop_assert!(is_safe(&escape_bytes(&bytes)));
        }

        #[test]
        fn json_stays_the_same_json_in_one_safe_line(key in text(), text in text()) {
            let value = Value::from_iter([(key, Value::from(text))]);
            for written in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let line = escape_json(&written);
                prop_assert!(is_safe(&line), "{line:?}");
                prop_assert_eq!(&serde_json::from_str::<Value>(&line).unwrap(), &value);
            }
        }
    }

    #[test]
    fn each_kind_of_harm_is_shown_in_its_own_way() {
        assert_eq!(escape("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
        assert_eq!(escape("a\tb\nc\rd\0"), "a\\tb\\nc\\rd\\x00");
        assert_eq!(escape("\u{7f}\u{9b}\u{85}"), "\\x7f\\u{9b}\\u{85}");
        assert_eq!(escape("gpj.\u{202e}exe\u{2066}\u{2028}"), "gpj.\\u{202e}exe\\u{2066}\\u{2028}");
        assert_eq!(escape_bytes(b"\xff\x9b31m\xc3\xa9\n"), "\\xff\\x9b31m\u{e9}\\n");
        assert_eq!(escape_json("{\"a\" :\n\t\"\u{202e}\u{7f}\"}"), "{\"a\" :  \"\\u202e\\u007f\"}");
        assert!(matches!(escape("grüße, 筧 👋"), Cow::Borrowed(_)));
    }
}
