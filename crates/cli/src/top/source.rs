//! Asks the server: what runs, how long earlier runs took, and to cancel a run.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep};

use super::{history::History, status::Status};
use crate::{
    args::Options,
    commands,
    failure::Failure,
    question::Question,
    reach::Server,
    remote::{Link, Remote},
    reply::Answer,
    ssh::SshHost,
};

/// The capacity of the queues of updates and orders. A full queue makes the sender wait.
pub(crate) const WAITING: usize = 8;

/// The number of jobs whose records are read between two snapshots.
const JOBS_AT_ONCE: usize = 4;

/// An update of the screen.
#[derive(Debug)]
pub(crate) enum Update {
    Status(Box<Snapshot>),
    /// The server did not answer.
    Failed(Failure),
    /// The outcome of a cancellation.
    Said(String),
}

/// The state of the server at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    /// For each request, its run time without the time in the queue, and the usual time of its job.
    pub(crate) times: Vec<(Duration, Option<Duration>)>,
    /// How long the server took to answer.
    pub(crate) answer_time: Duration,
    /// How many requests `top` itself has made since the last snapshot.
    pub(crate) own: u32,
    pub(crate) at: Instant,
}

/// The questions about the state of a server, the best first.
const QUESTIONS: [&str; 3] = ["status", "kakehi.running", commands::DESCRIBE];

/// The server, and what it can answer.
pub(super) struct Source<'o> {
    server: Connected<'o>,
    /// The index of the first question that the server is not known to refuse.
    question: usize,
}

/// The connection to the server.
enum Connected<'o> {
    Here(Server),
    /// With the connection that is kept between requests.
    There(Remote<'o>, Option<Link>),
}

impl<'o> Source<'o> {
    /// The server that the options name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find(options: &'o Options) -> Result<Self, Failure> {
        let server = match options.single_host() {
            Some(host) => Connected::There(Remote::new(host, options), None),
            None => Connected::Here(Server::find(options)?),
        };
        Ok(Self { server, question: 0 })
    }

    /// The name of the server for a person, and the options that name it.
    pub(super) fn place(&self, options: &Options) -> (String, Vec<OsString>) {
        let (name, mut arguments) = match (&self.server, options.single_host()) {
            (Connected::Here(server), _) => {
                let path = server.path();
                let arguments = vec!["--socket".into(), path.as_os_str().to_owned()];
                (path.display().to_string(), arguments)
            }
            (Connected::There(..), host) => {
                let url = host.map(SshHost::url).unwrap_or_default();
                let mut arguments: Vec<OsString> = vec!["--host".into(), url.clone().into()];
                if let Some(path) = &options.socket {
                    arguments.extend(["--socket".into(), path.as_os_str().to_owned()]);
                }
                (url, arguments)
            }
        };
        if let Some(uid) = options.server_uid {
            arguments.extend(["--server-uid".into(), uid.to_string().into()]);
        }
        (name, arguments)
    }

    async fn answer(&mut self, question: Question) -> Result<Answer, Failure> {
        match &mut self.server {
            Connected::Here(server) => server.answer(question).await,
            Connected::There(remote, kept) => {
                let mut link = match kept.take() {
                    Some(link) => link,
                    None => remote.connect().await?,
                };
                let answer = link.message(question).await;
                // After an ERROR, the connection can be used again. After another error, it may
                // still carry responses of this request.
                let is_usable =
                    answer.as_ref().map_or_else(|error| error.response().is_some(), |_| true);
                *kept = Some(link).filter(|_| is_usable);
                Ok(answer?)
            }
        }
    }

    /// Asks for the state of the server. Servers without `status` list their running requests, or
    /// describe themselves. A question that the server does not know is not asked again.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses all questions.
    pub(super) async fn status(&mut self) -> Result<(Status, Duration), Failure> {
        let (mut refused, mut is_certain) = (None, true);
        for (index, name) in QUESTIONS.into_iter().enumerate().skip(self.question) {
            let start = Instant::now();
            match self.answer(Question::command(&name.into())).await {
                Ok(answer) => {
                    let is_last = name == commands::DESCRIBE;
                    let described = || is_last.then(|| Status::described(&answer));
                    if let Some(status) = described().or_else(|| Status::of(&answer)) {
                        if is_certain {
                            self.question = index;
                        }
                        return Ok((status, start.elapsed()));
                    }
                }
                Err(failure) if is_unknown(&failure) => {
                    is_certain &= matches!(failure.word, "unsupported" | "malformed");
                    refused.get_or_insert(failure);
                }
                Err(failure) => {
                    // Another server may come.
                    self.question = 0;
                    return Err(refused.unwrap_or(failure));
                }
            }
        }
        self.question = 0;
        Err(refused.unwrap_or_else(Failure::unanswered))
    }
}

/// Whether the server does not have the command.
fn is_unknown(failure: &Failure) -> bool {
    matches!(failure.word, "unsupported" | "malformed" | "refused" | "failed")
}

/// Sends a snapshot every `interval`, or why there is none. Ends with the receiver.
pub(super) async fn poll(
    mut source: Source<'_>,
    interval: Duration,
    updates: mpsc::Sender<Update>,
    first: (Status, Duration),
) {
    let (mut history, mut known) = (History::default(), BTreeMap::new());
    let (mut next, mut own) = (Ok(first), 1);
    loop {
        let start = Instant::now();
        let update = match next {
            Ok((status, answer_time)) => {
                note_changes(&status, &mut known, &mut history);
                for _ in 0..JOBS_AT_ONCE {
                    let Some(job) = history.wanted(&status.requests, start) else { break };
                    let answer = source.answer(History::question(&job)).await;
                    own += 1;
                    history.add(job, answer.as_ref().ok(), Instant::now());
                }
                Update::Status(Box::new(snapshot(status, &history, answer_time, own)))
            }
            Err(failure) => Update::Failed(failure),
        };
        own = 0;
        if updates.send(update).await.is_err() {
            return;
        }
        sleep(interval.saturating_sub(start.elapsed())).await;
        next = source.status().await;
        own += 1;
    }
}

fn snapshot(status: Status, history: &History, answer_time: Duration, own: u32) -> Snapshot {
    let times = status.requests.iter().map(|request| {
        let elapsed = request.age.saturating_sub(history.queued(request));
        (elapsed, history.duration(request.job.as_deref()))
    });
    let times = times.collect();
    Snapshot { status, times, answer_time, own, at: Instant::now() }
}

/// Notes which jobs have runs that started or ended since the last time.
fn note_changes(
    status: &Status,
    known: &mut BTreeMap<String, (Option<String>, bool)>,
    history: &mut History,
) {
    let now: BTreeMap<_, _> = status
        .requests
        .iter()
        .map(|request| (request.id.clone(), (request.job.clone(), request.is_waiting)))
        .collect();
    for (id, was) in known.iter() {
        if now.get(id) != Some(was)
            && let Some(job) = &was.0
        {
            history.changed(job);
        }
    }
    *known = now;
}

/// Cancels the runs of `orders`, one after the other, and reports how each ended.
pub(super) async fn cancel(
    options: &Options,
    mut orders: mpsc::Receiver<String>,
    updates: mpsc::Sender<Update>,
) {
    while let Some(id) = orders.recv().await {
        let question = Question::cancel(&id);
        let answer = match options.single_host() {
            Some(host) => Remote::new(host, options).answer(question).await,
            None => match Server::find(options) {
                Ok(server) => server.answer(question).await,
                Err(failure) => Err(failure),
            },
        };
        let said = match answer {
            Ok(answer) => answer.response.message,
            Err(failure) => format!("not cancelled: {}", failure.why),
        };
        if updates.send(Update::Said(said)).await.is_err() {
            return;
        }
    }
}
