//! Escapes paths and texts, so that a terminal can print them and a shell can take them as one word.

use std::{fmt::Write, os::unix::ffi::OsStrExt, path::Path};

/// Returns a path as text for a terminal.
pub(super) fn show(path: &Path) -> String {
    if path.as_os_str().is_empty() { "\"\"".into() } else { escape(path.as_os_str().as_bytes()) }
}

/// Escapes characters that a terminal would interpret or hide, and bytes that are not UTF-8.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_unsafe(character) || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

/// Escapes a text and cuts it after 400 characters.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        None => escape(text.as_bytes()),
        Some((end, _)) => format!("{} ...", escape(text.get(..end).unwrap_or(text).as_bytes())),
    }
}

/// Returns a path as one word of a shell command.
pub(super) fn command(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@%:,=".contains(byte);
    // A leading hyphen would make it an option.
    let prefix = if bytes.starts_with(b"-") { "./" } else { "" };
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return format!("{prefix}{}", show(path));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_unsafe) => {
            format!("{prefix}'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let mut quoted = format!("{prefix}$'");
            for byte in bytes {
                if is_plain(byte) {
                    quoted.push(char::from(*byte));
                } else {
                    push_hex(&mut quoted, &[*byte]);
                }
            }
            quoted + "'"
        }
    }
}

/// Whether a character moves the cursor, ends the line, changes the writing direction, or is
/// invisible.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{AD}'
                | '\u{61C}'
                | '\u{180E}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E007F}'
        )
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (bytes, shown) in [
            (&b"/run/app.sock"[..], "/run/app.sock"),
            ("/run/筧 \"'.sock".as_bytes(), "/run/筧 \"'.sock"),
            (b"a\x1b[2Jb\n\r\t\x7f", r"a\u{1b}[2Jb\n\r\t\u{7f}"),
            ("\u{9b}31m\u{202e}\u{2028}\u{200b}".as_bytes(), r"\u{9b}31m\u{202e}\u{2028}\u{200b}"),
            (b"\xff\\n", r"\xff\\n"),
        ] {
            assert_eq!(escape(bytes), shown);
        }
        assert_eq!(show(Path::new("")), "\"\"");
        assert_eq!(excerpt(&"x".repeat(1000)).len(), 404);
    }

    #[test]
    fn a_command_is_one_word_of_a_shell() {
        for bytes in [
            &b"/run/app.sock"[..],
            b"/a b/$(x)'\"\\;&",
            b"-rf",
            b"- rf",
            b"/a\nb\x1b\xff",
            "/筧\u{202e}".as_bytes(),
        ] {
            let word = command(Path::new(OsStr::from_bytes(bytes)));
            assert!(!word.contains(char::is_control), "{word:?}");
            let output = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {word}")])
                .output();
            let Ok(output) = output else { return };
            let prefix: &[u8] = if bytes.starts_with(b"-") { b"./" } else { b"" };
            assert_eq!(output.stdout, [prefix, bytes].concat(), "{word}");
        }
    }
}
