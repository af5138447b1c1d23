//! The request handler of the daemon.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use kakehi_channel::{Refusal, Request};
use kakehi_command::{Command as _, Describe, Invocation};
use kakehi_server::{Answer, Context, Failure, Handle, Handler};
use serde::Deserialize;
use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    caller::Caller,
    command::{self, Command},
    commands::description,
    content::{Content, Reason, Unstarted},
    control::{describe, list},
    file::{self, Jobs},
    ids,
    job::Job,
    leftovers,
    places::{Bounds, Places},
    processes::Processes,
    registry::Registry,
    runs::Store,
    slots::Slots,
};
use crate::demo;

/// The longest id, in bytes, so that a response to `status` has room for all running requests.
const MAX_ID: usize = 256;

pub(super) type Reply = Result<Answer<Content>, Failure<Content>>;

/// Answers the commands of the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    file: Option<PathBuf>,
    /// Whether the demo commands are answered.
    demo: bool,
    known: RwLock<Arc<Known>>,
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<Store>,
    pub(super) places: Arc<Places>,
    /// Cancelled when the daemon begins to shut down.
    pub(super) draining: CancellationToken,
    pub(super) processes: Arc<Processes>,
    pub(super) handle: Handle,
    pub(super) since: Instant,
    /// Notified by the command `stop`.
    pub(super) stop: Notify,
}

/// Why the daemon cannot start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The problems of the jobs file.
    Jobs(Vec<String>),
    System(io::Error),
    /// The runs cannot be kept.
    Store(String),
}

/// A job that the caller may run, its slots, and the arguments with their defaults.
type Permitted = (Arc<Job>, Arc<Slots>, Vec<String>);

/// How a service is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The file or folder of the jobs; `None`: no jobs.
    pub(crate) jobs: Option<PathBuf>,
    /// The folder of the runs; `None`: they last as long as the daemon.
    pub(crate) state: Option<PathBuf>,
    /// Whether the demo commands are answered.
    pub(crate) demo: bool,
    pub(crate) bounds: Bounds,
}

/// The state that a reload replaces.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) jobs: Jobs,
    slots: BTreeMap<String, Arc<Slots>>,
}

impl Service {
    /// Opens the store of runs and reads the jobs. Ends the processes that a crashed daemon left.
    ///
    /// # Errors
    /// The problems of the jobs, or the error of the store or the system.
    pub(crate) async fn new(settings: Settings, handle: &Handle) -> Result<Self, StartError> {
        let Settings { jobs, state, demo, bounds } = settings;
        let registry = Arc::<Registry>::default();
        let opened = spawn_blocking(move || open_store(state)).await;
        let opened = opened.map_err(|error| StartError::Store(error.to_string()))?;
        let store = opened.map_err(StartError::Store)?;
        if let Some(newest) = store.all().last() {
            registry.continue_after(ids::decode(&newest.record.run).unwrap_or_default());
        }
        let service = Self(Arc::new(Shared {
            file: jobs,
            demo,
            known: RwLock::default(),
            registry,
            store: Arc::new(store),
            places: Places::new(bounds),
            draining: CancellationToken::new(),
            processes: Processes::new().map_err(StartError::System)?,
            handle: handle.clone(),
            since: Instant::now(),
            stop: Notify::new(),
        }));
        service.reload().await.map_err(StartError::Jobs)?;
        service.prune().await;
        if !service.0.store.is_lasting() {
            info!("without --state, the runs are forgotten when the daemon ends");
        }
        Ok(service)
    }

    /// Removes the runs that the declarations no longer keep.
    async fn prune(&self) {
        let (store, known) = (Arc::clone(&self.0.store), self.known());
        let pruning = spawn_blocking(move || {
            let names: BTreeSet<_> = store.all().iter().map(|run| run.record.job.clone()).collect();
            for name in names {
                let keep = known.jobs.get(&name).map(|job| job.keep).unwrap_or_default();
                if let Err(error) = store.prune(&name, &keep) {
                    warn!(%error, "cannot remove old runs");
                }
            }
        });
        let _ = pruning.await;
    }

    /// Reads the file again, and returns the number of jobs. Runs that go on are not affected.
    ///
    /// # Errors
    /// The problems of the file. The previous jobs stay in use.
    pub(crate) async fn reload(&self) -> Result<usize, Vec<String>> {
        let Some(file) = self.0.file.clone() else { return Ok(0) };
        let loaded = spawn_blocking(move || file::load(&file)).await;
        let jobs = loaded.unwrap_or_else(|error| Err(vec![error.to_string()]))?;
        let count = jobs.len();
        let known = &mut *self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(known.replaced(jobs));
        Ok(count)
    }

    /// Refuses new runs, and does not start queued ones.
    pub(crate) fn drain(&self) {
        self.0.draining.cancel();
        info!(running = self.0.registry.running().len(), "draining");
    }

    /// Waits until no run is left. Cancel safe.
    pub(crate) async fn drained(&self) {
        self.0.registry.emptied().await;
    }

    /// Waits for the command `stop`.
    pub(crate) async fn stopped(&self) {
        self.0.stop.notified().await;
    }

    /// Ends all runs by SIGTERM, and 5 s later by SIGKILL. Each gets its final response.
    pub(crate) fn end_runs(&self) {
        self.0.processes.shutdown.cancel();
    }

    /// Kills all runs. None starts afterwards.
    pub(crate) fn kill_all(&self) {
        self.0.processes.kill_all();
    }

    /// Removes temporary files. To be called last.
    pub(crate) fn close(&self) {
        self.0.store.close();
    }

    pub(super) fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// Finds a job, and checks that the caller may run it with these arguments.
    pub(super) fn permitted(
        &self,
        caller: &Caller,
        job: &str,
        args: &[String],
    ) -> Result<Permitted, Failure<Content>> {
        let (job, slots) = self.find(caller, job)?;
        let args = job.check(args).map_err(|why| {
            refusal(Refusal::Other, why).with_content(Reason::InvalidArguments.into())
        })?;
        Ok((Arc::clone(job), Arc::clone(slots), args))
    }

    /// Finds a job that the caller may run.
    pub(super) fn find(
        &self,
        caller: &Caller,
        job: &str,
    ) -> Result<(&Arc<Job>, &Arc<Slots>), Failure<Content>> {
        let Some((job, slots)) = self.jobs.get(job).zip(self.slots.get(job)) else {
            let similar = similar(job, caller, &self.jobs);
            let why = Content::Unstarted(Unstarted { reason: Reason::NoSuchJob, similar });
            let failure = refusal(Refusal::Other, format!("there is no job `{}`", cut(job)));
            return Err(failure.with_content(why));
        };
        if !caller.may_run(job) {
            let message = format!("{caller} may not run `{}`", job.name);
            return Err(refusal(Refusal::Denied, message));
        }
        Ok((job, slots))
    }

    /// Replaces the jobs. Slots of a job stay, so that its runs still count.
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
        self.answer(request, context).await
    }

    /// Leaves out the arguments, which may be secret.
    fn describe(&self, request: &Request<Command>) -> Cow<'static, str> {
        match &request.command {
            Some(Command::Run(run)) => format!("run {}", run.job).into(),
            Some(command) => command.name().into(),
            None => Command::default().name().into(),
        }
    }

    async fn reserved(
        &self,
        request: Request,
        context: Context,
    ) -> Result<Option<Answer<Content>>, Failure<Content>> {
        let command = request.command.as_ref();
        if command.is_none_or(|command| Invocation::<Describe>::deserialize(command).is_err()) {
            return Ok(None);
        }
        self.description(&context).await.map(Some)
    }
}

/// Whether remote callers may use the command at all.
fn is_for_remote(command: &Command) -> bool {
    match command {
        Command::Run(run) => !run.detach,
        // Those about runs only for runs that they started.
        Command::List
        | Command::Describe(_)
        | Command::Status
        | Command::Runs(_)
        | Command::Attach(_)
        | Command::Logs(_)
        | Command::Wait(_) => true,
        Command::Cancel(cancel) => cancel.id.is_some(),
        _ => false,
    }
}

/// The part of a client's text that is logged or repeated.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_ID).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

impl Service {
    /// Describes the commands, for callers on this machine.
    async fn description(&self, context: &Context) -> Reply {
        let known = self.known();
        let caller = Caller::of(context.peer(), &known.jobs).await;
        if !caller.may_ask(&known.jobs) {
            return denied(format!("{caller} may not use this server"));
        }
        if caller.is_remote() {
            return denied(not_here(&caller, Describe::NAME));
        }
        Ok(description(&caller, &known.jobs, self.0.demo))
    }

    async fn answer(&self, request: Request<Command>, context: Context) -> Reply {
        let known = self.known();
        let caller = Caller::of(context.peer(), &known.jobs).await;
        if !caller.may_ask(&known.jobs) {
            return denied(format!("{caller} may not use this server"));
        }
        let id = request.id;
        // Ids are shown to other callers.
        if id.len() > MAX_ID {
            return unusable(format!("the id has {} bytes, more than {MAX_ID}", id.len()));
        }
        if request.command.is_none() && !self.0.demo {
            return unusable(format!("the request has no command: there are {}", command::NAMES));
        }
        let command = request.command.unwrap_or_default();
        if caller.is_remote() && !is_for_remote(&command) {
            return denied(not_here(&caller, command.name()));
        }
        match command {
            Command::Run(run) => self.run(id, run, &caller, &known, &context).await,
            Command::Rerun(rerun) => self.rerun(id, rerun, &caller, &known, &context).await,
            Command::Attach(attach) => self.attach(&attach, &caller, &known, &context).await,
            Command::Logs(logs) => self.logs(&logs, &caller, &known, &context).await,
            Command::Wait(wait) => self.wait(&wait, &caller, &known, &context).await,
            Command::Runs(filter) => Ok(self.runs(&filter, &caller, &known)),
            Command::List => Ok(list(&caller, &known.jobs)),
            Command::Describe(asked) => describe(&asked.job, &caller, &known),
            Command::Status => Ok(self.status(&caller, &known.jobs)),
            Command::Cancel(cancel) => self.cancel(&cancel, &caller, &known).await,
            Command::Stop => self.stop(&caller),
            Command::Reload => self.reload_for(&caller).await,
            command @ Command::Demo(_) if !self.0.demo => unusable(format!(
                "the command `{}` needs a server that was started with --demo",
                command.name()
            )),
            command @ Command::Demo(_) => self.demonstrate(id, command, &caller, &context).await,
        }
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
        if self.0.draining.is_cancelled() {
            return Err(super::submit::shut_down());
        }
        let place = self.0.places.take(caller, false);
        let _place = place.map_err(|why| refusal(Refusal::Busy, why))?;
        let running = self.0.registry.enter(id, name, None, vec![], caller);
        let demonstrated = tokio::select! {
            demonstrated = demo::Demo.run(command, context) => demonstrated,
            by = running.cancelled() => return failed(format!("cancelled by {by}")),
            () = self.0.processes.shutdown.cancelled() => {
                return failed("cancelled: the server is shutting down".to_owned());
            }
        };
        demonstrated.map(|message| Answer { message, content: None }).map_err(|failure| {
            let Failure { message, refused, .. } = failure;
            Failure { message, content: None, refused }
        })
    }
}

fn not_here(caller: &Caller, command: &str) -> String {
    format!("{caller} may not use `{command}`: the caller is not on this machine")
}

/// Opens the store, and ends the processes of runs that a crashed daemon left behind.
fn open_store(state: Option<PathBuf>) -> Result<Store, String> {
    let Some(folder) = state else {
        return Store::temporary().map_err(|error| error.to_string());
    };
    let (store, interrupted) = Store::open(&folder).map_err(|error| error.to_string())?;
    if !interrupted.is_empty() {
        warn!(runs = interrupted.len(), "the last daemon ended before these runs: now unknown");
    }
    leftovers::kill(store.state(), &interrupted);
    // Afterwards: if this daemon crashes before, the next one ends the processes.
    store.save(&interrupted).map_err(|error| error.to_string())?;
    Ok(store)
}

/// The jobs that the caller may run and that have a name like `name`, the most similar first.
fn similar(name: &str, caller: &Caller, jobs: &Jobs) -> Vec<String> {
    const LIKE: f64 = 0.8;
    const MOST: usize = 3;
    /// A comparison takes time with the product of both lengths.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return vec![];
    }
    let allowed = jobs.values().filter(|job| job.name.len() <= LONGEST && caller.may_run(job));
    let mut names: Vec<_> = allowed
        .map(|job| (strsim::jaro_winkler(name, &job.name), &job.name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .collect();
    names.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    names.into_iter().take(MOST).map(|(_, name)| name.clone()).collect()
}

/// A refusal, without content.
pub(super) fn refusal(refused: Refusal, message: String) -> Failure<Content> {
    Failure { message, content: None, refused: Some(refused) }
}

/// Refuses a command that the caller may not give.
pub(super) fn denied(message: String) -> Reply {
    Err(refusal(Refusal::Denied, message))
}

/// Refuses a command that this daemon cannot execute.
fn unusable(message: String) -> Reply {
    Err(refusal(Refusal::Other, message))
}

/// The request failed before it did anything.
pub(super) fn unstarted(reason: Reason, message: String) -> Reply {
    Err(Failure { message, content: Some(reason.into()), refused: None })
}

pub(super) fn failed(message: String) -> Reply {
    Err(Failure { message, content: None, refused: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_its_slots_over_a_reload() {
        let read = |text: &str| file::parse(text.as_bytes()).unwrap();
        let one = "[job.a]\nrun = ['true']\n";
        let first = Known::default().replaced(read(one));
        let asking = Arc::clone(&first.slots["a"]);
        let second = first.replaced(read(&format!("{one}at_once = 2\n[job.b]\nrun = ['true']")));
        assert!(Arc::ptr_eq(&asking, &second.slots["a"]));
        assert_eq!(asking.taken(), (0, 2));

        let (_held, third) = (asking.try_take(), second.replaced(Jobs::new()));
        assert_eq!(
            third.slots.keys().collect::<Vec<_>>(),
            ["a"],
            "jobs without runs are forgotten"
        );
    }
}
