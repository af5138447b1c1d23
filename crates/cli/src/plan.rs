//! The request of a command.

use std::io::{self, IsTerminal, Read};

use kakehi_client::BufferLimits;
use serde_json::json;

use super::{
    args::Command,
    exit,
    failure::Failure,
    question::Question,
    runs::{self, RunsCommand},
    view::Form,
};

/// The request to send, and how its responses are shown.
pub(crate) fn plan(command: Command, is_json: bool) -> Result<(Form, Question), Failure> {
    let command = match command {
        Command::Demo => return Ok((Form::Demo, Question::empty())),
        Command::Send { request } => {
            let question = read(request)?;
            return Ok((Form::Raw { has_command: question.has_command() }, question));
        }
        command => command,
    };
    let (form, command) = match command {
        Command::Run { job, args, flags } => {
            let (form, command) = runs::run(&job, &args, &flags, is_json)?;
            let question = Question::command(&command);
            // An older server takes no `output`.
            let older = runs::without_output(command);
            return Ok((form, older.iter().fold(question, Question::or)));
        }
        Command::Runs(RunsCommand::Attach { run }) => {
            let other = json!({ "kakehi.attach": { "id": &run } });
            let (form, command) = runs::plan(&RunsCommand::Attach { run }, is_json);
            return Ok((form, Question::command(&command).or(&other)));
        }
        Command::Runs(command) => runs::plan(&command, is_json),
        Command::List => (Form::List, json!("list")),
        Command::Status { prometheus: true } => (Form::Metrics, json!("status")),
        Command::Status { prometheus: false } => {
            let question = Question::command(&json!("status"));
            return Ok((Form::Status, question.or(&json!("kakehi.running"))));
        }
        Command::Cancel { id: Some(id), .. } => return Ok((Form::Message, Question::cancel(&id))),
        Command::Cancel { job: Some(job), .. } => {
            (Form::Message, json!({ "cancel": { "job": job } }))
        }
        Command::Cancel { .. } => {
            let question = Question::command(&json!({ "cancel": { "all": true } }));
            return Ok((Form::CancelAll, question.or(&json!("kakehi.running"))));
        }
        Command::Stop => (Form::Stop, json!("stop")),
        _ => {
            return Err(Failure::usage(
                "no request",
                "this command sends none",
                "see `kakehi --help`",
            ));
        }
    };
    Ok((form, Question::command(&command)))
}

/// The request of `send`.
fn read(request: Option<String>) -> Result<Question, Failure> {
    let text = match request {
        None => from_stdin(false)?,
        Some(dash) if dash == "-" => from_stdin(true)?,
        Some(text) => text,
    };
    Question::parse(&text).map_err(|why| {
        let example = r#"give a JSON object, such as {"command":"status"}"#;
        Failure::usage("this is not a request", &why, example)
    })
}

fn from_stdin(is_asked: bool) -> Result<String, Failure> {
    const WHAT: &str = "cannot read the request";
    let stdin = io::stdin();
    if stdin.is_terminal() && !is_asked {
        let remedy = "give the request as an argument, or `-` to type it";
        return Err(Failure::usage(WHAT, "standard input is a terminal", remedy));
    }
    // A longer request is refused, so it is not read.
    let max = BufferLimits::default().max;
    let mut text = String::new();
    let read = stdin.take(max as u64 + 1).read_to_string(&mut text);
    if let Err(error) = read {
        let remedy = "give the request as an argument, or as a readable file in UTF-8";
        return Err(Failure::usage(WHAT, &error.to_string(), remedy));
    }
    if text.len() > max {
        let why = format!("standard input has more than {max} bytes; the request was not sent");
        let parts = ["the request is too large", &why, "ask for less at once"];
        return Err(Failure::unsent(exit::PROTOCOL, "too_large", parts));
    }
    Ok(text)
}
