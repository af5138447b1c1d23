//! The state of a simulated world: the links, the runs of the handlers, the trace and the first
//! failure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fastrand::Rng;
use kakehi_server::Limits;
use tokio::time::Instant;

use crate::{link::Link, plan::Plan, run::Run};

/// A handle on the world. No task holds its lock across an await point.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) links: Vec<Link>,
    pub(crate) court: Court,
}

/// The data that the referees check against.
pub(crate) struct Court {
    pub(crate) limits: Limits,
    pub(crate) runs: Vec<Run>,
    /// The time of the request to shut the server down.
    pub(crate) stopping: Option<Instant>,
    pub(crate) journal: Journal,
}

/// A hash of all events, a counter for each kind of event, and the first failure.
pub(crate) struct Journal {
    born: Instant,
    loud: bool,
    hasher: DefaultHasher,
    pub(crate) events: u64,
    pub(crate) reached: BTreeMap<&'static str, u64>,
    pub(crate) failure: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, loud: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = crate::plan::limits(&mut rng);
        let journal = Journal {
            born: Instant::now(),
            loud,
            hasher: DefaultHasher::new(),
            events: 0,
            reached: BTreeMap::new(),
            failure: None,
        };
        let court = Court { limits, runs: vec![], stopping: None, journal };
        Self(Arc::new(Mutex::new(State { rng, links: vec![], court })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random number generator for one actor.
    pub(crate) fn rng(&self) -> Rng {
        Rng::with_seed(self.lock().rng.u64(..))
    }

    pub(crate) fn note(&self, what: &'static str, who: u64, how: u64) {
        self.lock().court.journal.note(what, who, how);
    }

    /// Keeps the first failure.
    pub(crate) fn judge(&self, verdict: Result<(), String>) {
        self.lock().court.journal.judge(verdict);
    }

    pub(crate) fn stop(&self) {
        let state = &mut *self.lock();
        state.court.journal.note("shutdown", 0, 0);
        state.court.stopping = Some(Instant::now());
    }

    /// Stores the plan of a request and returns its token, which the request carries.
    pub(crate) fn plan(&self, plan: Plan) -> u64 {
        let runs = &mut self.lock().court.runs;
        runs.push(Run::new(plan));
        runs.len() as u64 - 1
    }

    /// Calls `work` with the run of `token`.
    pub(crate) fn run<T>(&self, token: u64, work: impl FnOnce(&mut Run) -> T) -> T {
        work(self.lock().court.run(token).expect("each token has a plan"))
    }
}

impl Court {
    pub(crate) fn run(&mut self, token: u64) -> Option<&mut Run> {
        self.runs.get_mut(usize::try_from(token).ok()?)
    }
}

impl Journal {
    pub(crate) fn note(&mut self, what: &'static str, who: u64, how: u64) {
        let at = self.born.elapsed();
        (at, what, who, how).hash(&mut self.hasher);
        self.events += 1;
        if self.loud {
            println!("{at:>12?} {what} {who} {how}");
        }
    }

    /// Prints details that are not part of the trace.
    pub(crate) fn tell(&self, what: impl std::fmt::Debug) {
        if self.loud {
            println!("{:>12} {what:?}", "");
        }
    }

    pub(crate) fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }

    pub(crate) fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            if self.loud {
                println!("FAILURE: {why}");
            }
            self.failure.get_or_insert(why);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
