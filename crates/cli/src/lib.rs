//! The program `kakehi`. It sends the request of its command line, and shows the responses.

mod args;
mod ask;
mod cancel;
mod commands;
mod complete;
mod confirm;
mod content;
mod context;
mod dial_stdio;
mod doctor;
mod escape;
mod exit;
mod failure;
#[cfg(feature = "fleet")]
mod fleet;
mod hosts;
mod job_help;
mod log;
mod many;
#[cfg(feature = "mcp")]
mod mcp;
mod output;
mod pages;
mod plan;
pub mod probe;
mod question;
mod reach;
mod remote;
mod reply;
mod runs;
mod signals;
mod ssh;
mod stop;
mod suspend;
mod text;
#[cfg(feature = "top")]
mod top;
mod view;

use std::{env, ffi::OsString, io, process::ExitCode};

use clap::error::ErrorKind;
use kakehi_command::Description;

use self::{
    args::{Arguments, Command, Options},
    commands::Unsent,
    failure::Failure,
    output::Output,
    question::Question,
    reach::Server,
    remote::Remote,
    view::{Form, Format, Style, View},
};

/// Runs the program. Returns its exit status.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(offers) = complete::answer() {
        return Output::plain(false).print(&offers).into();
    }
    match Arguments::read() {
        Ok(arguments) => obey(arguments).into(),
        Err(error) => refuse(&error).into(),
    }
}

fn obey(Arguments { mut options, command }: Arguments) -> u8 {
    if options.verbose {
        log::start();
    }
    let mut output = Output::new(&options);
    if command.asks_a_server()
        && let Err(failure) = context::apply(&mut options)
    {
        return output.end(&failure);
    }
    let errand = match command {
        Command::Context(arguments) => return context::run(arguments, &options, &mut output),
        Command::Completions { shell } => return output.print(&complete::script(shell)),
        Command::Man => return output.print(&pages::manual()),
        Command::Doctor => Errand::Doctor,
        Command::Describe { command } => Errand::Describe(command),
        Command::Call { words } => Errand::Call(words),
        #[cfg(feature = "mcp")]
        Command::Mcp(arguments) => Errand::Mcp(arguments),
        Command::DialStdio { announce } => Errand::DialStdio { announce },
        #[cfg(feature = "top")]
        Command::Top(flags) => Errand::Top(flags),
        #[cfg(feature = "fleet")]
        Command::Fleet(arguments) => Errand::Fleet(Box::new(arguments)),
        #[cfg(feature = "fleet")]
        Command::Bridge(arguments) => Errand::Bridge(Box::new(arguments)),
        command => match plan::plan(command, options.json) {
            Ok((form, question)) => match form.accept(options.output) {
                Ok(()) => Errand::Ask(form, question),
                Err(failure) => return output.end(&failure),
            },
            Err(failure) => return output.end(&failure),
        },
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return output.end(&Failure::system(&error)),
    };
    let code = runtime.block_on(errand.run(&options, output));
    // A thread may still wait for an output that is not read.
    runtime.shutdown_background();
    code
}

/// A command that needs the runtime.
enum Errand {
    Ask(Form, Question),
    Describe(Option<String>),
    Call(Vec<OsString>),
    #[cfg(feature = "mcp")]
    Mcp(mcp::McpArguments),
    Doctor,
    DialStdio {
        announce: bool,
    },
    #[cfg(feature = "top")]
    Top(top::TopFlags),
    #[cfg(feature = "fleet")]
    Fleet(Box<fleet::FleetArguments>),
    #[cfg(feature = "fleet")]
    Bridge(Box<fleet::BridgeArguments>),
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Errand {
    async fn run(self, options: &Options, mut output: Output) -> u8 {
        let done = match self {
            Self::Ask(form, question) => {
                return Box::pin(converse(form, question, options, output)).await;
            }
            Self::Call(words) => match call(&words, options).await {
                Ok(question) => {
                    let form = Form::Raw { has_command: true };
                    return Box::pin(converse(form, question, options, output)).await;
                }
                Err(Unsent::Arguments(error)) => return refuse(&error),
                Err(Unsent::Failure(failure)) => Err(failure),
            },
            Self::Describe(name) => match describe(name.as_deref(), options, &output).await {
                Ok(text) => return output.print(text.as_bytes()),
                Err(failure) => Err(failure),
            },
            #[cfg(feature = "mcp")]
            Self::Mcp(arguments) => match one_host_only(options, "mcp") {
                Ok(()) => mcp::run(arguments, options).await,
                Err(failure) => Err(failure),
            },
            Self::Doctor => examine(options, &mut output).await,
            Self::DialStdio { announce } => dial(options, announce).await,
            #[cfg(feature = "top")]
            Self::Top(flags) => {
                return top::main(flags, options, &mut output).await;
            }
            #[cfg(feature = "fleet")]
            Self::Fleet(arguments) => return fleet::run(*arguments, options).await,
            #[cfg(feature = "fleet")]
            Self::Bridge(arguments) => return fleet::bridge(*arguments, options).await,
        };
        done.unwrap_or_else(|failure| output.end(&failure))
    }
}

async fn converse(form: Form, question: Question, options: &Options, output: Output) -> u8 {
    let question = question.traced();
    if let Some(hosts) = options.many_hosts() {
        return many::run(form, question, hosts, options, output).await;
    }
    let mut view = View::new(form, output, options);
    let code = match options.single_host() {
        Some(host) => Remote::new(host, options).ask(question, &mut view).await,
        None => match Server::find(options) {
            Ok(server) => server.ask(question, &mut view).await,
            Err(failure) => view.output.end(&failure),
        },
    };
    match view.running() {
        Some(running) => cancel::all(&running, options, &mut view).await,
        None => code,
    }
}

async fn call(words: &[OsString], options: &Options) -> Result<Question, Unsent> {
    one_host_only(options, "call").map_err(Unsent::Failure)?;
    let description = described(options).await.map_err(Failure::before_command);
    let description = description.map_err(Unsent::Failure)?;
    commands::call(&description, words)
}

async fn describe(
    name: Option<&str>,
    options: &Options,
    output: &Output,
) -> Result<String, Failure> {
    one_host_only(options, "describe")?;
    let style = Style::of(output, options);
    let format = if options.json { Format::Json } else { options.output };
    let description = described(options).await.map_err(Failure::of_asking)?;
    // kakehid describes its jobs too.
    let has = |name: &str| description.commands.iter().any(|command| command.name == name);
    if let Some(job) = name.filter(|name| !has(name) && has("describe")) {
        let answer = job_help::ask(job, options).await.map_err(Failure::of_asking)?;
        return job_help::show(&answer, job, format);
    }
    commands::describe(&description, name, format, style)
}

async fn described(options: &Options) -> Result<Description, Failure> {
    let question = commands::question().traced();
    let answer = match options.single_host() {
        Some(host) => Remote::new(host, options).answer(question).await,
        None => Server::find(options)?.answer(question).await,
    };
    let answer =
        answer.map_err(|failure| commands::undescribed(failure).without_commands_of_kakehid())?;
    commands::description(&answer)
}

async fn examine(options: &Options, output: &mut Output) -> Result<u8, Failure> {
    here_only(options, "doctor")?;
    let patience = options.timeout.unwrap_or(kakehi_doctor::PATIENCE);
    Ok(doctor::run(&reach::examined(options), patience, options.json, output).await)
}

async fn dial(options: &Options, announce: bool) -> Result<u8, Failure> {
    here_only(options, "dial-stdio")?;
    Ok(dial_stdio::run(reach::find(options).map(|place| place.path), announce).await)
}

fn here_only(options: &Options, command: &str) -> Result<(), Failure> {
    if options.is_local() {
        return Ok(());
    }
    let host = options.single_host().map_or_else(|| "HOST".to_owned(), ToString::to_string);
    let what = format!("`{command}` does not support --host");
    let why = format!("`{command}` examines the machine that it runs on");
    let remedy = format!("run it there: ssh {host} kakehi {command}");
    Err(Failure::usage(&what, &why, &remedy))
}

/// Checks that the options name one server.
fn one_host_only(options: &Options, command: &str) -> Result<(), Failure> {
    let Some(hosts) = options.many_hosts() else { return Ok(()) };
    let what = format!("`{command}` does not support several hosts");
    let why = format!("the options name {} hosts", hosts.len());
    Err(Failure::usage(&what, &why, "name one of them by --host"))
}

/// Prints the help or the version, or reports wrong usage.
fn refuse(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    ) {
        let job = (error.kind() == ErrorKind::DisplayHelp).then(job_help::for_help).flatten();
        let job = job.map(|job| job + "\n").unwrap_or_default();
        return Output::plain(false).print((job + &escape::escape_lines(&text)).as_bytes());
    }
    // The arguments are not parsed, but a reader of JSON needs JSON.
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
    output.end(&Failure::usage("wrong usage", why, "see `kakehi --help`"))
}
