//! Quotes a word for a shell on another machine.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::SshError;

/// Quotes a word, so that any shell takes it for one literal word. `sh`, `csh` and `fish` agree on
/// text in single quotes, except for `'`, `\` and `!`, which are escaped outside of them.
pub(super) fn quote(word: &OsStr) -> Result<String, SshError> {
    let text = word.to_str().filter(|text| !text.is_empty() && !text.contains(char::is_control));
    let Some(text) = text else { return Err(SshError::unquotable(word.as_bytes())) };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,@".contains(&byte);
    if text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for part in text.split_inclusive(['\'', '\\', '!']) {
        let plain = part.trim_end_matches(['\'', '\\', '!']);
        if !plain.is_empty() {
            quoted.extend(["'", plain, "'"]);
        }
        if let Some(last) = part.get(plain.len()..).filter(|last| !last.is_empty()) {
            quoted.extend(["\\", last]);
        }
    }
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_any_quoted_word_unchanged() {
        for word in
            ["/run/app.sock", "a b", "it's", r"\", "'", "!!", "$(id)`id`;&|<>*?~#\"", "筧", "-x"]
        {
            let quoted = quote(word.as_ref()).unwrap();
            for shell in ["sh", "bash", "fish", "tcsh", "zsh"] {
                let script = format!("printf %s {quoted}");
                let Ok(output) = std::process::Command::new(shell).args(["-c", &script]).output()
                else {
                    continue;
                };
                assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{shell}: {script}");
            }
        }
    }

    #[test]
    fn words_that_no_shell_can_read_are_refused() {
        for word in ["", "a\nb", "a\x1b"] {
            quote(word.as_ref()).unwrap_err();
        }
        quote(OsStr::from_bytes(b"\xff")).unwrap_err();
    }
}
