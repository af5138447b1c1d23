//! The handler of the simulated server: it follows the plan of its request and records each step.

use std::{sync::Arc, time::Duration};

use kakehi_channel::{ErrorKind, Refusal, Request, Response};
use kakehi_server::{Answer, Context, Failure, Handler};
use serde::{Serialize, Serializer, ser::Error as _};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bounds,
    plan::{Command, End, Plan, Step},
    run::Stage,
    world::World,
};

pub(crate) struct Simulated(pub World);

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Whole { token: u64, filler: String },
    Broken,
}

impl Handler<Command> for Simulated {
    type Answer = Answer<Content>;
    type Error = Failure<Content>;

    async fn handle(
        &self,
        request: Request<Command>,
        context: Context,
    ) -> Result<Self::Answer, Self::Error> {
        let Some(Command { token, .. }) = request.command else { return Err(fail("no command")) };
        let mut run = Running::start(&self.0, token, request.id, context);
        let plan = Arc::clone(&run.plan);
        for step in &plan.steps {
            if run.take(*step).await.is_err() {
                return Err(run.stop().await);
            }
        }
        run.end().await
    }
}

/// The handler was cancelled, or its message is too large.
struct Stopped;

/// A running handler. If it is dropped before it has ended, the server has cancelled it.
struct Running {
    world: World,
    token: u64,
    id: String,
    context: Context,
    plan: Arc<Plan>,
    cancellation: Option<CancellationToken>,
    cleanup: Duration,
    has_ended: bool,
}

impl Running {
    fn start(world: &World, token: u64, id: String, context: Context) -> Self {
        world.note("a handler starts", token, 0);
        let verdict = world
            .run(token, |run| run.start().map_err(|why| format!("{why}; its token is {token}")));
        world.judge(verdict);
        let plan = world.run(token, |run| Arc::clone(&run.plan));
        world.lock().court.journal.tell(&plan);
        Self {
            world: world.clone(),
            token,
            id,
            context,
            plan,
            cancellation: None,
            cleanup: Duration::ZERO,
            has_ended: false,
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), Stopped> {
        match step {
            Step::Say(size) => self.say(size).await,
            Step::Flood(count) => {
                for _ in 0..count {
                    self.say(0).await?;
                }
                Ok(())
            }
            Step::SayWithin(patience) => timeout(patience, self.say(100)).await.unwrap_or(Ok(())),
            Step::Wait(time) => self.wait(time).await,
            Step::Listen(cleanup) => {
                self.cancellation = Some(self.context.cancellation());
                self.cleanup = cleanup;
                Ok(())
            }
            Step::Outlive => {
                self.context.detach_from_client();
                Ok(())
            }
            Step::Hand(count) => {
                let (context, token) = (self.context.clone(), self.token);
                tokio::spawn(async move {
                    for number in 0..count {
                        sleep(Duration::from_millis(number % 7)).await;
                        let _ = context.progress(format!("{token} other {number}")).await;
                    }
                });
                Ok(())
            }
        }
    }

    async fn say(&self, size: usize) -> Result<(), Stopped> {
        let number = self.world.run(self.token, |run| run.said);
        let message = format!("{} {number}", self.token);
        let sent = match size {
            0 => self.context.progress(&message).await,
            _ => self.context.progress_with(&message, &self.content(size)).await,
        };
        if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::TooLarge) {
            return Err(Stopped);
        }
        if self.is_cancelled() {
            return Err(Stopped);
        }
        let response = Response::processing(&self.id, message);
        let content = (size > 0).then(|| self.content(size));
        let frame =
            serde_json::to_vec(&Response { content, ..response.with_content(Content::Broken) });
        let size = frame.map_or(0, |frame| frame.len() + 1);
        let state = &mut *self.world.lock();
        let run = state.court.run(self.token).expect("it is planned");
        run.said += 1;
        run.sent += size;
        let verdict = match run.link {
            // A detached handler can send to a client that has disconnected.
            Some(_) if self.plan.outlives() => Ok(()),
            Some(link) => bounds::check_outgoing(state, link),
            None => Err("a handler runs for a request that was not read".into()),
        };
        state.court.journal.judge(verdict);
        Ok(())
    }

    async fn wait(&self, time: Duration) -> Result<(), Stopped> {
        let Some(cancellation) = &self.cancellation else {
            sleep(time).await;
            return Ok(());
        };
        select! {
            biased;
            () = cancellation.cancelled() => Err(Stopped),
            () = sleep(time) => Ok(()),
        }
    }

    async fn stop(mut self) -> Failure<Content> {
        sleep(self.cleanup).await;
        self.has_ended(End::Err);
        fail(format!("{} err", self.token))
    }

    async fn end(mut self) -> Result<Answer<Content>, Failure<Content>> {
        let (token, end) = (self.token, self.plan.end);
        if end == End::Never {
            let _ = self.wait(Duration::from_secs(1_000_000)).await;
            return Err(self.stop().await);
        }
        self.has_ended(end);
        match end {
            End::Ok => Ok(answer(format!("{token} ok"), self.content(10))),
            End::Err => Err(fail(format!("{token} err"))),
            End::Refuse => {
                Err(Failure { refused: Some(Refusal::Denied), ..fail(format!("{token} refuse")) })
            }
            // `resume_unwind` does not call the panic hook, which would print each panic.
            End::Panic => std::panic::resume_unwind(Box::new("as planned")),
            End::Unencodable => Ok(answer(String::new(), Content::Broken)),
            End::TooLarge => Ok(answer(String::new(), self.content(5000))),
            End::Never => unreachable!("it has not ended"),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancellation.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    fn content(&self, size: usize) -> Content {
        Content::Whole { token: self.token, filler: "x".repeat(size) }
    }

    fn has_ended(&mut self, end: End) {
        self.has_ended = true;
        self.note_end(Stage::Returned(end));
    }

    fn note_end(&self, stage: Stage) {
        let world = &mut *self.world.lock();
        let court = &mut world.court;
        court.journal.note("a handler ends", self.token, u64::from(stage == Stage::Cancelled));
        let limits = court.limits.clone();
        let run = court.run(self.token).expect("it is planned");
        run.end(stage);
        let verdict = match run.link {
            Some(link) => run.has_ended_in_time(&world.links[link], &limits),
            None => Ok(()),
        };
        court.journal.judge(verdict);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.note_end(Stage::Cancelled);
        }
    }
}

fn answer(message: String, content: Content) -> Answer<Content> {
    Answer { message, content: Some(content) }
}

fn fail(message: impl Into<String>) -> Failure<Content> {
    Failure { message: message.into(), content: None, refused: None }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            token: u64,
            filler: &'a str,
        }
        match self {
            Self::Whole { token, filler } => Whole { token: *token, filler }.serialize(serializer),
            Self::Broken => Err(S::Error::custom("broken")),
        }
    }
}
