//! A small server to learn from: it counts down, one progress response a second, then answers OK.
//!
//! ```sh
//! cargo run --bin server -- [--socket PATH]
//! cargo run --bin client -- [--socket PATH]
//! ```
//!
//! Without `--socket` it listens on the default path: `$XDG_RUNTIME_DIR/kakehi/kakehi.sock`, or for
//! root `/run/kakehi/kakehi.sock`.

#![expect(clippy::print_stderr, reason = "a program talks to its user")]

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use kakehi_channel::{Request, default_socket};
use kakehi_server::{Answer, Context, Failure, Socket, serve};
use serde::{Deserialize, Serialize};

const USAGE: &str = "usage: server [--socket PATH]";

/// The commands. On the wire: `"countdown"`, or `{"echo":{"text":"hello"}}`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Countdown,
    Fail,
    Echo { text: String },
}

/// The content of a progress response, from which a client can draw a bar.
#[derive(Serialize)]
struct Progress {
    done: u32,
    total: u32,
}

/// Answers one request. The result becomes the final response: `Ok` becomes OK, `Err` becomes
/// ERROR. If the client disconnects, this future is dropped at its next `.await`.
async fn answer(request: Request<Command>, context: Context) -> Result<Answer, Failure> {
    match request.command.unwrap_or(Command::Countdown) {
        Command::Countdown => {
            let total = 10;
            for done in 0..total {
                context.progress_with("Not done yet", &Progress { done, total }).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(Answer::new("Done"))
        }
        Command::Fail => {
            context.progress("This does not look good").await?;
            Err(Failure::new("It failed, as you asked"))
        }
        Command::Echo { text } => Ok(Answer::new(text)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let path = socket_path()?;
    // Only the owner can connect. A socket that a dead server left behind is replaced.
    let socket = Socket::bind(&path).create_parent().listen()?;
    eprintln!("listening on {}; Ctrl-C stops the server", path.display());
    serve(socket, answer).await;
    Ok(())
}

fn socket_path() -> Result<PathBuf, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(default_socket()?),
        (Some(option), Some(path), None) if option == "--socket" => Ok(path.into()),
        _ => Err(USAGE.into()),
    }
}
