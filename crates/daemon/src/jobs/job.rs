//! The declaration of a job.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use regex::Regex;
use serde::{Serialize, Serializer};

use super::{caller::Allow, progress::Source};

/// The declaration of one job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// A description for people.
    pub(crate) about: String,
    /// Where `run[0]` was found: an absolute path.
    pub(crate) program: PathBuf,
    /// The command line, not empty.
    pub(crate) run: Vec<String>,
    /// The arguments that callers may append, in order.
    pub(crate) args: Vec<Argument>,
    pub(crate) allow: Allow,
    /// How long a run may take; `None`: no limit.
    pub(crate) timeout: Option<Duration>,
    /// How many runs may go on at once, at least 1.
    pub(crate) at_once: usize,
    /// A run goes on when its client disconnects.
    pub(crate) finishes: bool,
    /// Environment variables besides `PATH` and `HOME`. They may replace both.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
    pub(crate) keep: Keep,
    /// How long a client may take no output before its run is ended; `None`: no limit.
    pub(crate) reader_timeout: Option<Duration>,
    pub(crate) progress: Option<Source>,
    /// Callers may give a standard input.
    pub(crate) stdin: bool,
    /// A caller on a terminal is asked before a run.
    pub(crate) confirm: bool,
}

/// The bounds on the kept runs of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Keep {
    /// The newest output of each run, in bytes. A quarter more may be kept.
    pub(crate) output: u64,
    /// The newest runs that are over.
    pub(crate) runs: usize,
    /// How long after its end.
    #[serde(skip)]
    pub(crate) age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { output: 4 * 1024 * 1024, runs: 100, age: 30 * DAY }
    }
}

/// An argument that a caller may append.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Argument {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Matches every allowed value.
    pub(crate) pattern: Pattern,
    /// The allowed values; empty: those that `pattern` matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) choices: Vec<String>,
    pub(crate) required: bool,
    /// The value if the caller gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    /// Whether logs and `status` hide the value.
    pub(crate) secret: bool,
}

/// The longest argument that is shown whole, in characters.
const MAX_SHOWN: usize = 128;
/// How many arguments of a run are shown.
const MAX_SHOWN_ARGS: usize = 32;

impl Job {
    /// Checks the arguments of a caller, and returns them with the defaults of those left out.
    ///
    /// # Errors
    /// Why the job does not take them.
    pub(crate) fn check(&self, args: &[String]) -> Result<Vec<String>, String> {
        let (name, most) = (&self.name, self.args.len());
        if args.len() > most {
            let given = args.len();
            return Err(match most {
                0 => format!("`{name}` takes no arguments"),
                _ => format!("`{name}` takes at most {most} arguments, not {given}"),
            });
        }
        let mut all = args.to_vec();
        for (index, declared) in self.args.iter().enumerate() {
            match (args.get(index), &declared.default) {
                (Some(arg), _) if declared.pattern.matches(arg) => {}
                (Some(_), _) => {
                    let (shown, wanted) = (declared.shown(index), declared.wanted());
                    return Err(format!("{shown} of `{name}` must {wanted}"));
                }
                (None, _) if declared.required => {
                    let (shown, wanted) = (declared.shown(index), declared.wanted());
                    return Err(format!("`{name}` needs {shown}, which must {wanted}"));
                }
                (None, Some(default)) => all.push(default.clone()),
                (None, None) => break,
            }
        }
        Ok(all)
    }

    /// Returns arguments as logs and `status` may show them: without secrets, and within bounds.
    pub(crate) fn shown(&self, args: &[String]) -> Vec<String> {
        let is_secret = |index: usize| self.args.get(index).is_some_and(|arg| arg.secret);
        let shown = args.iter().take(MAX_SHOWN_ARGS).enumerate().map(|(index, arg)| {
            match arg.char_indices().nth(MAX_SHOWN) {
                _ if is_secret(index) => "***".to_owned(),
                Some((end, _)) => format!("{}…", arg.get(..end).unwrap_or_default()),
                None => arg.clone(),
            }
        });
        shown.collect()
    }

    /// Whether any of the arguments is secret.
    pub(crate) fn has_secrets(&self, args: &[String]) -> bool {
        self.args.iter().take(args.len()).any(|arg| arg.secret)
    }

    /// Whether a caller may hand options to the program, as far as some tries can tell.
    pub(crate) fn takes_options(&self) -> bool {
        const TRIES: [&str; 6] = ["-", "-v", "-1", "--help", "--remove-files", "--output=file"];
        let may_be_option = |arg: &Argument| TRIES.iter().any(|option| arg.pattern.matches(option));
        !self.run.iter().any(|argument| argument == "--") && self.args.iter().any(may_be_option)
    }
}

impl Argument {
    /// An optional argument without a name.
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self { name: None, pattern, choices: vec![], required: false, default: None, secret: false }
    }

    fn shown(&self, index: usize) -> String {
        let number = index + 1;
        self.name.as_ref().map_or_else(
            || format!("argument {number}"),
            |name| format!("argument {number} ({name})"),
        )
    }

    fn wanted(&self) -> String {
        if self.choices.is_empty() {
            format!("match `{}`", self.pattern.text())
        } else {
            format!("be one of {}", self.choices.join(", "))
        }
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

    /// Matches exactly the given values.
    ///
    /// # Errors
    /// Why there are too many of them for one expression.
    pub(crate) fn of_choices(choices: &[String]) -> Result<Self, String> {
        let escaped: Vec<_> = choices.iter().map(|choice| regex::escape(choice)).collect();
        Self::new(&escaped.join("|"))
    }

    /// The text in the file.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Always false for an argument with a NUL byte, which no program can get.
    pub(crate) fn matches(&self, arg: &str) -> bool {
        !arg.contains('\0') && self.regex.is_match(arg)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
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
