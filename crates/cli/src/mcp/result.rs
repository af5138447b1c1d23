//! The result of a tool call: the reply of the command, or its outcome if it did not succeed.

use kakehi_client::Outcome;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::offer::Offer;
use crate::{escape::escape_lines, exit, failure::Failure, reply::Answer};

/// The largest reply, in bytes of JSON.
const MAX_REPLY: usize = 1024 * 1024;

/// The result of a call that was answered with OK or ERROR. `output` is the output of the job.
pub(super) fn of_answer(answer: &Answer, offer: &Offer, output: &str) -> CallToolResult {
    let content = answer.content();
    if content.is_some_and(|content| content.len() > MAX_REPLY) {
        let why = format!("the reply has more than {MAX_REPLY} bytes");
        return failed(&unreadable(answer, &why), None, output);
    }
    let content: Option<Value> = content.and_then(|content| serde_json::from_str(content).ok());
    if exit::of_answer(answer, false) != exit::OK {
        let code = exit::of_answer(answer, false);
        let failure = Failure::of_answer(answer, code, "");
        return failed(&failure, content, output);
    }
    let structured = match offer.structured(content.clone()) {
        Ok(structured) => structured,
        Err(why) => {
            let why = format!("the reply does not fit its schema: {why}");
            return failed(&unreadable(answer, &why), content, output);
        }
    };
    let message = escape_lines(&answer.response.message);
    let json = structured.as_ref().map(Value::to_string).unwrap_or_default();
    let mut result = CallToolResult::success(texts([output, &message, &json]));
    result.structured_content = structured;
    result
}

fn unreadable(answer: &Answer, why: &str) -> Failure {
    let what = "the request was done, but its reply cannot be passed on";
    let message = &answer.response.message;
    let why =
        if message.is_empty() { why.to_owned() } else { format!("{why}; it said: {message}") };
    let failure = Failure::usage(what, &why, "ask for less at once");
    Failure { code: exit::PROTOCOL, word: "unreadable", outcome: Outcome::Done, ..failure }
}

/// The result of a call that has not succeeded. It says whether the command may have run.
pub(super) fn failed(failure: &Failure, content: Option<Value>, output: &str) -> CallToolResult {
    let outcome = failure.outcome;
    let Failure { what, why, remedy, word, .. } = failure;
    let mut text = format!("{}: {what}: {why}\n{}", label(outcome), verdict(outcome));
    if !remedy.is_empty() {
        text.extend(["\nHint: ", remedy]);
    }
    let text = escape_lines(&text);
    let fields = [
        ("outcome", json!(outcome.name())),
        ("may_have_run", json!(may_have_run(outcome))),
        ("error", json!(word)),
        ("message", json!(escape_lines(why))),
    ];
    let fields = fields.into_iter().chain(content.map(|content| ("content", content)));
    let structured = fields.map(|(key, value)| (key.to_owned(), value)).collect();
    let mut result = CallToolResult::error(texts([output, &text, ""]));
    result.structured_content = Some(structured);
    result
}

fn texts(parts: [&str; 3]) -> Vec<ContentBlock> {
    parts.into_iter().filter(|part| !part.is_empty()).map(ContentBlock::text).collect()
}

fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "Not sent",
        Outcome::Refused => "Refused",
        Outcome::Failed => "Failed",
        Outcome::Done => "Done",
        Outcome::Unknown => "Outcome unknown",
    }
}

fn may_have_run(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::NotSent | Outcome::Refused)
}

fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotSent => "The request was not sent: the command has not run.",
        Outcome::Refused => "The command was refused: it has not run.",
        Outcome::Failed => {
            "The command was started and has failed. It may have done a part of its work."
        }
        Outcome::Done => "The command has run to its end.",
        Outcome::Unknown => {
            "The command may have run, in part or to its end. Find out before you call it again."
        }
    }
}
