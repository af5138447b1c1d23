//! Asks the user to confirm a run of a job that declares `confirm = true`.

use std::io;

use tokio::task::spawn_blocking;

use super::{escape::escape, exit, failure::Failure, reply::Answer, signals::Signals, view::View};

/// A run that the user has not confirmed.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// The description of the job.
    pub(crate) about: String,
    pub(crate) answer: Answer,
}

/// Asks on the terminal. Default: no.
///
/// # Errors
/// The exit status, if the user did not confirm the run.
pub(crate) async fn confirm(unconfirmed: Unconfirmed, view: &mut View) -> Result<(), u8> {
    let Unconfirmed { about, answer } = unconfirmed;
    view.output.pause();
    let what = if about.is_empty() { &answer.response.message } else { &about };
    let question = format!("{}\nThis job must be confirmed. Run it? [y/N] ", escape(what));
    view.output.aside(question.as_bytes());
    let failure = match view.output.flush().await {
        Err(_) => return Err(exit::STDOUT_CLOSED),
        Ok(()) => match answered().await {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let parts = ["the run was not confirmed", "the answer was no", "pass --yes"];
                Failure::unsent(exit::NOT_STARTED, "unconfirmed", parts)
            }
            Err(code) => {
                view.output.aside(b"\n");
                let parts = ["interrupted", "the run was not confirmed", "run it again"];
                Failure::unsent(code, "interrupted", parts)
            }
        },
    };
    Err(view.output.end(&failure))
}

/// Whether the next line of standard input is a yes. An error is the exit status of a signal.
async fn answered() -> Result<bool, u8> {
    let mut signals = Signals::new(false).map_err(|_| exit::SYSTEM)?;
    let reading = spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        line = reading => {
            let line = line.ok().and_then(Result::ok).unwrap_or_default();
            Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
        }
        code = signals.next() => Err(code),
    }
}
