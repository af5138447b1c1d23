//! The daemon's own command line: `cachectl warm users/ --limit 10`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{error::Error, io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use cache::{Drain, Purge, SOCKET, Stats, Step, Warm, Watch};
use clap::{Parser, Subcommand};
use kakehi::client::{Client, ClientSettings, CommandRequest, Event};

/// Controls the cache daemon.
#[derive(Parser)]
struct Arguments {
    /// Where the daemon listens.
    #[arg(long, env = "CACHED_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
    /// Print progress and reply as lines of JSON.
    #[arg(long)]
    json: bool,
    /// How long to wait for each response; 0 for no limit.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Warm(Warm),
    Watch(Watch),
    Purge(Purge),
    Stats(Stats),
    Drain(Drain),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = run(Arguments::parse()).await.inspect_err(|error| eprintln!("cachectl: {error}"));
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { socket, json, timeout, action } = arguments;
    let client =
        Client::new(socket, ClientSettings { timeout: Some(timeout), ..ClientSettings::default() });
    match action {
        Action::Warm(warm) => follow(client.call(warm), json, bar).await,
        Action::Watch(watch) => follow(client.call(watch), json, |_| String::new()).await,
        Action::Purge(purge) => follow(client.call(purge), json, |()| String::new()).await,
        Action::Stats(stats) => follow(client.call(stats), json, |()| String::new()).await,
        Action::Drain(drain) => follow(client.call(drain), json, |()| String::new()).await,
    }
}

async fn follow<C: kakehi::Command>(
    request: CommandRequest<'_, C>,
    json: bool,
    show: impl Fn(&C::Progress) -> String,
) -> Result<(), Box<dyn Error>> {
    let mut events = request.send().await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Progress { progress, .. } if json => {
                println!("{}", serde_json::to_string(&progress)?);
            }
            Event::Progress { message, progress } => {
                eprintln!("{}{message}", progress.as_ref().map_or_else(String::new, &show));
            }
            Event::Done { reply, .. } if json => println!("{}", serde_json::to_string(&reply)?),
            Event::Done { message, .. } => println!("{message}"),
        }
    }
    Ok(())
}

/// A progress bar on a line of its own. A terminal shows it over the one before it.
fn bar(Step { done, total }: &Step) -> String {
    let over = if *done > 0 && std::io::stderr().is_terminal() { "\x1b[A\r" } else { "" };
    let hashes = done * 20 / total.max(&1);
    format!("{over}[{:<20}] {done}/{total} ", "#".repeat(hashes as usize))
}
