//! The state that the referees check against, and the trace of events.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::plan::{End, Plan};

/// A handle on the court.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Court>>);

impl Shared {
    pub(super) fn new(is_loud: bool) -> Self {
        Self(Arc::new(Mutex::new(Court {
            now: Duration::ZERO,
            runs: vec![],
            accepts: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            processes: vec![],
            journal: Journal {
                is_loud,
                hasher: DefaultHasher::new(),
                events: 0,
                reached: BTreeMap::new(),
                failure: None,
            },
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Court> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Court {
    /// The world's time before the step that runs now.
    pub(super) now: Duration,
    /// By token: one for each time that a request is sent.
    pub(super) runs: Vec<Run>,
    /// By `NODE.EPOCH.N`.
    pub(super) accepts: BTreeMap<String, Accepted>,
    /// The token of each inbox.
    pub(super) inboxes: BTreeMap<String, usize>,
    pub(super) processes: Vec<Record>,
    pub(super) journal: Journal,
}

/// One request, sent once.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    /// The process of the client.
    pub(super) client: usize,
    pub(super) sent: Duration,
    pub(super) start: Option<Start>,
    pub(super) stage: Stage,
    /// When the handler ended.
    pub(super) ended: Duration,
    pub(super) said: u64,
    pub(super) heard: u64,
    /// When the last control came to the node.
    pub(super) controlled: Duration,
    pub(super) report: Option<(Duration, Report)>,
}

#[derive(Debug)]
pub(super) struct Start {
    pub(super) process: usize,
    pub(super) id: String,
    /// The life of the process.
    pub(super) life: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Planned,
    Running,
    Returned(End),
    Cancelled,
    /// The process of the node was killed.
    Killed,
}

/// The result of a request, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Ok,
    Failed(String),
    NotSent(String),
    Refused(String),
    Unknown(String),
    Late {
        is_sent: bool,
        is_deadline: bool,
    },
    GivenUp,
    /// The final response of an earlier request with this id.
    Earlier(String),
    /// A result that breaks the protocol.
    Wrong(String),
}

/// A request that a node accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) token: usize,
    pub(super) process: usize,
    pub(super) life: u64,
    pub(super) at: Duration,
    /// When the first GO was delivered.
    pub(super) go: Option<Duration>,
    pub(super) has_started: bool,
    /// The highest credit that was delivered.
    pub(super) credit: u64,
    /// The highest number of a batch.
    pub(super) top: u64,
}

/// The troubles of one process.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) life: u64,
    /// When the process was killed for the last time.
    pub(super) killed: Option<Duration>,
    /// The life that ended then.
    pub(super) dead_life: u64,
    pub(super) is_draining: bool,
    /// The last life in which it drained.
    pub(super) drained_life: u64,
    /// When no message could reach it or leave it; in order.
    pub(super) cuts: Vec<(Duration, Duration)>,
    /// When it was stopped; in order.
    pub(super) stops: Vec<(Duration, Duration)>,
}

/// A hash of all events, a counter for each kind of event, and the first failure.
pub(super) struct Journal {
    is_loud: bool,
    hasher: DefaultHasher,
    pub(super) events: u64,
    pub(super) reached: BTreeMap<&'static str, u64>,
    pub(super) failure: Option<String>,
}

impl Court {
    pub(super) fn plan(&mut self, plan: Plan, client: usize) -> usize {
        let token = self.runs.len();
        self.note("a request", token, client);
        let sent = self.now;
        self.runs.push(Run {
            plan,
            client,
            sent,
            start: None,
            stage: Stage::Planned,
            ended: Duration::ZERO,
            said: 0,
            heard: 0,
            controlled: Duration::ZERO,
            report: None,
        });
        token
    }

    pub(super) fn say(&mut self, token: usize) {
        self.runs[token].said += 1;
    }

    pub(super) fn hear(&mut self, token: usize) {
        self.runs[token].heard += 1;
    }

    pub(super) fn died(&mut self, process: usize, now: Duration) {
        let record = &mut self.processes[process];
        record.killed = Some(now);
        record.dead_life = record.life;
    }

    /// Whether no handler runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.runs.iter().all(|run| run.stage != Stage::Running)
    }

    pub(super) fn note(&mut self, what: &'static str, who: usize, how: usize) {
        let now = self.now;
        self.journal.note(now, what, who, how);
    }

    pub(super) fn reach(&mut self, what: &'static str) {
        *self.journal.reached.entry(what).or_default() += 1;
    }

    /// Keeps the first failure.
    pub(super) fn fail(&mut self, why: String) {
        if self.journal.is_loud {
            println!("FAILURE: {why}");
        }
        self.journal.failure.get_or_insert(why);
    }
}

impl Journal {
    fn note(&mut self, at: Duration, what: &'static str, who: usize, how: usize) {
        (at, what, who, how).hash(&mut self.hasher);
        self.events += 1;
        if self.is_loud {
            println!("{at:>12?} {what} {who} {how}");
        }
    }

    /// Prints details that are not part of the trace.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:>12} {}", "", what());
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
