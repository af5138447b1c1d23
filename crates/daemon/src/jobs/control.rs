//! The commands that show and end requests.

use std::{sync::Arc, time::Duration};

use kakehi_server::{Answer, Failure};
use kakehi_time::elapsed;
use tokio::time::timeout;
use tracing::info;

use super::{
    caller::Caller,
    content::{Content, Described, Listed, Reason, Running, Status},
    file::Jobs,
    registry::Entry,
    requests::Cancel,
    service::{Known, Reply, Service, Shared, denied, failed, unstarted},
};

/// Lists the jobs that the caller may run.
pub(super) fn list(caller: &Caller, jobs: &Jobs) -> Answer<Content> {
    let listed: Vec<_> = jobs.values().filter(|job| caller.may_run(job)).collect();
    let names: Vec<_> = listed.iter().map(|job| job.name.as_str()).collect();
    let message = match names.as_slice() {
        [] => "no jobs".to_owned(),
        [name] => format!("1 job: {name}"),
        names => format!("{} jobs: {}", names.len(), names.join(", ")),
    };
    Answer::new(message).with_content(Content::List(listed.into_iter().map(Listed::from).collect()))
}

/// Describes a job that the caller may run.
pub(super) fn describe(job: &str, caller: &Caller, known: &Known) -> Reply {
    let (job, _) = known.find(caller, job)?;
    let described = Box::new(Described::of(job, caller.owns_server()));
    let message = if job.about.is_empty() { job.name.clone() } else { job.about.clone() };
    Ok(Answer::new(message).with_content(Content::Described(described)))
}

/// Returns the requests that match `id`: the run of that id, else those with that label, else those
/// whose run ids start with it.
fn select(id: &str, running: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
    let by = |matches: &dyn Fn(&Entry) -> bool| -> Vec<_> {
        running.iter().filter(|entry| matches(entry)).cloned().collect()
    };
    let exact = by(&|entry| entry.run == id);
    let labelled = if exact.is_empty() { by(&|entry| entry.id == id) } else { exact };
    if labelled.is_empty() && !id.is_empty() {
        return by(&|entry| entry.run.starts_with(id));
    }
    labelled
}

/// Whether the caller may read the output of a request.
fn is_reader(entry: &Entry, caller: &Caller) -> bool {
    caller.owns_server() || caller.has_started(entry.uid, entry.remote.as_deref())
}

/// Whether `status` shows the request. Requests of other users are hidden, unless they occupy slots
/// of a job of the caller.
fn is_shown(entry: &Entry, caller: &Caller, jobs: &Jobs) -> bool {
    let job = entry.job.as_ref().and_then(|job| jobs.get(job));
    is_reader(entry, caller) || job.is_some_and(|job| caller.may_run(job))
}

impl Service {
    /// Shows the state of the daemon, and the running requests that concern the caller.
    pub(super) fn status(&self, caller: &Caller, jobs: &Jobs) -> Answer<Content> {
        let Shared { registry, handle, since, .. } = &*self.0;
        let (running, mut counters) = (registry.running(), handle.stats());
        // This request itself is not in the list either.
        counters.running = counters.running.saturating_sub(1);
        let shown: Vec<_> = running
            .iter()
            .filter(|entry| is_shown(entry, caller, jobs))
            .map(|entry| match Running::from(entry) {
                shown if is_reader(entry, caller) => shown.with_line(entry),
                shown => shown,
            })
            .collect();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_ms: since.elapsed().as_millis(),
            connections: counters.connections,
            running: shown,
            counters,
            store_problem: self.0.store.problem(),
        };
        let up = elapsed(since.elapsed());
        let problem = status.store_problem.as_ref();
        let problem = problem.map(|why| format!(", records are not written: {why}"));
        let message = format!(
            "up {up}, {} connections, {} requests running{}",
            status.connections,
            status.running.len(),
            problem.unwrap_or_default(),
        );
        Answer::new(message).with_content(Content::Status(Box::new(status)))
    }

    /// Cancels requests, and waits until their processes have ended.
    pub(super) async fn cancel(&self, asked: &Cancel, caller: &Caller, known: &Known) -> Reply {
        let running = self.0.registry.running();
        let is_mine = |entry: &Arc<Entry>| {
            caller.uid == 0 || caller.has_started(entry.uid, entry.remote.as_deref())
        };
        match (&asked.id, &asked.job, asked.all) {
            (Some(id), None, false) => {
                let mut matching = select(id, &running);
                let is_shown = matching.iter().any(|entry| is_shown(entry, caller, &known.jobs));
                matching.retain(is_mine);
                if matching.is_empty() && is_shown {
                    let message =
                        format!("only root and the user who started {id:?} may cancel it");
                    return denied(message);
                }
                if matching.is_empty() {
                    let message = format!("no running request has the id {id:?}");
                    return unstarted(Reason::NoSuchRun, message);
                }
                if matching.len() > 1 {
                    let runs: Vec<_> = matching.iter().map(|entry| entry.run.as_str()).collect();
                    let runs = runs.join(", ");
                    return failed(format!("{id:?} is ambiguous: it stands for {runs}"));
                }
                end(&matching, caller, &format!("{id:?}")).await
            }
            (None, job, all) if job.is_some() != all => {
                let of_job = |entry: &Arc<Entry>| all || entry.job == *job;
                let matching = running.into_iter().filter(|entry| is_mine(entry) && of_job(entry));
                let matching: Vec<_> = matching.collect();
                // A job that was removed may still have runs.
                if let (Some(job), true) = (job, matching.is_empty()) {
                    known.find(caller, job)?;
                }
                let plural = if matching.len() == 1 { "" } else { "s" };
                let what = format!("{} request{plural}", matching.len());
                end(&matching, caller, &what).await
            }
            _ => failed("`cancel` needs one of `id`, `job` and `all`".to_owned()),
        }
    }

    /// Reads the jobs again, for root and the daemon's user.
    pub(super) async fn reload_for(&self, caller: &Caller) -> Reply {
        if !caller.owns_server() {
            return denied(format!("{caller} may not reload the jobs"));
        }
        match self.reload().await {
            Ok(jobs) => {
                info!(jobs, uid = caller.uid, "reloaded the jobs");
                let plural = if jobs == 1 { "" } else { "s" };
                let message = format!("reloaded {jobs} job{plural}");
                Ok(Answer::new(message).with_content(Content::Reloaded { jobs }))
            }
            Err(problems) => {
                let plural = if problems.len() == 1 { "" } else { "s" };
                let count = problems.len();
                let message = format!(
                    "{count} problem{plural} in the jobs file; the previous jobs stay in use"
                );
                let content = Some(Content::Problems { problems });
                Err(Failure { message, content, refused: None })
            }
        }
    }

    /// Shuts the daemon down as a signal does.
    pub(super) fn stop(&self, caller: &Caller) -> Reply {
        if !caller.owns_server() {
            return denied(format!("{caller} may not stop this daemon"));
        }
        self.0.stop.notify_one();
        let content = Content::Stopping { pid: std::process::id() };
        Ok(Answer::new("stopping").with_content(content))
    }
}

/// Cancels requests, and waits until their processes have ended.
async fn end(requests: &[Arc<Entry>], caller: &Caller, what: &str) -> Reply {
    const PATIENCE: Duration = Duration::from_secs(15);
    let content =
        Some(Content::Cancelled { cancelled: requests.iter().map(Running::from).collect() });
    for entry in requests {
        entry.cancel(caller);
    }
    let all = async {
        for entry in requests {
            entry.until_over().await;
        }
    };
    if timeout(PATIENCE, all).await.is_ok() {
        return Ok(Answer { message: format!("cancelled {what}"), content });
    }
    let message = format!("{what} is cancelled, and has not ended yet");
    Err(Failure { message, content, refused: None })
}
