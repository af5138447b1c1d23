//! What is said when there is no good answer: to a person in three parts, to a program in a word.

mod causes;
#[cfg(test)]
mod tests;

use std::io;

use kakehi_client::Outcome;
use serde_json::json;

use super::{
    escape::{escape, escape_json},
    exit,
    reply::Answer,
};

/// Why the client ends without OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) code: u8,
    /// For a program.
    pub(crate) word: &'static str,
    /// What became of the request.
    pub(crate) outcome: Outcome,
    /// What happened.
    pub(crate) what: String,
    pub(crate) why: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Failure {
    /// Of nothing that was sent.
    pub(crate) fn unsent(code: u8, word: &'static str, parts: [&str; 3]) -> Self {
        Self::new(code, word, Outcome::NotSent, parts)
    }

    fn new(code: u8, word: &'static str, outcome: Outcome, [what, why, remedy]: [&str; 3]) -> Self {
        let [what, why, remedy] = [what, why, remedy].map(ToOwned::to_owned);
        Self { code, word, outcome, what, why, remedy }
    }

    /// The system does not let this process wait for anything.
    pub(crate) fn system(error: &io::Error) -> Self {
        let remedy = "see the limits of this process: `ulimit -a`";
        Self::unsent(exit::SYSTEM, "system", ["cannot start", &error.to_string(), remedy])
    }

    /// The answers ended, and the library did not say why.
    pub(crate) fn unanswered() -> Self {
        let parts = ["no final answer came", "the answers ended before it", "see the server's log"];
        Self::new(exit::PROTOCOL, "protocol", Outcome::Unknown, parts)
    }

    pub(crate) fn usage(what: &str, why: &str, remedy: &str) -> Self {
        Self::unsent(exit::USAGE, "usage", [what, why, remedy])
    }

    /// Standard output cannot be written, for another reason than that nobody reads it.
    pub(crate) fn output(error: &io::Error) -> Self {
        let parts = [
            "standard output cannot be written",
            &error.to_string(),
            "make room there, or write elsewhere",
        ];
        Self::new(exit::OUTPUT, "output", Outcome::Unknown, parts)
    }

    /// Somebody wants this process to end, and the final answer has not come.
    pub(crate) fn interrupted(code: u8, why: &str) -> Self {
        let word = if code == exit::INTERRUPTED { "interrupted" } else { "terminated" };
        let what = format!("{word} before the final answer");
        let remedy = "see what still runs by `client status`";
        Self::new(code, word, Outcome::Unknown, [&what, why, remedy])
    }

    /// Of a final ERROR; `hint` is what to do if the reason for it does not say so.
    pub(crate) fn of_answer(answer: &Answer, code: u8, hint: &str) -> Self {
        let (what, word, remedy) = match answer.response.refused {
            None => ("the request failed", "failed", hint),
            Some(why) => causes::refusal(why, hint),
        };
        let outcome = answer.response.refused.map_or(Outcome::Failed, |_| Outcome::Refused);
        let why = match &answer.response.message {
            message if message.is_empty() => "the server does not say",
            message => message,
        };
        Self::new(code, word, outcome, [what, why, remedy])
    }

    /// For a person. Whatever is in it, each part is one harmless line.
    pub(crate) fn text(&self, error: &str) -> String {
        let (what, why, remedy) = (escape(&self.what), escape(&self.why), escape(&self.remedy));
        format!("{error} {what}\n  why: {why}\n  try: {remedy}\n")
    }

    /// For a program: the one terminal line that `--json` always has.
    pub(crate) fn json(&self) -> String {
        let message = json!(format!("{}: {}", self.what, self.why)).to_string();
        let (word, outcome, message) = (self.word, self.outcome.name(), escape_json(&message));
        format!(
            r#"{{"status":"ERROR","error":"{word}","outcome":"{outcome}","message":{message}}}"#
        )
    }
}
