//! The handler of the `server` binary.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use kakehi_channel::{Refusal, Request};
use kakehi_server::{Answer, Context, Failure, Handle, Handler, demo};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    caller::Caller,
    command::{Cancel, Command, Run},
    content::{self, Content},
    control::list,
    file::{self, Jobs},
    job::Job,
    processes::Processes,
    registry::{Entry, Registry},
    run,
    slots::{Slot, Slots},
};

/// The longest id, in bytes: as many as may be running fit into one answer to `status`.
const MAX_ID: usize = 256;

pub(super) type Reply = Result<Answer<Content>, Failure<Content>>;

/// Answers the commands of this server: jobs, a look at itself, the demo. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    file: Option<PathBuf>,
    known: RwLock<Arc<Known>>,
    pub(super) registry: Arc<Registry>,
    processes: Arc<Processes>,
    pub(super) handle: Handle,
    pub(super) since: Instant,
    /// Somebody asked for the end.
    pub(super) stop: Notify,
}

/// What a reload replaces.
#[derive(Debug, Default)]
struct Known {
    jobs: Jobs,
    slots: BTreeMap<String, Arc<Slots>>,
}

impl Service {
    /// Reads the jobs of `file`, or has none.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) async fn new(file: Option<PathBuf>, handle: &Handle) -> Result<Self, Vec<String>> {
        let service = Self(Arc::new(Shared {
            file,
            known: RwLock::default(),
            registry: Arc::default(),
            processes: Processes::new().map_err(|error| vec![error.to_string()])?,
            handle: handle.clone(),
            since: Instant::now(),
            stop: Notify::new(),
        }));
        service.reload().await?;
        Ok(service)
    }

    /// Reads the file again, and says how many jobs there are now. What is running is not touched.
    ///
    /// # Errors
    /// What is wrong with it; the jobs stay as they were.
    pub(crate) async fn reload(&self) -> Result<usize, Vec<String>> {
        let Some(file) = self.0.file.clone() else { return Ok(0) };
        let loaded = spawn_blocking(move || file::load(&file)).await;
        let jobs = loaded.unwrap_or_else(|error| Err(vec![error.to_string()]))?;
        let count = jobs.len();
        let known = &mut *self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(known.replaced(jobs));
        Ok(count)
    }

    /// Waits until somebody who may asks the server to stop.
    pub(crate) async fn stopped(&self) {
        self.0.stop.notified().await;
    }

    /// Ends all jobs at once; none is started afterwards.
    pub(crate) fn kill_all(&self) {
        self.0.processes.kill_all();
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// With `jobs` instead. Runs that are going on count on, and so does who is about to ask.
    fn replaced(&self, jobs: Jobs) -> Self {
        let kept = self.slots.iter();
        let kept = kept.filter(|(name, slots)| jobs.contains_key(*name) || slots.taken().0 > 0);
        let mut slots: BTreeMap<_, _> =
            kept.map(|(name, slots)| (name.clone(), Arc::clone(slots))).collect();
        for (name, job) in &jobs {
            slots
                .entry(name.clone())
                .and_modify(|slots| slots.resize(job.at_once))
                .or_insert_with(|| Slots::new(job.at_once));
        }
        Self { jobs, slots }
    }
}

impl Handler<Command> for Service {
    type Answer = Answer<Content>;
    type Error = Failure<Content>;

    async fn handle(&self, request: Request<Command>, context: Context) -> Reply {
        let known = self.known();
        let caller = Caller::of(context.peer(), &known.jobs).await;
        if !caller.may_ask(&known.jobs) {
            return denied(format!("uid {} may not use this server", caller.uid));
        }
        let id = request.id;
        // Others are shown it.
        if id.len() > MAX_ID {
            return unusable(format!("the id has {} bytes, more than {MAX_ID}", id.len()));
        }
        match request.command.unwrap_or_default() {
            Command::Run(run) => self.run(id, run, &caller, &known, &context).await,
            Command::List => Ok(list(&caller, &known.jobs)),
            Command::Status => Ok(self.status(&caller, &known.jobs)),
            Command::Cancel(Cancel { id }) => self.cancel(&id, &caller).await,
            Command::Stop => self.stop(&caller),
            command @ Command::Demo(_) => self.demonstrate(id, command, &caller, &context).await,
        }
    }

    /// Never the arguments: they may be secret.
    fn describe(&self, request: &Request<Command>) -> String {
        match &request.command {
            Some(Command::Run(run)) => format!("run {}", run.job),
            Some(command) => command.name().to_owned(),
            None => Command::default().name().to_owned(),
        }
    }
}

impl Service {
    async fn run(
        &self,
        id: String,
        Run { job, args }: Run,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        let Some((job, slots)) = known.jobs.get(&job).zip(known.slots.get(&job)) else {
            return unusable(format!("there is no job `{job}`"));
        };
        if !caller.may_run(job) {
            return denied(format!("uid {} may not run `{}`", caller.uid, job.name));
        }
        if let Err(why) = job.check(&args) {
            return unusable(why);
        }
        let running = self.0.registry.enter(id, "run", Some(job.name.clone()), caller.uid);
        let waiting = wait_for_slot(job, slots, context, &running);
        let slot = tokio::select! {
            slot = waiting => slot?,
            by = running.cancelled() => return failed(format!("cancelled by uid {by}")),
        };
        content::ended(run::run(job, &args, context, running, slot, &self.0.processes).await)
    }

    async fn demonstrate(
        &self,
        id: String,
        command: Command,
        caller: &Caller,
        context: &Context,
    ) -> Reply {
        let name = command.name();
        let Command::Demo(command) = command else { return failed("not a demo".to_owned()) };
        let running = self.0.registry.enter(id, name, None, caller.uid);
        let demonstrated = tokio::select! {
            demonstrated = demo::Demo.run(command, context) => demonstrated,
            by = running.cancelled() => return failed(format!("cancelled by uid {by}")),
        };
        demonstrated.map(|message| Answer { message, content: None }).map_err(|failure| {
            let Failure { message, refused, .. } = failure;
            Failure { message, content: None, refused }
        })
    }
}

/// Takes a place at once, or tells the client that there is none and waits.
async fn wait_for_slot(
    job: &Job,
    slots: &Arc<Slots>,
    context: &Context,
    running: &Entry,
) -> Result<Slot, Failure<Content>> {
    if let Some(slot) = slots.try_take() {
        return Ok(slot);
    }
    running.set_waiting(true);
    let (taken, at_once) = slots.taken();
    let message = format!("waiting: {taken} of {at_once} runs of `{}` are going on", job.name);
    let why = Content::Waiting { waiting: true, running: taken, at_once };
    let told = context.progress_with(message, &why).await;
    told.map_err(|error| Failure { message: error.to_string(), content: None, refused: None })?;
    let slot = slots.take().await;
    running.set_waiting(false);
    Ok(slot)
}

/// The caller may not do this.
pub(super) fn denied(message: String) -> Reply {
    Err(Failure { message, content: None, refused: Some(Refusal::Denied) })
}

/// There is no such thing to do; nothing was started.
fn unusable(message: String) -> Reply {
    Err(Failure { message, content: None, refused: Some(Refusal::Other) })
}

pub(super) fn failed(message: String) -> Reply {
    Err(Failure { message, content: None, refused: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_its_places_over_a_reload_whoever_has_or_asks_for_one() {
        let read = |text: &str| file::parse(text.as_bytes()).unwrap();
        let one = "[job.a]\nrun = ['true']\n";
        let first = Known::default().replaced(read(one));
        let asking = Arc::clone(&first.slots["a"]);
        let second = first.replaced(read(&format!("{one}at_once = 2\n[job.b]\nrun = ['true']")));
        assert!(Arc::ptr_eq(&asking, &second.slots["a"]));
        assert_eq!(asking.taken(), (0, 2));

        let (_held, third) = (asking.try_take(), second.replaced(Jobs::new()));
        assert_eq!(third.slots.keys().collect::<Vec<_>>(), ["a"], "what nobody has is forgotten");
    }
}
