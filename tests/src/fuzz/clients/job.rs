//! The jobs that clients request: their handler, and the responses that the clients must receive.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arbitrary::Arbitrary;
use kakehi_channel::Refusal;
use kakehi_client::{Error, ErrorKind, Outcome, Request, Response, Status};
use kakehi_server::{Context, Failure};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// The largest response, in bytes.
pub(super) const MAX: usize = 4096;

#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    #[arbitrary(default)]
    pub(super) number: u32,
    steps: u8,
    /// The pause before each step, in milliseconds.
    pause: u8,
    /// The size of the filler in each message, in bytes.
    size: u16,
    pub(super) ending: Ending,
    /// It cleans up when it is cancelled.
    listens: bool,
    /// It detaches from its client.
    outlives: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ending {
    Ok,
    Error,
    Refusal,
    Panic,
    /// OK, with a message over the limit.
    TooMuch,
    /// It never ends.
    Hang,
}

impl Job {
    pub(super) fn request(&self) -> Request<Self> {
        Request::with_command(self.number.to_string(), self.clone())
    }

    pub(super) fn hangs(&self) -> bool {
        self.ending == Ending::Hang
    }

    fn steps(&self) -> u8 {
        self.steps % 8
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.pause.into())
    }

    fn message(&self, step: u8) -> String {
        format!("{} {step} {}", self.number, "x".repeat(usize::from(self.size % 1000)))
    }
}

/// The number of running handlers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    running: AtomicUsize,
}

impl Tally {
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// Counts one handler while it runs.
struct Running(Arc<Tally>);

impl Running {
    fn new(tally: Arc<Tally>) -> Self {
        tally.running.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn handle(
    request: Request<Job>,
    context: Context,
    tally: Arc<Tally>,
) -> Result<String, Failure> {
    let _running = Running::new(tally);
    let job = request.command.ok_or_else(|| Failure::new("there is no job"))?;
    if job.outlives {
        context.detach_from_client();
    }
    if !job.listens {
        return work(&job, &context).await;
    }
    let cancelled = context.cancellation();
    tokio::select! {
        done = work(&job, &context) => done,
        () = cancelled.cancelled() => {
            sleep(job.pause()).await;
            Ok("cleaned up".into())
        }
    }
}

async fn work(job: &Job, context: &Context) -> Result<String, Failure> {
    for step in 0..job.steps() {
        sleep(job.pause()).await;
        context.progress(job.message(step)).await?;
    }
    match job.ending {
        Ending::Ok => Ok(job.number.to_string()),
        Ending::Error => Err(Failure::new(format!("{} failed", job.number))),
        Ending::Refusal => Err(Failure::refused(Refusal::Busy, "later")),
        // libFuzzer would report `panic!` as a crash.
        Ending::Panic => resume_unwind(Box::new("on purpose")),
        Ending::TooMuch => Ok("x".repeat(2 * MAX)),
        Ending::Hang => std::future::pending().await,
    }
}

/// The responses that a client has received to its request.
#[derive(Debug)]
pub(super) struct Seen<'j> {
    job: &'j Job,
    deadline: Duration,
    steps: u8,
    /// The connection can serve another request.
    pub(super) has_ended_well: bool,
}

impl<'j> Seen<'j> {
    pub(super) fn new(job: &'j Job, deadline: Duration) -> Self {
        Self { job, deadline, steps: 0, has_ended_well: false }
    }

    pub(super) fn progress(&mut self, response: &Response) {
        assert_eq!(response.id, self.job.number.to_string());
        assert_eq!(response.message, self.job.message(self.steps));
        self.steps += 1;
        assert!(self.steps <= self.job.steps(), "too many progress responses");
    }

    /// Checks a final response without its progress.
    pub(super) fn end(&mut self, end: Result<Response, Error>) {
        match end {
            Ok(response) => {
                assert_eq!(response.status, Status::Ok);
                self.steps = self.job.steps();
                self.final_response(&response);
            }
            Err(error) => match error.response() {
                Some(response) => {
                    assert!(
                        error.outcome() == Outcome::Failed || error.outcome() == Outcome::Refused,
                        "{error}"
                    );
                    self.steps = self.job.steps();
                    self.final_response(response);
                }
                None => assert!(
                    error.kind() == ErrorKind::Deadline && self.may_be_late(),
                    "{error}: {self:?}"
                ),
            },
        }
    }

    pub(super) fn final_response(&mut self, response: &Response) {
        let number = self.job.number.to_string();
        assert_eq!(response.id, number);
        self.has_ended_well = response.refused.is_none();
        let message = response.message.as_str();
        if response.status == Status::Error && message == "cancelled: the deadline has passed" {
            return assert!(self.may_be_late(), "{self:?}");
        }
        assert_eq!(self.steps, self.job.steps(), "progress is missing");
        let expected = match self.job.ending {
            Ending::Ok => (Status::Ok, None, number),
            Ending::Error => (Status::Error, None, format!("{number} failed")),
            Ending::Refusal => (Status::Error, Some(Refusal::Busy), "later".to_owned()),
            Ending::Panic => (Status::Error, None, "the handler panicked".to_owned()),
            Ending::TooMuch => {
                assert!(message.starts_with("the answer cannot be sent"), "{message}");
                (Status::Error, None, message.to_owned())
            }
            Ending::Hang => panic!("a final response to a job that hangs: {response:?}"),
        };
        assert_eq!(
            (response.status, response.refused, message),
            (expected.0, expected.1, &*expected.2)
        );
    }

    /// Whether the job takes at least about as long as its deadline.
    fn may_be_late(&self) -> bool {
        const NEARLY: Duration = Duration::from_millis(5);
        let takes = self.job.pause() * u32::from(self.job.steps());
        !self.deadline.is_zero() && (self.job.hangs() || takes + NEARLY >= self.deadline)
    }
}
