//! How long earlier runs of each job took.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;

use super::status::Request;
use crate::{question::Question, reply::Answer};

/// The most jobs that are remembered.
const MOST_JOBS: usize = 64;
/// How many of the newest runs of a job count.
const NEWEST: usize = 21;
/// How long the records of a job are used before they are read again.
const FRESH: Duration = Duration::from_secs(20);
/// The largest answer that is decoded, in bytes.
const LARGEST: usize = 2 * 1024 * 1024;

/// The durations of earlier runs, by job.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<String, Job>);

#[derive(Debug)]
struct Job {
    /// The median of successful runs.
    duration: Option<Duration>,
    /// How long runs that go on were queued, by run.
    queued: BTreeMap<String, Duration>,
    read: Instant,
    /// A run has started or ended since.
    is_old: bool,
}

#[derive(Deserialize)]
struct Record {
    run: String,
    outcome: String,
    #[serde(default)]
    queued_ms: u64,
    started_ms: Option<u64>,
    #[serde(default)]
    duration_ms: u64,
}

impl History {
    /// The job whose records are to be read next: one without any, or one with old ones.
    pub(super) fn wanted(&self, requests: &[Request], now: Instant) -> Option<String> {
        let jobs = || requests.iter().filter_map(|request| request.job.as_ref());
        let unknown = jobs().find(|job| !self.0.contains_key(*job));
        let is_old = |job: &&String| {
            let known = self.0.get(*job);
            known.is_some_and(|known| known.is_old || now.duration_since(known.read) > FRESH)
        };
        unknown.or_else(|| jobs().find(is_old)).cloned()
    }

    /// The request for the records of a job.
    pub(super) fn question(job: &str) -> Question {
        Question::command(&json!({ "runs": { "job": job } }))
    }

    /// Remembers the records of a job; `None`: the server does not give them.
    pub(super) fn add(&mut self, job: String, answer: Option<&Answer>, now: Instant) {
        if self.0.len() >= MOST_JOBS && !self.0.contains_key(&job) {
            let oldest = self.0.iter().min_by_key(|(_, job)| job.read);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| self.0.remove(&name));
        }
        let content = answer.and_then(Answer::content).filter(|content| content.len() <= LARGEST);
        let records = content.and_then(|content| serde_json::from_str(content).ok());
        let records: Vec<Record> = records.unwrap_or_default();
        let ended = records.iter().rev().filter(|record| record.outcome == "ok").take(NEWEST);
        let mut durations: Vec<_> = ended.map(|record| record.duration_ms).collect();
        durations.sort_unstable();
        let duration = durations.get(durations.len() / 2).copied().map(Duration::from_millis);
        let queued = records.iter().filter(|record| record.outcome == "running");
        let queued = queued.filter_map(|record| {
            let waited = record.started_ms?.saturating_sub(record.queued_ms);
            Some((record.run.clone(), Duration::from_millis(waited)))
        });
        self.0.insert(job, Job { duration, queued: queued.collect(), read: now, is_old: false });
    }

    /// How long the job takes.
    pub(super) fn duration(&self, job: Option<&str>) -> Option<Duration> {
        self.0.get(job?)?.duration
    }

    /// How long the run was queued before it started.
    pub(super) fn queued(&self, request: &Request) -> Duration {
        let job = request.job.as_ref().and_then(|job| self.0.get(job));
        job.and_then(|job| job.queued.get(&request.id)).copied().unwrap_or_default()
    }

    /// Reads the records of a job again, because one of its runs has started or ended.
    pub(super) fn changed(&mut self, job: &str) {
        if let Some(job) = self.0.get_mut(job) {
            job.is_old = true;
        }
    }
}

/// An answer with these records.
#[cfg(test)]
pub(super) fn records(records: &serde_json::Value) -> Answer {
    let answer =
        json!({ "id": "", "version": 0, "status": "OK", "message": "", "content": records });
    Answer::of(&answer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(job: &str, id: &str) -> Request {
        Request { job: Some(job.into()), id: id.into(), ..Request::default() }
    }

    #[test]
    fn the_estimate_is_the_median_of_the_newest_successful_runs() {
        let now = Instant::now();
        let mut history = History::default();
        let requests = [request("a", "r9"), request("b", "r1")];
        assert_eq!(history.wanted(&requests, now).as_deref(), Some("a"));
        let run = |outcome: &str, ms: u64| json!({ "run": "r9", "outcome": outcome, "duration_ms": ms, "queued_ms": 5, "started_ms": 25 });
        let old = (0..30).map(|_| run("ok", 1));
        let new = [9_000, 2_000, 3_000].map(|ms| run("ok", ms));
        let more = (0..18).map(|_| run("ok", 3_500));
        let others = [run("failed", 0), run("unknown", 0), run("running", 0)];
        let all: Vec<_> = old.chain(more).chain(new).chain(others).collect();
        history.add("a".into(), Some(&records(&json!(all))), now);
        assert_eq!(history.duration(Some("a")), Some(Duration::from_millis(3_500)));
        assert_eq!(history.queued(&requests[0]), Duration::from_millis(20));
        assert_eq!(history.wanted(&requests, now).as_deref(), Some("b"));
        history.add("b".into(), None, now);
        assert_eq!(history.duration(Some("b")), None);
        assert_eq!(history.wanted(&requests, now), None);
        assert_eq!(history.wanted(&requests, now + 2 * FRESH).as_deref(), Some("a"));
    }

    #[test]
    fn the_number_of_jobs_is_bounded() {
        let mut history = History::default();
        for number in 0..1_000 {
            history.add(number.to_string(), None, Instant::now());
        }
        assert_eq!(history.0.len(), MOST_JOBS);
    }
}
