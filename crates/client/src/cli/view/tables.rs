//! The answers to `list` and `status`, for a person.

use std::time::Duration;

use humantime::format_duration;
use serde::Deserialize;
use serde_json::Value;

use super::table::{pairs, table};
use crate::cli::output::Paint;

/// A job, as `list` tells it.
#[derive(Deserialize)]
struct Job {
    #[serde(rename = "job")]
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    args: Vec<String>,
    timeout_ms: Option<u64>,
}

/// A server, as `status` tells it.
#[derive(Deserialize)]
struct Status {
    version: String,
    pid: u32,
    uptime_ms: u64,
    connections: u64,
    running: Vec<Running>,
}

/// A running request, as `status` tells it.
#[derive(Deserialize)]
struct Running {
    id: String,
    command: String,
    job: Option<String>,
    uid: u32,
    age_ms: u64,
    #[serde(default)]
    waiting: bool,
    pid: Option<u32>,
}

/// `None`: the content is not that of a list of jobs.
pub(crate) fn list(content: &Value, paint: Paint) -> Option<String> {
    let jobs = Vec::<Job>::deserialize(content).ok()?;
    if jobs.is_empty() {
        return Some(String::new());
    }
    let rows: Vec<_> = jobs.into_iter().map(row).collect();
    Some(table(&["JOB", "ARGS", "TIMEOUT", "ABOUT"], &rows, paint))
}

fn row(Job { name, about, args, timeout_ms }: Job) -> Vec<String> {
    let timeout = timeout_ms.map(|ms| format_duration(Duration::from_millis(ms)).to_string());
    vec![name, or_dash(args.join(" ")), or_dash(timeout.unwrap_or_default()), about]
}

/// `None`: the content is not that of a server's status.
pub(crate) fn status(content: &Value, paint: Paint) -> Option<String> {
    let status = Status::deserialize(content).ok()?;
    let facts = [
        ("version", status.version),
        ("pid", status.pid.to_string()),
        ("uptime", seconds(status.uptime_ms)),
        ("connections", status.connections.to_string()),
        ("running", status.running.len().to_string()),
    ];
    let mut out = pairs(&facts, paint);
    if !status.running.is_empty() {
        let header = ["ID", "COMMAND", "JOB", "UID", "PID", "AGE", "STATE"];
        let rows: Vec<_> = status.running.into_iter().map(running).collect();
        out.push('\n');
        out += &table(&header, &rows, paint);
    }
    Some(out)
}

fn running(request: Running) -> Vec<String> {
    let Running { id, command, job, uid, age_ms, waiting, pid } = request;
    let state = if waiting { "waiting" } else { "running" };
    let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
    let job = or_dash(job.unwrap_or_default());
    vec![id, command, job, uid.to_string(), or_dash(pid), seconds(age_ms), state.to_owned()]
}

fn seconds(ms: u64) -> String {
    format_duration(Duration::from_secs(ms / 1000)).to_string()
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::output::When;

    fn plain() -> Paint {
        Paint::new(When::Never, true)
    }

    #[test]
    fn jobs_are_listed_with_what_callers_may_append() {
        let content = json!([
            { "job": "backup", "about": "archive /srv", "args": ["^[a-z]+$", "\\d"], "timeout_ms": 90_000, "at_once": 1 },
            { "job": "筧", "about": "", "args": [] },
        ]);
        let expected = "\
JOB     ARGS         TIMEOUT  ABOUT
backup  ^[a-z]+$ \\d  1m 30s   archive /srv
筧      -            -
";
        assert_eq!(list(&content, plain()).unwrap(), expected);
        assert_eq!(list(&json!([]), plain()).unwrap(), "");
    }

    #[test]
    fn a_status_tells_what_runs() {
        let mut content = json!({
            "version": "0.1.0", "pid": 7, "uptime_ms": 61_999, "connections": 2, "running": [
                { "id": "a\u{9b}", "command": "run", "job": "backup", "uid": 0, "age_ms": 1, "waiting": true },
                { "id": "b", "command": "countdown", "uid": 1000, "age_ms": 3_600_000, "pid": 9 },
            ],
        });
        let expected = "\
version      0.1.0
pid          7
uptime       1m 1s
connections  2
running      2

ID       COMMAND    JOB     UID   PID  AGE  STATE
a\\u{9b}  run        backup  0     -    0s   waiting
b        countdown  -       1000  9    1h   running
";
        assert_eq!(status(&content, plain()).unwrap(), expected);
        content["running"] = json!([]);
        assert_eq!(status(&content, plain()).unwrap().lines().count(), 5);
    }

    #[test]
    fn what_another_server_tells_is_no_table() {
        for content in [json!(null), json!("x"), json!({}), json!([1]), json!([{ "name": "x" }])] {
            assert_eq!(list(&content, plain()), None, "{content}");
            assert_eq!(status(&content, plain()), None, "{content}");
        }
    }
}
