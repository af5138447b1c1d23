//! The parts of a server's answers that `top` shows.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{escape::escape, reply::Answer, text::tab_as_space};

/// The largest answer that is decoded, in bytes. The decoded form takes a few times its size.
const LARGEST: usize = 1024 * 1024;
/// The largest answer of another form that is searched for numbers. Its values take 80 times its
/// size.
const LARGEST_OTHER: usize = 128 * 1024;
/// The longest text that is kept, in characters.
const LONGEST: usize = 256;
/// The most numbers that are kept.
const MOST_NUMBERS: usize = 64;
/// How deep numbers are searched.
const DEEPEST: usize = 3;

/// The state of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// The name and the version.
    pub(crate) server: String,
    pub(crate) uptime: Option<Duration>,
    pub(crate) requests: Vec<Request>,
    /// Whether the server lists its running requests.
    pub(crate) tells_requests: bool,
    /// All numbers, with their names.
    pub(crate) numbers: Vec<(String, f64)>,
    /// A note that says which values are missing.
    pub(crate) note: Option<String>,
}

/// A running request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request {
    /// The id of the run, or the id of the request if the server sends no run id.
    pub(crate) id: String,
    pub(crate) is_run: bool,
    pub(crate) job: Option<String>,
    /// The command, the job and its arguments.
    pub(crate) words: String,
    pub(crate) uid: Option<u32>,
    /// The name of a caller on another machine, which has no uid.
    pub(crate) caller: Option<String>,
    pub(crate) age: Duration,
    pub(crate) is_waiting: bool,
    /// The finished steps, and the total.
    pub(crate) steps: Option<(f64, f64)>,
    pub(crate) line: String,
    /// The node of a fleet.
    pub(crate) node: Option<String>,
    /// The state of the node, in a row for a node without requests.
    pub(crate) node_state: Option<&'static str>,
}

#[derive(Deserialize)]
struct Content {
    version: Option<String>,
    pid: Option<u32>,
    uptime_ms: Option<u64>,
    running: Vec<Running>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Running {
    run: Option<String>,
    id: String,
    command: String,
    job: Option<String>,
    args: Vec<String>,
    uid: Option<u32>,
    caller: Option<String>,
    age_ms: u64,
    waiting: bool,
    done: Option<f64>,
    total: Option<f64>,
    line: String,
}

impl Status {
    /// Reads the answer to `status`; `None`: it has no content.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        Some(Self::read(answer.content()?, &answer.response.message))
    }

    /// Reads the content of an answer to `status`, with its message.
    pub(crate) fn read(content: &str, message: &str) -> Self {
        if content.len() > LARGEST {
            let note = Some(format!("the answer has {} bytes: too large to show", content.len()));
            return Self { note, ..Self::default() };
        }
        let numbers = numbers(content);
        let read = serde_json::from_str(content).ok().filter(|_| content.starts_with('{'));
        let Some(Content { version, pid, uptime_ms, running }) = read else {
            let note = Some(message).filter(|text| !text.is_empty());
            return Self { numbers, note: note.map(clean), ..Self::default() };
        };
        // Only kakehid has all of them.
        let name = if pid.is_some() && uptime_ms.is_some() { "kakehid" } else { "server" };
        let version = version.unwrap_or_default();
        Self {
            server: clean(format!("{name} {version}").trim_end()),
            uptime: uptime_ms.map(Duration::from_millis),
            requests: running.into_iter().map(Request::from).collect(),
            tells_requests: true,
            numbers,
            note: None,
        }
    }

    /// Reads the answer to `kakehi.describe`, of a server without `status`.
    pub(super) fn described(answer: &Answer) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Described {
            name: String,
            version: String,
            commands: Vec<serde::de::IgnoredAny>,
        }
        let content = answer.content().filter(|content| content.len() <= LARGEST);
        let read = content.and_then(|content| serde_json::from_str(content).ok());
        let Described { name, version, commands } = read.unwrap_or_default();
        let name = if name.is_empty() { "server".to_owned() } else { name };
        let note = format!(
            "this server has {} commands and does not answer `status`: see `kakehi describe`",
            commands.len()
        );
        let server = clean(format!("{name} {version}").trim_end());
        Self { server, note: Some(note), ..Self::default() }
    }
}

impl From<Running> for Request {
    fn from(running: Running) -> Self {
        let Running {
            run,
            id,
            command,
            job,
            args,
            uid,
            caller,
            age_ms,
            waiting,
            done,
            total,
            line,
        } = running;
        let words = [command].into_iter().chain(job.clone()).chain(args);
        let words = words.collect::<Vec<_>>().join(" ");
        let steps = done.zip(total).filter(|(done, total)| *done >= 0.0 && *total > 0.0);
        Self {
            is_run: run.is_some(),
            // The whole id is sent back, so it is not shortened.
            id: run.unwrap_or(id),
            job,
            words: clean(&words),
            uid,
            caller: caller.map(|caller| clean(&caller)),
            age: Duration::from_millis(age_ms),
            is_waiting: waiting,
            steps,
            line: clean(&line),
            node: None,
            node_state: None,
        }
    }
}

/// The start of a text of the server, escaped for a terminal.
pub(crate) fn clean(text: &str) -> String {
    let kept: String = text.chars().take(LONGEST).map(tab_as_space).collect();
    escape(kept.trim_end()).into_owned()
}

/// The numbers of an object, and of the objects in it. Those of `counters` have no prefix.
fn numbers(content: &str) -> Vec<(String, f64)> {
    #[derive(Deserialize)]
    struct Counters {
        counters: Value,
    }
    let is_small = |content: &&str| content.len() <= LARGEST_OTHER;
    let mut found = vec![];
    // A long list of requests must not hide the counters.
    let value = match Some(content).filter(is_small) {
        Some(content) => serde_json::from_str(content).ok(),
        None => serde_json::from_str(content).ok().map(|Counters { counters }| counters),
    };
    if let Some(value) = value {
        collect("", &value, 0, &mut found);
    }
    found
}

fn collect(prefix: &str, value: &Value, depth: usize, found: &mut Vec<(String, f64)>) {
    let Some(fields) = value.as_object().filter(|_| depth < DEEPEST) else { return };
    for (name, field) in fields {
        if found.len() >= MOST_NUMBERS {
            return;
        }
        let whole = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match field {
            Value::Number(number) if !matches!(name.as_str(), "pid" | "uptime_ms") => {
                found.push((clean(&whole), number.as_f64().unwrap_or_default()));
            }
            Value::Object(_) if name == "counters" => collect("", field, depth + 1, found),
            Value::Object(_) => collect(&whole, field, depth + 1, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(content: &Value) -> Status {
        let answer = json!({ "id": "", "version": 0, "status": "OK", "message": "hi\u{1b}", "content": content });
        Status::of(&Answer::of(&answer.to_string())).unwrap()
    }

    #[test]
    fn the_status_of_kakehid_has_runs_and_counters() {
        let status = read(&json!({
            "version": "0.1.0", "pid": 7, "uptime_ms": 61_000, "connections": 2,
            "running": [{
                "run": "0a", "id": "x", "command": "run", "job": "backup", "args": ["a\u{1b}[2J"], "uid": 0,
                "age_ms": 5, "waiting": true, "done": 1, "total": 4, "line": "so\u{202e} far  ",
            }],
            "counters": { "ok": 5, "error": 1 },
        }));
        assert_eq!(status.server, "kakehid 0.1.0");
        let expected = Request {
            id: "0a".into(),
            is_run: true,
            job: Some("backup".into()),
            words: "run backup a\\x1b[2J".into(),
            uid: Some(0),
            caller: None,
            age: Duration::from_millis(5),
            is_waiting: true,
            steps: Some((1.0, 4.0)),
            line: "so\\u{202e} far".into(),
            ..Request::default()
        };
        assert_eq!(status.requests, [expected]);
        let numbers = [("connections", 2.0), ("error", 1.0), ("ok", 5.0)];
        assert_eq!(status.numbers, numbers.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn any_other_object_has_numbers() {
        let status = read(
            &json!({ "queue": { "length": 3, "deep": { "er": { "x": 1 } } }, "b": 1.5, "c": "x" }),
        );
        assert!(!status.tells_requests && status.requests.is_empty());
        let numbers = [("b", 1.5), ("queue.length", 3.0)];
        assert_eq!(status.numbers, numbers.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(status.note.as_deref(), Some("hi\\x1b"));
        assert_eq!(read(&json!([1, 2])).numbers, []);
        let many: Value = (0..1000).map(|number| (format!("n{number}"), json!(1))).collect();
        assert_eq!(read(&many).numbers.len(), MOST_NUMBERS);
    }

    #[test]
    fn requests_of_other_servers_may_have_few_fields() {
        let status =
            read(&json!({ "running": [{ "id": "a", "command": "warm", "done": -1, "total": 0 }] }));
        let [request] = &status.requests[..] else { panic!("{status:?}") };
        assert_eq!((&*request.id, &*request.words, request.is_run), ("a", "warm", false));
        assert_eq!((request.uid, request.steps), (None, None));
    }
}
