//! What callers see of the server, and how they end what runs.

use std::time::Duration;

use humantime::format_duration;
use kakehi_server::{Answer, Failure};
use tokio::time::timeout;

use super::{
    caller::Caller,
    content::{Content, Listed, Running, Status},
    file::Jobs,
    service::{Reply, Service, Shared, denied, failed},
};

/// The jobs that the caller may run.
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

impl Service {
    /// How the server is, and what runs that concerns the caller.
    pub(super) fn status(&self, caller: &Caller, jobs: &Jobs) -> Answer<Content> {
        let Shared { registry, handle, since, .. } = &*self.0;
        let (running, counters) = (registry.running(), handle.stats());
        // Others' requests are theirs, except where they stand in one's way.
        let visible = |job: &Option<String>| {
            job.as_ref().and_then(|job| jobs.get(job)).is_some_and(|job| caller.may_run(job))
        };
        let shown = running
            .iter()
            .filter(|entry| caller.owns_server() || entry.uid == caller.uid || visible(&entry.job));
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_ms: since.elapsed().as_millis(),
            connections: counters.connections,
            running: shown.map(Running::from).collect(),
            counters,
        };
        let up = format_duration(Duration::from_secs(since.elapsed().as_secs()));
        let message = format!(
            "up {up}, {} connections, {} requests running",
            counters.connections,
            running.len(),
        );
        Answer::new(message).with_content(Content::Status(Box::new(status)))
    }

    /// Cancels what runs under `id`, and waits until nothing of it runs any more. The id is the
    /// client's: there may be several.
    pub(super) async fn cancel(&self, id: &str, caller: &Caller) -> Reply {
        const PATIENCE: Duration = Duration::from_secs(15);
        let mut running = self.0.registry.running();
        running.retain(|entry| entry.id == id);
        if running.is_empty() {
            return failed(format!("no running request has the id {id:?}"));
        }
        running.retain(|entry| caller.uid == 0 || caller.uid == entry.uid);
        if running.is_empty() {
            return denied(format!("only who started {id:?}, or root, may cancel it"));
        }
        let content =
            Some(Content::Cancelled { cancelled: running.iter().map(Running::from).collect() });
        for entry in &running {
            entry.cancel(caller.uid);
        }
        let all = async {
            for entry in &running {
                entry.until_over().await;
            }
        };
        if timeout(PATIENCE, all).await.is_ok() {
            return Ok(Answer { message: format!("cancelled {id:?}"), content });
        }
        let message = format!("{id:?} is cancelled, and has not ended yet");
        Err(Failure { message, content, refused: None })
    }

    /// Makes the server end as a signal would.
    pub(super) fn stop(&self, caller: &Caller) -> Reply {
        if !caller.owns_server() {
            return denied(format!("uid {} may not stop this server", caller.uid));
        }
        self.0.stop.notify_one();
        Ok(Answer { message: "stopping".to_owned(), content: None })
    }
}
