//! The `client` binary: what is typed becomes one request, and its answers a result.

mod args;
mod ask;
mod content;
mod demo;
mod dial_stdio;
mod doctor;
mod escape;
mod exit;
mod failure;
mod log;
mod output;
mod pages;
mod plan;
pub mod probe;
mod question;
mod reach;
mod remote;
mod reply;
mod signals;
mod ssh;
mod stop;
mod view;

use std::{env, io, process::ExitCode};

use clap::{Parser, error::ErrorKind};

use self::{
    args::{Arguments, Command, Options},
    failure::Failure,
    output::Output,
    question::Question,
    reach::Server,
    remote::Remote,
    view::{Form, View},
};

/// Does what the arguments say.
#[must_use]
pub fn run() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => obey(arguments).into(),
        Err(error) => refuse(&error).into(),
    }
}

fn obey(Arguments { options, command }: Arguments) -> u8 {
    if options.verbose {
        log::Log::start();
    }
    let mut output = Output::new(&options);
    let errand = match command {
        Some(Command::Completions { shell }) => return output.print(&pages::completions(shell)),
        Some(Command::Man) => return output.print(&pages::manual()),
        Some(Command::Doctor) => Errand::Doctor,
        Some(Command::DialStdio { announce }) => Errand::DialStdio { announce },
        command => match plan::plan(command) {
            Ok((form, question)) => Errand::Ask(form, question),
            Err(failure) => return output.end(&failure),
        },
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return output.end(&Failure::system(&error)),
    };
    let code = runtime.block_on(errand.run(&options, output));
    // A thread may still wait for an output that nobody reads.
    runtime.shutdown_background();
    code
}

/// What takes more than this process.
enum Errand {
    Ask(Form, Question),
    Doctor,
    DialStdio { announce: bool },
}

/// One thread, since there is one thing to wait for.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Errand {
    async fn run(self, options: &Options, mut output: Output) -> u8 {
        let done = match self {
            Self::Ask(form, question) => {
                return converse(form, question, options, output).await;
            }
            Self::Doctor => examine(options, &mut output).await,
            Self::DialStdio { announce } => dial(options, announce).await,
        };
        done.unwrap_or_else(|failure| output.end(&failure))
    }
}

async fn converse(form: Form, question: Question, options: &Options, output: Output) -> u8 {
    let notes = output.notes();
    let mut view = View::new(form, output, options);
    if let Some(host) = &options.host {
        return Remote::new(host, options).ask(question, &mut view).await;
    }
    let server = match form {
        Form::Demo => Server::find_or_start(options, &notes).await,
        _ => Server::find(options),
    };
    match server {
        Ok(server) => server.ask(question, &mut view).await,
        Err(failure) => view.output.end(&failure),
    }
}

async fn examine(options: &Options, output: &mut Output) -> Result<u8, Failure> {
    here_only(options, "doctor")?;
    let patience = options.timeout.unwrap_or(kakehi_client::doctor::PATIENCE);
    Ok(doctor::run(&reach::socket(options)?, patience, options.json, output).await)
}

async fn dial(options: &Options, announce: bool) -> Result<u8, Failure> {
    here_only(options, "dial-stdio")?;
    Ok(dial_stdio::run(&reach::socket(options)?, announce).await)
}

fn here_only(options: &Options, command: &str) -> Result<(), Failure> {
    let Some(host) = &options.host else { return Ok(()) };
    let why = format!("`{command}` is about the machine that it runs on");
    let remedy = format!("ssh {host} client {command}");
    Err(Failure::usage("--host makes no sense here", &why, &remedy))
}

/// What was typed is not what can be done, or is a question about the program itself.
fn refuse(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Output::plain(false).print(text.as_bytes());
    }
    // It is not parsed, but whoever reads JSON is to be told all the same.
    let is_json = env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    let mut output = Output::plain(is_json);
    if !is_json {
        output.aside(escape::escape_lines(&text).as_bytes());
        return output.flush_now(exit::USAGE);
    }
    let (what, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let what: Vec<_> = what.split_whitespace().collect();
    let why = what.join(" ");
    let why = why.strip_prefix("error: ").unwrap_or(&why);
    output.end(&Failure::usage("wrong usage", why, "see `client --help`"))
}
