//! What the answers of this server carry for a program.

use std::sync::Arc;

use kakehi_server::{Answer, Failure, Stats};
use serde::Serialize;

use super::{job::Job, registry::Entry, run::Ended};

/// The content of any answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Ended(Ended),
    List(Vec<Listed>),
    Status(Box<Status>),
    Cancelled { cancelled: Vec<Running> },
    Waiting { waiting: bool, running: usize, at_once: usize },
}

/// A job, for `list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    job: String,
    about: String,
    args: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u128>,
    at_once: usize,
    when_client_leaves: &'static str,
}

/// How the server is, for `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u128,
    pub(crate) connections: usize,
    pub(crate) running: Vec<Running>,
    pub(crate) counters: Stats,
}

/// A running request, for `status` and `cancel`.
#[derive(Debug, Serialize)]
pub(crate) struct Running {
    id: String,
    command: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    uid: u32,
    age_ms: u128,
    waiting: bool,
    /// Of the first process, which is also that of its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
}

impl From<&Arc<Job>> for Listed {
    fn from(job: &Arc<Job>) -> Self {
        Self {
            job: job.name.clone(),
            about: job.about.clone(),
            args: job.args.iter().map(|pattern| pattern.text().to_owned()).collect(),
            timeout_ms: job.timeout.map(|timeout| timeout.as_millis()),
            at_once: job.at_once,
            when_client_leaves: if job.finishes { "finish" } else { "kill" },
        }
    }
}

impl From<&Arc<Entry>> for Running {
    fn from(entry: &Arc<Entry>) -> Self {
        Self {
            id: entry.id.clone(),
            command: entry.command,
            job: entry.job.clone(),
            uid: entry.uid,
            age_ms: entry.since.elapsed().as_millis(),
            waiting: entry.waiting(),
            pid: entry.group(),
        }
    }
}

/// The answer of a run, as an answer of the server.
pub(crate) fn ended(
    end: Result<Answer<Ended>, Failure<Ended>>,
) -> Result<Answer<Content>, Failure<Content>> {
    end.map(|Answer { message, content }| Answer { message, content: content.map(Content::Ended) })
        .map_err(|Failure { message, content, refused }| {
            let content = content.map(Content::Ended);
            Failure { message, content, refused }
        })
}
