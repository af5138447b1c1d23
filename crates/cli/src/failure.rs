//! Errors: what failed, why, and what to do; for a program, one word.

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

/// The longest reason that a person is shown, in bytes.
const LONGEST: usize = 16 * 1024;

/// Is said of a request that was sent and has no final response.
const MAY_HAVE_DONE: &str = "; the server may have done the request";

/// The remedy where the server's log says more.
pub(crate) const LOG: &str = "see the server's log";

/// Why the program fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) code: u8,
    /// Names the failure for a program.
    pub(crate) word: &'static str,
    /// Whether the request was sent and done.
    pub(crate) outcome: Outcome,
    /// The failed action.
    pub(crate) what: String,
    pub(crate) why: String,
    /// The content of the server's ERROR as JSON; empty if there is none.
    pub(crate) details: String,
    /// The remedy. Empty if only the server's message is known.
    pub(crate) remedy: String,
}

impl Failure {
    /// A failure before the request was sent.
    pub(crate) fn unsent(code: u8, word: &'static str, parts: [&str; 3]) -> Self {
        Self::new(code, word, Outcome::NotSent, parts)
    }

    fn new(code: u8, word: &'static str, outcome: Outcome, [what, why, remedy]: [&str; 3]) -> Self {
        let [what, why, remedy] = [what, why, remedy].map(ToOwned::to_owned);
        Self { code, word, outcome, what, why, details: String::new(), remedy }
    }

    /// The system refuses to create the runtime or to handle signals.
    pub(crate) fn system(error: &io::Error) -> Self {
        let remedy = "check the limits of this process: `ulimit -a`";
        Self::unsent(exit::SYSTEM, "system", ["cannot start", &error.to_string(), remedy])
    }

    /// The responses ended, and the library did not say why.
    pub(crate) fn unanswered() -> Self {
        let why = "the responses ended before the final one";
        let parts = ["the server sent no final response", why, LOG];
        Self::new(exit::PROTOCOL, "protocol", Outcome::Unknown, parts)
    }

    /// The deadline passed while standard output was not read.
    pub(crate) fn unread() -> Self {
        let parts = [
            "the deadline passed",
            "the reader of standard output did not read it in time",
            "read the output faster, or allow more time: --deadline (0: no limit)",
        ];
        Self::new(exit::TIMEOUT, "deadline", Outcome::Unknown, parts)
    }

    /// The server cancelled the request at the deadline.
    pub(crate) fn late(message: &str) -> Self {
        let why = match message {
            "" => "the server gave no reason".to_owned(),
            message => cut(message),
        };
        let parts = ["the deadline passed", &why, "allow more time: --deadline (0: no limit)"];
        Self::new(exit::TIMEOUT, "deadline", Outcome::Failed, parts)
    }

    pub(crate) fn usage(what: &str, why: &str, remedy: &str) -> Self {
        Self::unsent(exit::USAGE, "usage", [what, why, remedy])
    }

    /// The deadline passed before the server had stopped.
    pub(crate) fn not_stopped() -> Self {
        let parts = [
            "the deadline passed before the server stopped",
            "the server waits for the running requests",
            "see them: `kakehi status`; allow more time: --deadline (0: no limit)",
        ];
        Self::new(exit::TIMEOUT, "deadline", Outcome::Unknown, parts)
    }

    /// Standard output cannot be written, though it is not closed.
    pub(crate) fn output(error: &io::Error) -> Self {
        let parts = [
            "cannot write to standard output",
            &error.to_string(),
            "free some space, or redirect the output to another place",
        ];
        Self::new(exit::OUTPUT, "output", Outcome::Unknown, parts)
    }

    /// A signal ended the program before the final response.
    pub(crate) fn interrupted(code: u8, why: &str) -> Self {
        let word = if code == exit::INTERRUPTED { "interrupted" } else { "terminated" };
        let what = format!("{word} before the final response");
        let remedy = "see the running requests: `kakehi status`";
        Self::new(code, word, Outcome::Unknown, [&what, why, remedy])
    }

    /// A final ERROR. `hint` is what to do if its reason is not known.
    pub(crate) fn of_answer(answer: &Answer, code: u8, hint: &str) -> Self {
        // The log says more than an error that the handler did not return itself.
        let hint = if causes::is_logged(&answer.response.message) { LOG } else { hint };
        let refused = answer.response.refused;
        let of_refusal = || refused.map(|why| causes::refusal(why, hint));
        let unconfirmed = || answer.confirmation().map(|_| causes::UNCONFIRMED);
        let reason = || causes::reason(answer.end());
        let reload = || (!answer.problems().is_empty()).then_some(causes::NOT_RELOADED);
        let (what, word, remedy) = unconfirmed()
            .or_else(reason)
            .or_else(reload)
            .or_else(of_refusal)
            .unwrap_or(("the request failed", "failed", hint));
        let remedy = match answer.similar().as_slice() {
            [] => remedy.to_owned(),
            similar => format!("did you mean {}? {remedy}", or(similar)),
        };
        let outcome = match refused {
            Some(_) => Outcome::Refused,
            None if answer.end().outcome == Some("unknown") => Outcome::Unknown,
            None => Outcome::Failed,
        };
        let why = match &answer.response.message {
            message if message.is_empty() => "the server gave no reason".to_owned(),
            message => cut(message),
        };
        let failure = Self::new(code, word, outcome, [what, &why, &remedy]);
        let content = answer.content().filter(|_| word == "failed");
        Self { details: content.map(cut).unwrap_or_default(), ..failure }
    }

    /// The same failure of a server that may be another one than kakehid.
    pub(crate) fn without_commands_of_kakehid(mut self) -> Self {
        let parts = self.remedy.split("; ").filter(|part| !part.contains("`kakehi status`"));
        self.remedy = parts.collect::<Vec<_>>().join("; ");
        self
    }

    /// The same failure of a request that changes nothing, so that a second one does no harm.
    pub(crate) fn of_asking(mut self) -> Self {
        if let Some(why) = self.why.strip_suffix(MAY_HAVE_DONE) {
            self.why.truncate(why.len());
        }
        self
    }

    /// The same failure of a request that had to be answered before the command could be sent.
    pub(crate) fn before_command(self) -> Self {
        if self.outcome == Outcome::NotSent {
            return self;
        }
        let mut failure = self.of_asking();
        failure.why.push_str("; the command was not sent");
        Self { outcome: Outcome::NotSent, ..failure }
    }

    /// For a person: two to four lines. Each part is escaped.
    pub(crate) fn text(&self, error: &str) -> String {
        let (why, details) = (escape(&self.why), escape_json(&self.details));
        let mut text = format!("{error} {}\n", escape(&self.what));
        for (label, part) in [("why", why), ("details", details), ("try", escape(&self.remedy))] {
            if !part.is_empty() {
                text.extend(["  ", label, ": ", &part, "\n"]);
            }
        }
        text
    }

    /// For a program: the last line of `--json`.
    pub(crate) fn json(&self) -> String {
        let message = json!(format!("{}: {}", self.what, self.why)).to_string();
        let (word, outcome, message) = (self.word, self.outcome.name(), escape_json(&message));
        format!(
            r#"{{"status":"ERROR","error":"{word}","outcome":"{outcome}","message":{message}}}"#
        )
    }
}

/// As much of a server's message as a person reads.
fn cut(message: &str) -> String {
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let kept: String = message.chars().take(LONGEST / 4).collect();
    format!("{kept}... (of {} bytes)", message.len())
}

/// `a`, `a` or `b`.
fn or(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(" or ")
}
