//! A small client to learn from: it asks for a countdown and prints each response as it arrives.
//!
//! ```sh
//! cargo run --bin client -- [--socket PATH] [--timeout SECONDS]
//! ```
//!
//! Without `--socket` it connects to the default path: `$XDG_RUNTIME_DIR/kakehi/kakehi.sock`, or
//! for root `/run/kakehi/kakehi.sock`. If there is none, it starts a server inside itself.
//! Exit status: 0 after OK, 1 after ERROR or any other failure.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program talks to its user")]

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use kakehi_client::{Channel, Connection, ErrorKind, Request, Response, Status, default_socket};
use serde_json::json;

const USAGE: &str = "usage: client [--socket PATH] [--timeout SECONDS]";

struct Options {
    socket: Option<PathBuf>,
    /// How long to wait for each response.
    timeout: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(Status::Ok) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends one request, prints its responses, and returns the final status.
async fn run() -> Result<Status, Box<dyn Error>> {
    let Options { socket, timeout } = options()?;
    let mut connection = connect(socket).await?;
    let mut responses = connection.request("countdown").timeout(timeout).send().await?;
    let mut status = Status::Processing;
    // Ends after the final response. An error says what went wrong, such as a timeout.
    while let Some(response) = responses.next_within(timeout).await? {
        status = response.status;
        match status {
            Status::Processing => println!("processing: {}", response.message),
            Status::Ok => println!("success: {}", response.message),
            Status::Error => eprintln!("failed: {}", response.message),
        }
    }
    Ok(status)
}

/// Connects to `socket`, or to the default socket, or to a server inside this process.
async fn connect(socket: Option<PathBuf>) -> Result<Connection, Box<dyn Error>> {
    if let Some(path) = socket {
        return Ok(Connection::connect(path).await?);
    }
    let reason = match default_socket() {
        Ok(path) => match Connection::connect(&path).await {
            Err(error) if error.kind() == ErrorKind::Unconnected => {
                format!("no server listens on {}", path.display())
            }
            connected => return Ok(connected?),
        },
        Err(_) => "no server has a default socket, because XDG_RUNTIME_DIR is not set".to_owned(),
    };
    eprintln!("{reason}: starting one in this process");
    let (ours, theirs) = Channel::pair()?;
    tokio::spawn(countdown(theirs));
    Ok(Connection::new(ours))
}

/// The server inside: it answers one request with ten progress responses and a final one.
async fn countdown(mut channel: Channel<Response, Request>) {
    while let Some(Ok(Request { id, .. })) = channel.next().await {
        for done in 0..10 {
            let progress = Response::processing(&id, "Not done yet");
            let progress = progress.with_content(json!({ "done": done, "total": 10 }));
            if channel.send(progress).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if channel.send(Response::ok(&id, "Done")).await.is_err() {
            return;
        }
    }
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { socket: None, timeout: Duration::from_secs(2) };
    let mut arguments = env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match option.as_str() {
            "--socket" => options.socket = Some(value.into()),
            "--timeout" => {
                let seconds = value.trim_end_matches('s').parse().map_err(|_| USAGE)?;
                options.timeout = Duration::try_from_secs_f64(seconds).map_err(|_| USAGE)?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}
