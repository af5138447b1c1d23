//! The command `run`: checks, the queue, and the run itself, beside or apart from its client.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_channel::{Refusal, TraceContext};
use kakehi_server::{Answer, Context, Failure, Peer};
use kakehi_time::duration;
use tokio::task::spawn_blocking;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, warn};

use super::{
    caller::Caller,
    content::{Content, DryRun, Ended, Reason},
    follow::{Follower, Lost, Selection},
    job::{Job, Keep},
    places::Place,
    registry::Running,
    requests::Run,
    run::{self, ClientLost, Start, fail},
    runs::{Live, Outcome, Reader, Record, Stored, now_ms},
    service::{Known, Reply, Service, failed, refusal, unstarted},
    slots::{Slot, Slots},
};

/// The most bytes of arguments that a record keeps for `rerun`, so that records are bounded.
const MAX_KEPT_ARGS: usize = 16 * 1024;

/// A run that may start: what was asked for, and what the declaration made of it.
struct Submission {
    request: Run,
    job: Arc<Job>,
    slots: Arc<Slots>,
    args: Vec<String>,
    input: Option<Vec<u8>>,
    running: Running,
    live: Arc<Live>,
    stored: Stored,
    trace: Option<TraceContext>,
}

impl Service {
    pub(super) async fn run(
        &self,
        id: String,
        request: Run,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        let (job, slots, args) = known.permitted(caller, &request.job, &request.args)?;
        let input = input(&job, &request)?;
        if request.dry_run {
            return Ok(dry_run(&job, &slots, &args, caller));
        }
        if job.confirm && !request.confirmed {
            return unconfirmed(&job);
        }
        if self.0.draining.is_cancelled() {
            return Err(shut_down());
        }
        let place = self.0.places.take(caller, request.detach);
        let place = place.map_err(|why| refusal(Refusal::Busy, why))?;
        let shown = job.shown(&args);
        let name = Some(job.name.clone());
        let running = self.0.registry.enter(id, "run", name, shown, caller);
        let live = Live::new(Some(self.0.store.output(&running.run)));
        running.set_live(&live);
        let size: usize = args.iter().map(String::len).sum();
        let is_kept = input.is_none() && !job.has_secrets(&args) && size <= MAX_KEPT_ARGS;
        let given = is_kept.then(|| args.clone());
        let stored = Stored { record: record(&running, &job), given };
        let trace = context.trace().cloned();
        let submission =
            Submission { request, job, slots, args, input, running, live, stored, trace };
        if submission.request.detach {
            self.detach(submission, context.peer(), place).await
        } else {
            self.attended(submission, context, &place).await
        }
    }

    /// Queues a run that is independent of its client, and answers with its id.
    async fn detach(&self, submission: Submission, peer: Peer, place: Place) -> Reply {
        let (service, name) = (self.clone(), submission.job.name.clone());
        // A client that disconnects now must not leave the record of a run that never starts.
        let enqueuing = tokio::spawn(async move { service.enqueue(submission, peer, place).await });
        enqueuing.await.unwrap_or_else(|error| failed(format!("`{name}` was not started: {error}")))
    }

    async fn enqueue(&self, submission: Submission, peer: Peer, place: Place) -> Reply {
        let Submission { job, slots, running, stored, .. } = &submission;
        let (run, name) = (running.run.clone(), job.name.clone());
        if let Err(error) = self.save(stored.clone()).await {
            self.0.store.forget(&run);
            return failed(format!("`{name}` was not started: cannot record the run: {error}"));
        }
        let slot = slots.try_take();
        let queued = slot.is_none();
        running.set_waiting(queued);
        let service = self.clone();
        tokio::spawn(async move {
            service.apart(submission, slot, peer).await;
            drop(place);
        });
        let verb = if queued { "queued" } else { "started" };
        let message = format!("{verb} run {run} of `{name}`");
        Ok(Answer::new(message).with_content(Content::Detached { run, queued }))
    }

    /// Waits for a slot, checks the run again, and runs it.
    async fn apart(&self, mut submission: Submission, slot: Option<Slot>, peer: Peer) {
        let waited = slot.is_none();
        let slot = match slot {
            Some(slot) => Ok(slot),
            None => self.queue(&submission.slots, &submission.running).await,
        };
        submission.running.set_waiting(false);
        let ready = match slot {
            Ok(slot) if waited => self.check_again(&mut submission, peer).await.map(|()| slot),
            slot => slot,
        };
        match ready {
            Ok(slot) => {
                let over = CancellationToken::new();
                self.execute(submission, slot, over, ClientLost::default()).await;
            }
            Err(Failure { message, .. }) => {
                let Submission { job, live, mut stored, running, .. } = submission;
                // A refusal of now is the reason that the run did not start.
                fail(&mut stored.record, Some(Reason::NotStarted), message);
                self.finish(stored, &live, job.keep).await;
                drop(running);
            }
        }
    }

    /// Runs a job for a client that follows it.
    async fn attended(
        &self,
        mut submission: Submission,
        context: &Context,
        _place: &Place,
    ) -> Reply {
        let patience = submission.job.reader_timeout;
        // A stopped client holds its run back; only the declaration of the job limits that.
        context.set_write_time(patience.map_or(Duration::MAX, |limit| limit.saturating_mul(2)));
        let (slot, waited) = match submission.slots.try_take() {
            Some(slot) => (slot, false),
            None if submission.request.no_wait => return occupied(&submission),
            None => {
                tell_waiting(&submission, context).await?;
                submission.running.set_waiting(true);
                let slot = self.queue(&submission.slots, &submission.running).await?;
                submission.running.set_waiting(false);
                (slot, true)
            }
        };
        if waited {
            self.check_again(&mut submission, context.peer()).await?;
        }
        if !still_wanted(context).await {
            let name = &submission.job.name;
            let message = format!("`{name}` was not started: its request is over");
            return unstarted(Reason::NotStarted, message);
        }
        if submission.job.finishes {
            context.detach_from_client();
        }
        self.follow(submission, slot, context).await
    }

    async fn follow(&self, submission: Submission, slot: Slot, context: &Context) -> Reply {
        let (job, live) = (Arc::clone(&submission.job), Arc::clone(&submission.live));
        let (run, form) = (submission.running.run.clone(), submission.request.output);
        let lost = ClientLost::default();
        let over = CancellationToken::new();
        // Ends the run if this future is dropped.
        let ending = over.clone().drop_guard();
        let watching = end_with(context.cancellation(), over.clone());
        live.hold();
        let _released = Owner(Arc::clone(&live));
        let mut reader = Reader::of(&live);
        let (service, client_lost) = (self.clone(), lost.clone());
        let executing =
            tokio::spawn(async move { service.execute(submission, slot, over, client_lost).await });
        let selection = Selection { form, patience: job.reader_timeout, ..Selection::default() };
        let followed = Follower::new(context, selection).follow(&mut reader, Some(&live)).await;
        live.release();
        if let Err(why) = followed {
            if job.finishes
                && let Lost::Stalled(limit) = why
            {
                // The run goes on: neither this return nor the end of the connection ends it.
                drop(watching);
                ending.disarm();
                let limit = duration(limit);
                warn!(run, job = job.name, "the client read no output for {limit}: it is given up");
                return failed(format!(
                    "the client read no output for {limit} (reader_timeout of the job): run {run} \
                     of `{}` goes on without it",
                    job.name
                ));
            }
            lost.set(&why);
        }
        match executing.await {
            Ok(record) => reply(&record),
            Err(error) => failed(format!("run {run} of `{}` failed: {error}", job.name)),
        }
    }

    /// Runs a job up to its end, and returns its record.
    async fn execute(
        &self,
        submission: Submission,
        slot: Slot,
        over: CancellationToken,
        lost: ClientLost,
    ) -> Record {
        let Submission { request, job, args, input, running, live, mut stored, trace, .. } =
            submission;
        let _ended = EndWhenDropped(Arc::clone(&live));
        let keep = job.keep;
        stored.record.outcome = Outcome::Running;
        stored.record.started_ms = Some(now_ms());
        if let Err(error) = self.save(stored.clone()).await {
            warn!(run = stored.record.run, %error, "cannot record a run");
            // On the disk, a queued run was not started: this must stay true.
            if request.detach {
                let message =
                    format!("`{}` was not started: cannot record its start: {error}", job.name);
                stored.record.started_ms = None;
                fail(&mut stored.record, Some(Reason::NotStarted), message);
                let record = stored.record.clone();
                self.finish(stored, &live, keep).await;
                return record;
            }
        }
        let (live_too, state) = (Arc::clone(&live), self.0.store.state().to_owned());
        let start =
            Start { job, state, args, input, trace, live: live_too, running, slot, over, lost };
        let running = run::run(start, &mut stored.record, &self.0.processes).await;
        let record = stored.record.clone();
        self.finish(stored, &live, keep).await;
        drop(running);
        record
    }

    /// Records the end of a run, and removes the oldest ones.
    async fn finish(&self, stored: Stored, live: &Live, keep: Keep) {
        let name = stored.record.job.clone();
        live.conclude(stored.record.clone());
        if let Err(error) = self.save(stored).await {
            error!(job = name, %error, "cannot record the end of a run");
        }
        live.end();
        let store = Arc::clone(&self.0.store);
        let pruned = spawn_blocking(move || store.prune(&name, &keep)).await;
        if let Ok(Err(error)) = pruned {
            warn!(%error, "cannot remove old runs");
        }
    }

    async fn save(&self, stored: Stored) -> Result<(), String> {
        let store = Arc::clone(&self.0.store);
        let saved = spawn_blocking(move || store.put(stored)).await;
        saved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Waits for a slot.
    async fn queue(&self, slots: &Arc<Slots>, running: &Running) -> Result<Slot, Failure<Content>> {
        tokio::select! {
            biased;
            by = running.cancelled() => {
                let message = format!("cancelled by {by}");
                Err(Failure { message, content: Some(Reason::Cancelled.into()), refused: None })
            }
            () = self.0.draining.cancelled() => Err(shut_down()),
            slot = slots.take() => Ok(slot),
        }
    }

    /// Checks a run that has waited by the declaration of now.
    async fn check_again(
        &self,
        submission: &mut Submission,
        peer: Peer,
    ) -> Result<(), Failure<Content>> {
        if self.0.draining.is_cancelled() {
            return Err(shut_down());
        }
        let known = self.known();
        let caller = Caller::of(peer, &known.jobs).await;
        let Run { job, args, .. } = &submission.request;
        let (job, _, args) = known.permitted(&caller, job, args)?;
        (submission.job, submission.args) = (job, args);
        Ok(())
    }
}

/// Cancels `over` when `request` is cancelled, until the handle is dropped.
fn end_with(request: CancellationToken, over: CancellationToken) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        request.cancelled().await;
        over.cancel();
    }))
}

/// The run no longer waits for its client, however this is dropped.
struct Owner(Arc<Live>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Lets the readers of a run end, also if the run panics.
struct EndWhenDropped(Arc<Live>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Lets the connection notice that the client disconnected or that the deadline passed, as both
/// may have while the daemon was stopped. Returns whether the request still counts.
async fn still_wanted(context: &Context) -> bool {
    /// The runtime fires a timer only after it has looked at the sockets. Yielding alone does not
    /// suffice: another thread may still hold the socket's event.
    const SOCKETS_READ: Duration = Duration::from_millis(1);
    /// One turn reads the end of the connection, the next one cancels the request.
    const TURNS: usize = 4;
    let cancelled = context.cancellation();
    tokio::time::sleep(SOCKETS_READ).await;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    !cancelled.is_cancelled()
}

/// Returns the standard input of a run.
fn input(job: &Job, request: &Run) -> Result<Option<Vec<u8>>, Failure<Content>> {
    let unusable = |why: String| refusal(Refusal::Other, why);
    let input = match (&request.stdin, &request.stdin_base64) {
        (None, None) => return Ok(None),
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map_err(|error| unusable(format!("`stdin_base64` is not base64: {error}")))?,
        (Some(_), Some(_)) => {
            return Err(unusable("`stdin` and `stdin_base64` exclude each other".to_owned()));
        }
    };
    if !job.stdin {
        return Err(unusable(format!("`{}` takes no standard input", job.name)));
    }
    Ok(Some(input))
}

fn dry_run(job: &Job, slots: &Slots, args: &[String], caller: &Caller) -> Answer<Content> {
    let args = job.shown(args);
    let (running, at_once) = slots.taken();
    // The declared command line may have secrets, so that only its owner gets it.
    let command = caller.owns_server().then(|| [job.run.clone(), args.clone()].concat());
    let message = format!("`{}` would run: {running} of {at_once} runs are going on", job.name);
    let content = DryRun { job: job.name.clone(), args, command, running, at_once };
    Answer::new(message).with_content(Content::DryRun(Box::new(content)))
}

fn unconfirmed(job: &Job) -> Reply {
    let message = format!("`{}` must be confirmed: `kakehi run --yes`", job.name);
    let content = Some(Content::Confirm { confirm: true, about: job.about.clone() });
    Err(Failure { message, content, refused: Some(Refusal::Other) })
}

pub(super) fn shut_down() -> Failure<Content> {
    refusal(Refusal::ShuttingDown, "not started: the server is shutting down".to_owned())
}

fn occupied(submission: &Submission) -> Reply {
    let (taken, at_once) = submission.slots.taken();
    let name = &submission.job.name;
    let why = format!("`{name}` was not started: {taken} of {at_once} runs are going on");
    Err(refusal(Refusal::Busy, why))
}

async fn tell_waiting(
    Submission { job, slots, running, .. }: &Submission,
    context: &Context,
) -> Result<(), Failure<Content>> {
    let (taken, at_once) = slots.taken();
    let message = format!("waiting: {taken} of {at_once} runs of `{}` are going on", job.name);
    let why = Content::Waiting { run: running.run.clone(), waiting: true, running: taken, at_once };
    let told = context.progress_with(message, &why).await;
    told.map_err(|error| Failure { message: error.to_string(), content: None, refused: None })
}

fn record(running: &Running, job: &Job) -> Record {
    Record {
        run: running.run.clone(),
        id: running.id.clone(),
        job: job.name.clone(),
        args: running.args.clone(),
        uid: running.uid,
        caller: running.remote.clone(),
        outcome: Outcome::Queued,
        queued_ms: now_ms(),
        started_ms: None,
        ended_ms: None,
        exit_code: None,
        signal: None,
        ended_by: None,
        duration_ms: 0,
        stdout_lines: 0,
        stderr_lines: 0,
        reason: None,
        message: String::new(),
    }
}

/// The final response of a run that is over.
pub(super) fn reply(record: &Record) -> Reply {
    let message = record.message.clone();
    // Without an end, the job was not started or cannot be ended.
    let has_ended = record.exit_code.is_some() || record.signal.is_some();
    let content = if has_ended {
        Some(Content::Ended(Box::new(Ended::from(record))))
    } else if record.outcome == Outcome::Unknown {
        Some(Content::Unknown { run: record.run.clone(), outcome: record.outcome })
    } else {
        record.reason.map(Content::from)
    };
    match record.outcome {
        Outcome::Ok => Ok(Answer { message, content }),
        _ => Err(Failure { message, content, refused: None }),
    }
}
