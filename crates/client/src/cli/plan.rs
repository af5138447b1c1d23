//! What a command asks for.

use std::io::{self, IsTerminal, Read};

use kakehi_client::Limits;
use serde_json::json;

use super::{args::Command, exit, failure::Failure, question::Question, view::Form};

/// The request that is to be sent, and how its answers are to be shown.
pub(crate) fn plan(command: Option<Command>) -> Result<(Form, Question), Failure> {
    let command = match command {
        None => return Ok((Form::Demo, Question::empty())),
        Some(Command::Send { request }) => return Ok((Form::Raw, read(request)?)),
        Some(command) => command,
    };
    let (form, command) = match command {
        Command::Run { job, args } => (Form::Run, json!({ "run": { "job": job, "args": args } })),
        Command::List => (Form::List, json!("list")),
        Command::Status => (Form::Status, json!("status")),
        Command::Cancel { id } => (Form::Message, json!({ "cancel": { "id": id } })),
        Command::Stop => (Form::Message, json!("stop")),
        // The others ask for nothing.
        _ => return Err(Failure::usage("there is nothing to ask", "no request", "ask for more")),
    };
    Ok((form, Question::command(&command)))
}

/// The request of a `send`.
fn read(request: Option<String>) -> Result<Question, Failure> {
    let text = match request {
        None => from_stdin(false)?,
        Some(dash) if dash == "-" => from_stdin(true)?,
        Some(text) => text,
    };
    Question::parse(&text).map_err(|why| {
        let example = r#"an object, such as {"command":"status"}"#;
        Failure::usage("this is not a request", &why, example)
    })
}

fn from_stdin(is_asked: bool) -> Result<String, Failure> {
    const WHAT: &str = "there is no request to send";
    let stdin = io::stdin();
    if stdin.is_terminal() && !is_asked {
        let remedy = "give it as an argument, or `-` to type it";
        return Err(Failure::usage(WHAT, "standard input is a terminal", remedy));
    }
    // No request can be longer, so no more is taken.
    let max = Limits::DEFAULT.max;
    let mut text = String::new();
    let read = stdin.take(max as u64 + 1).read_to_string(&mut text);
    if let Err(error) = read {
        let remedy = "give it as an argument, or as a readable file of UTF-8";
        return Err(Failure::usage(WHAT, &error.to_string(), remedy));
    }
    if text.len() > max {
        let why = format!("standard input has more than {max} bytes; nothing was sent");
        let parts = ["the request is too large", &why, "ask for less at once"];
        return Err(Failure::unsent(exit::PROTOCOL, "too_large", parts));
    }
    Ok(text)
}
