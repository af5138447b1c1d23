//! The words of a command line as the shell quotes them, and the completions that it can insert.

use std::{env, ffi::OsString, iter::Peekable, str::Chars};

/// Returns the word without its quotes, as the shell passes it to a program. Expands exported
/// variables and `~`. Does not run command substitutions.
pub(super) fn unquote(word: &str) -> OsString {
    let mut out = String::with_capacity(word.len());
    let mut rest = word.chars().peekable();
    if word == "~" || word.starts_with("~/") {
        out.push_str(&variable("HOME"));
        rest.next();
    }
    let mut is_double = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' => out.extend(rest.next()),
            '"' => is_double = !is_double,
            '\'' if !is_double => out.extend(rest.by_ref().take_while(|next| *next != '\'')),
            '$' => expand(&mut rest, &mut out),
            _ => out.push(character),
        }
    }
    out.into()
}

/// Expands `$NAME` and `${NAME}`.
fn expand(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let has_braces = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(next);
    }
    if has_braces {
        rest.next_if_eq(&'}');
    }
    out.push_str(&variable(&name));
}

fn variable(name: &str) -> String {
    if name.is_empty() {
        return "$".to_owned();
    }
    env::var(name).unwrap_or_default()
}

/// Whether a shell takes the word literally, without quotes. Servers choose some of the words, and
/// bash inserts them without quotes.
pub(super) fn is_literal(word: &str) -> bool {
    let is_plain = |character: char| {
        character.is_alphanumeric()
            || matches!(character, '_' | '-' | '.' | '/' | '@' | '%' | '+' | ',' | ':' | '=')
    };
    !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed_as_a_shell_does() {
        let home = env::var("HOME").unwrap_or_default();
        for (word, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("'a b'c", "a bc"),
            (r#""a 'b'"\ c"#, "a 'b' c"),
            (r#""open"#, "open"),
            ("'open", "open"),
            (r"end\", "end"),
            ("'$HOME'", "$HOME"),
            ("$", "$"),
            ("a$KAKEHI_TESTS_OF_NOTHING/b", "a/b"),
            ("$(true)", "$(true)"),
            ("~user", "~user"),
        ] {
            assert_eq!(unquote(word), expected, "{word}");
        }
        for word in ["~/s", "$HOME/s", "\"${HOME}\"/s"] {
            assert_eq!(unquote(word), *format!("{home}/s"), "{word}");
        }
    }

    #[test]
    fn a_word_that_a_shell_could_run_is_not_literal() {
        for word in ["warm", "0vc9qs0", "--pre", "--mode=fast", "grün", "/run/a.sock", "a:b", "50%"]
        {
            assert!(is_literal(word), "{word}");
        }
        for word in [
            "",
            "a b",
            "a\tb",
            "a\nb",
            "a\rb",
            "\x1b[31m",
            "a;b",
            "a&b",
            "a|b",
            "$(id)",
            "$HOME",
            "`id`",
            "'",
            "\"",
            "\\",
            "*",
            "?",
            "[a]",
            "{a,b}",
            "<a",
            ">a",
            "(a)",
            "#a",
            "!a",
            "~a",
            "=ls",
            "a\u{202e}b",
            "a\u{a0}b",
            "a\0b",
        ] {
            assert!(!is_literal(word), "{word:?}");
        }
    }
}
