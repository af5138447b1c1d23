//! The answers to `list` and `status`, as tables.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{
    Format,
    table::{Style, pairs, table},
};
use crate::text::{duration, elapsed};

/// A job in the answer to `list`.
#[derive(Deserialize)]
struct Job {
    #[serde(rename = "job")]
    name: String,
    #[serde(default)]
    about: String,
    /// The patterns of the arguments, from a server that does not describe them.
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    arguments: Vec<Argument>,
    timeout_ms: Option<u64>,
    at_once: Option<u64>,
    when_client_leaves: Option<String>,
}

#[derive(Deserialize)]
struct Argument {
    pattern: String,
    name: Option<String>,
    #[serde(default)]
    required: bool,
}

/// The answer to `status`, or to `kakehi.running`.
#[derive(Deserialize)]
struct Status {
    #[serde(flatten)]
    server: Option<ServerFacts>,
    running: Vec<Running>,
    /// The number of running requests that are not in the list.
    #[serde(default)]
    more: u64,
}

#[derive(Deserialize)]
struct ServerFacts {
    version: String,
    pid: u32,
    uptime_ms: u64,
    connections: u64,
}

/// A running request in the answer to `status`.
#[derive(Deserialize)]
struct Running {
    /// The run's id. Other servers than kakehid have the request's id only.
    run: Option<String>,
    id: String,
    command: String,
    job: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    /// Absent for a caller on another machine.
    uid: Option<u32>,
    /// The name of such a caller; kakehid sends it as `caller`.
    #[serde(alias = "caller")]
    identity: Option<String>,
    age_ms: u64,
    #[serde(default)]
    waiting: bool,
    pid: Option<u32>,
}

/// `None`: the content is not a list of jobs.
pub(crate) fn list(content: &str, style: Style) -> Option<String> {
    let jobs: Vec<Job> = serde_json::from_str(content).ok()?;
    if jobs.is_empty() {
        return Some(String::new());
    }
    let is_wide = style.format == Format::Wide;
    let rows: Vec<_> = jobs.into_iter().map(|job| row(job, is_wide)).collect();
    let more: &[&str] = if is_wide { &["AT ONCE", "CLIENT LEAVES"] } else { &[] };
    let header = [&["JOB", "ARGUMENTS", "TIMEOUT"], more, &["ABOUT"]].concat();
    Some(table(&header, &rows, style))
}

fn row(job: Job, is_wide: bool) -> Vec<String> {
    let Job { name, about, args, arguments, timeout_ms, at_once, when_client_leaves } = job;
    let arguments = if arguments.is_empty() {
        args.join(" ")
    } else {
        arguments.into_iter().map(argument).collect::<Vec<_>>().join(" ")
    };
    let timeout = timeout_ms.map(|ms| duration(Duration::from_millis(ms)));
    let mut cells = vec![name, or_dash(arguments), or_dash(timeout.unwrap_or_default())];
    if is_wide {
        let at_once = at_once.map(|count| count.to_string());
        cells.extend([at_once, when_client_leaves].map(|cell| or_dash(cell.unwrap_or_default())));
    }
    cells.push(about);
    cells
}

/// `<name>` of a required argument, `[name]` of another, or the pattern of one without a name.
fn argument(Argument { pattern, name, required }: Argument) -> String {
    match name {
        Some(name) if required => format!("<{name}>"),
        Some(name) => format!("[{name}]"),
        None => pattern,
    }
}

/// `None`: the content is not a server's status.
pub(crate) fn status(content: &str, style: Style) -> Option<String> {
    let status: Status = serde_json::from_str(content).ok()?;
    let mut facts = vec![];
    if let Some(ServerFacts { version, pid, uptime_ms, connections }) = status.server {
        facts.extend([
            ("version", version),
            ("pid", pid.to_string()),
            ("uptime", elapsed(Duration::from_millis(uptime_ms))),
            ("connections", connections.to_string()),
        ]);
    }
    let listed = status.running.len();
    facts.push((
        "running",
        match status.more {
            0 => listed.to_string(),
            more => format!("{listed} and {more} more"),
        },
    ));
    let is_name = style.format == Format::Name;
    let mut out = if is_name { String::new() } else { pairs(&facts, style) };
    if !status.running.is_empty() {
        let mut users = Users::new(style.is_local);
        let is_wide = style.format == Format::Wide;
        let rows: Vec<_> = status
            .running
            .into_iter()
            .map(|request| running(request, is_wide, &mut users))
            .collect();
        if !is_name {
            out.push('\n');
        }
        let more: &[&str] = if is_wide { &["ID", "PID"] } else { &[] };
        let header = [&["RUN", "USER", "AGE", "STATE"], more, &["REQUEST"]].concat();
        out += &table(&header, &rows, style);
    }
    Some(out)
}

fn running(request: Running, is_wide: bool, users: &mut Users) -> Vec<String> {
    let Running { run, id, command, job, args, uid, identity, age_ms, waiting, pid } = request;
    let state = if waiting { "queued" } else { "running" };
    let words = [command].into_iter().chain(job).chain(args);
    let request = words.collect::<Vec<_>>().join(" ");
    let age = elapsed(Duration::from_millis(age_ms));
    let pid = or_dash(pid.map(|pid| pid.to_string()).unwrap_or_default());
    let run = run.unwrap_or_else(|| id.clone());
    let user = identity.or_else(|| uid.map(|uid| users.name(uid)));
    let user = or_dash(user.unwrap_or_default());
    let mut cells = vec![run, user, age, state.to_owned()];
    if is_wide {
        cells.extend([id, pid]);
    }
    cells.push(request);
    cells
}

/// How many names are remembered.
const MOST_NAMES: usize = 1024;

/// The names of users, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Users {
    names: BTreeMap<u32, String>,
    is_local: bool,
}

impl Users {
    pub(crate) fn new(is_local: bool) -> Self {
        Self { names: BTreeMap::new(), is_local }
    }

    /// The name of a user, or the number of one without a name.
    pub(crate) fn name(&mut self, uid: u32) -> String {
        let find = || {
            let user = self.is_local.then(|| uzers::get_user_by_uid(uid)).flatten();
            user.map_or_else(|| uid.to_string(), |user| user.name().to_string_lossy().into_owned())
        };
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
        self.names.entry(uid).or_insert_with(find).clone()
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::{Paint, When};

    const PLAIN: fn() -> Style = || {
        let paint = Paint::new(When::Never, true);
        Style { paint, columns: None, format: Format::Table, is_local: true }
    };

    #[test]
    fn jobs_are_listed_with_their_arguments() {
        let content = json!([
            { "job": "backup", "about": "archive /srv", "args": ["^[a-z]+$", "\\d"], "timeout_ms": 90_000, "at_once": 1 },
            { "job": "筧", "about": "", "args": [] },
            { "job": "named", "args": ["x", "y"], "arguments": [
                { "pattern": "x", "name": "host", "required": true },
                { "pattern": "y", "name": "count", "required": false },
                { "pattern": "z", "required": true },
            ] },
        ]);
        let expected = "\
JOB     ARGUMENTS         TIMEOUT    ABOUT
backup  ^[a-z]+$ \\d       1 m 30 s   archive /srv
筧      -                 -
named   <host> [count] z  -
";
        assert_eq!(
            list(&content.to_string(), PLAIN()).unwrap(),
            expected.replace("1 m 30 s   ", "1 m 30 s  ").replace("TIMEOUT    ", "TIMEOUT   ")
        );
        assert_eq!(list("[]", PLAIN()).unwrap(), "");
    }

    #[test]
    fn a_status_shows_the_running_requests() {
        let mut content = json!({
            "version": "0.1.0", "pid": 7, "uptime_ms": 61_999, "connections": 2, "running": [
                { "run": "k1", "id": "x", "command": "run", "job": "backup", "args": ["www\n"], "uid": 0, "age_ms": 1, "waiting": true },
                { "id": "a\u{9b}", "command": "countdown", "uid": 4_000_000_000_u32, "age_ms": 3_600_000 },
                { "run": "k2", "id": "y", "command": "run", "job": "backup", "caller": "anna", "age_ms": 1 },
            ],
        });
        let expected = "\
version      0.1.0
pid          7
uptime       1 m 01 s
connections  2
running      3

RUN      USER        AGE       STATE    REQUEST
k1       root        0 s       queued   run backup www\\n
a\\u{9b}  4000000000  1 h 00 m  running  countdown
k2       anna        0 s       running  run backup
";
        assert_eq!(status(&content.to_string(), PLAIN()).unwrap(), expected);
        content["running"] = json!([]);
        assert_eq!(status(&content.to_string(), PLAIN()).unwrap().lines().count(), 5);
    }

    #[test]
    fn requests_that_are_not_listed_are_counted() {
        let running = json!([{ "run": "1-1", "id": "x", "command": "walk", "age_ms": 1 }]);
        let content = json!({ "running": running, "more": 7 });
        let shown = status(&content.to_string(), PLAIN()).unwrap();
        assert!(shown.starts_with("running  1 and 7 more\n"), "{shown}");
    }

    #[test]
    fn a_wide_table_has_more_columns_and_names_have_one() {
        let job = json!([{ "job": "backup", "at_once": 2, "when_client_leaves": "kill" }]);
        let running = json!([{ "run": "k1", "id": "x", "command": "run", "job": "backup", "uid": 0, "age_ms": 1, "pid": 9 }]);
        let status_of = json!({ "version": "", "pid": 7, "uptime_ms": 0, "connections": 2, "running": running });
        let style = |format| Style { format, columns: Some(20), ..PLAIN() };
        let wide = list(&job.to_string(), style(Format::Wide)).unwrap();
        assert!(wide.ends_with("\nbackup  -          -        2        kill\n"), "{wide}");
        let wide = status(&status_of.to_string(), style(Format::Wide)).unwrap();
        assert!(wide.ends_with("\nk1   root  0 s  running  x   9    run backup\n"), "{wide}");
        assert_eq!(list(&job.to_string(), style(Format::Name)).unwrap(), "backup\n");
        assert_eq!(status(&status_of.to_string(), style(Format::Name)).unwrap(), "k1\n");
    }

    #[test]
    fn a_user_of_another_machine_is_a_number() {
        let running = json!([{ "id": "a", "command": "x", "uid": 0, "age_ms": 0 }]);
        let content = json!({ "version": "", "pid": 7, "uptime_ms": 0, "connections": 2, "running": running });
        let style = Style { is_local: false, ..PLAIN() };
        assert!(status(&content.to_string(), style).unwrap().contains("\na    0     0 s"));
    }

    #[test]
    fn content_of_another_form_is_not_a_table() {
        for content in ["null", "\"x\"", "{}", "[1]", r#"[{ "name": "x" }]"#] {
            assert_eq!(list(content, PLAIN()), None, "{content}");
            assert_eq!(status(content, PLAIN()), None, "{content}");
        }
    }
}
