//! The handler of the simulated nodes: it follows the plan of its request and records each step.

use std::time::Duration;

use kakehi_channel::Request;
use kakehi_server::{Context, Handler};
use tokio::time::sleep;

use super::{
    court::{Shared, Stage},
    plan::{Command, End, Step},
};

/// The handler of one process of a node.
pub(super) struct Simulated {
    pub(super) court: Shared,
    pub(super) process: usize,
}

impl Handler<Command> for Simulated {
    type Answer = String;
    type Error = String;

    async fn handle(&self, request: Request<Command>, context: Context) -> Result<String, String> {
        let Some(Command { token }) = request.command else { return Err("no command".to_owned()) };
        let mut run = Running { court: self.court.clone(), token, has_ended: false };
        let plan = self.court.lock().start(token, &request.id, self.process);
        let mut said = 0;
        for step in plan.steps {
            match step {
                Step::Wait(time) => sleep(time).await,
                Step::Say { count, bytes, pause } => {
                    for _ in 0..count {
                        let message = format!("{token} {said} {}", "x".repeat(bytes));
                        // Recorded before: the response may arrive while this waits for room.
                        said += 1;
                        self.court.lock().say(token);
                        context.progress(message).await.map_err(|error| error.to_string())?;
                        if pause > Duration::ZERO {
                            sleep(pause).await;
                        }
                    }
                }
            }
        }
        run.end(plan.end)
    }
}

/// A running handler. Dropped before it has ended, it was cancelled.
struct Running {
    court: Shared,
    token: usize,
    has_ended: bool,
}

impl Running {
    fn end(&mut self, end: End) -> Result<String, String> {
        self.has_ended = true;
        self.court.lock().end(self.token, Stage::Returned(end));
        match end {
            End::Ok => Ok(format!("{} ok", self.token)),
            End::Err => Err(format!("{} err", self.token)),
            // `resume_unwind` does not call the panic hook, which would print each panic.
            End::Panic => std::panic::resume_unwind(Box::new("as planned")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.court.lock().end(self.token, Stage::Cancelled);
        }
    }
}
