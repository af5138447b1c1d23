//! A job, as the file declares it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use regex::Regex;

use super::caller::Allow;

/// What may be run, by whom, and how.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// For a person.
    pub(crate) about: String,
    /// Where `run[0]` was found: an absolute path.
    pub(crate) program: PathBuf,
    /// The command line, not empty.
    pub(crate) run: Vec<String>,
    /// What callers may append, one pattern each.
    pub(crate) args: Vec<Pattern>,
    pub(crate) allow: Allow,
    /// How long it may run; `None`: without limit.
    pub(crate) timeout: Option<Duration>,
    /// How many of it may run at once, at least 1.
    pub(crate) at_once: usize,
    /// It goes on when its client leaves.
    pub(crate) finishes: bool,
    /// What it has besides `PATH` and `HOME`, or instead of them.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
}

impl Job {
    /// Whether callers may append `args`; if not, why.
    pub(crate) fn check(&self, args: &[String]) -> Result<(), String> {
        let (name, most) = (&self.name, self.args.len());
        if args.len() > most {
            let given = args.len();
            return Err(format!("`{name}` takes at most {most} arguments, not {given}"));
        }
        for (number, (arg, pattern)) in args.iter().zip(&self.args).enumerate() {
            if !pattern.matches(arg) {
                let (number, pattern) = (number + 1, pattern.text());
                return Err(format!("argument {number} of `{name}` must match `{pattern}`"));
            }
        }
        Ok(())
    }

    /// Whether a caller may hand options to the program, as far as some tries can tell.
    pub(crate) fn takes_options(&self) -> bool {
        const TRIES: [&str; 6] = ["-", "-v", "-1", "--help", "--remove-files", "--output=file"];
        let may_be_option = |pattern: &Pattern| TRIES.iter().any(|option| pattern.matches(option));
        !self.run.iter().any(|argument| argument == "--") && self.args.iter().any(may_be_option)
    }
}

/// A regular expression that all of an argument must match, anchored or not.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// # Errors
    /// Why `text` is not a regular expression, in one line.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        // Alone first: `a)|(b` is only one when it stands between our parentheses.
        Regex::new(text)
            .and_then(|_| Regex::new(&format!(r"\A(?:{text})\z")))
            .map(|regex| Self { text: text.to_owned(), regex })
            .map_err(|error| {
                let lines = error.to_string();
                let last = lines.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            })
    }

    /// As the file has it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// No argument can hold a NUL byte, whatever the pattern says.
    fn matches(&self, arg: &str) -> bool {
        !arg.contains('\0') && self.regex.is_match(arg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_must_match_all_of_an_argument() {
        for (pattern, yes, no) in [
            ("^[a-z0-9-]{1,32}$", "daily-2", "daily 2"),
            ("[a-z]+", "daily", "daily;"),
            ("a|ab", "ab", "abc"),
            ("^daily", "daily", "daily\n"),
            ("(?i)DAILY", "daily", "xdaily"),
            (".*", "", "two\nlines"),
            ("(?s).*", "two\nlines", "nul\0byte"),
            ("(?m)^a$", "a", "b\na\nb"),
            ("", "", "a"),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            assert!(pattern.matches(yes), "{pattern:?} {yes:?}");
            assert!(!pattern.matches(no), "{pattern:?} {no:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_in_one_line() {
        for (text, why) in [
            ("[a", "unclosed character class"),
            ("a)|(b", "unopened group"),
            ("(?x)a # )", "unclosed group"),
            ("a{1000}{1000}{1000}", "size limit"),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
