//! The record of a run over the fleet: its command, its nodes, and the outcome on each.
//!
//! A file of JSON lines, in the order of the events. The first line has the command and the nodes.
//! A line that was not written to its end is left out.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    fs::{self, File},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
};

use kakehi_fleet::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Stop, state};
use crate::exit;

/// How many runs are kept.
const MAX_RUNS: usize = 100;

/// The largest command that is kept, in bytes. A larger one cannot be retried.
const MAX_COMMAND: usize = 256 * 1024;

/// How much of a message is kept, in characters.
const MAX_MESSAGE: usize = 500;

const EXTENSION: &str = "jsonl";

/// The record of a run that goes on.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) run: String,
    file: Option<(File, PathBuf)>,
    is_broken: bool,
}

/// The record of an earlier run.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) run: String,
    /// `None`: it was too large to be kept.
    pub(super) command: Option<Value>,
    pub(super) nodes: BTreeMap<Name, Entry>,
    path: PathBuf,
}

/// The record of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The accept of its request. `None`: the request was not started, or the client ended
    /// before the accept arrived.
    pub(super) accept: Option<String>,
    /// `None`: no end is known.
    pub(super) end: Option<(Outcome, String)>,
}

/// How a request of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Ok,
    Failed,
    Refused,
    NotSent,
    Skipped,
    Unknown,
    /// By this client, which does not know whether it ended before.
    Cancelled,
}

#[derive(Serialize, Deserialize)]
struct Head {
    run: String,
    at_ms: u64,
    command: Option<Value>,
    nodes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accept: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

/// The id of the request of `run` to `node`.
pub(super) fn request_id(run: &str, node: &Name) -> String {
    format!("{run}.{node}")
}

impl Writer {
    /// Begins the record of a new run, and removes the oldest ones. Without a folder, or if it
    /// cannot be written, the run goes on without a record: the error says so.
    pub(super) fn begin(command: &Value, nodes: &[Name]) -> (Self, io::Result<()>) {
        let run = new_id();
        let begun = begin(&run, command, nodes);
        let (file, done) = match begun {
            Ok(file) => (Some(file), Ok(())),
            Err(error) => (None, Err(error)),
        };
        (Self { run, file, is_broken: false }, done)
    }

    /// Whether the record could not be written to its end, and was removed.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// A node has accepted its request.
    pub(super) fn started(&mut self, node: &Name, accept: &str) {
        self.write(node, Some(accept.to_owned()), None, "");
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, node: &Name, outcome: Outcome, message: &str) {
        self.write(node, None, Some(outcome), message);
    }

    fn write(
        &mut self,
        node: &Name,
        accept: Option<String>,
        outcome: Option<Outcome>,
        message: &str,
    ) {
        let Some((file, path)) = &mut self.file else { return };
        let message = message.chars().take(MAX_MESSAGE).collect();
        let line = Line { node: node.to_string(), accept, outcome, message };
        if put(file, &line).is_err() {
            // Without an accept, a node would seem not to have started the request.
            let _ = fs::remove_file(path);
            (self.file, self.is_broken) = (None, true);
        }
    }
}

fn begin(run: &str, command: &Value, nodes: &[Name]) -> io::Result<(File, PathBuf)> {
    let folder = state::folder()?;
    let mut known = runs(&folder)?;
    let surplus = (known.len() + 1).saturating_sub(MAX_RUNS);
    for old in known.drain(..surplus) {
        fs::remove_file(file_of(&folder, &old))?;
    }
    let path = file_of(&folder, run);
    let mut file = state::create(&path)?;
    let is_small = command.to_string().len() <= MAX_COMMAND;
    let head = Head {
        run: run.to_owned(),
        at_ms: state::now_ms(),
        command: is_small.then(|| command.clone()),
        nodes: nodes.iter().map(Name::to_string).collect(),
    };
    put(&mut file, &head)?;
    Ok((file, path))
}

/// Writes a line at once, so that two processes do not mix theirs.
fn put(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

impl Record {
    /// Finds a run by its id, or a unique beginning of it.
    ///
    /// # Errors
    /// There is none, or more than one, or its file cannot be read.
    pub(super) fn find(id: &str) -> Result<Self, Stop> {
        let failed = |error: io::Error| {
            Stop(format!("cannot read the records of runs: {error}"), exit::SYSTEM)
        };
        let folder = state::folder().map_err(failed)?;
        let known = runs(&folder).map_err(failed)?;
        let id = id.to_ascii_lowercase();
        let mut found = known.into_iter().filter(|run| !id.is_empty() && run.starts_with(&id));
        let run = match (found.next(), found.next()) {
            (Some(run), None) => run,
            (None, _) => {
                let why = format!("no run {id:?} is recorded; the last {MAX_RUNS} are");
                return Err(Stop(why, exit::USAGE));
            }
            _ => return Err(Stop(format!("{id:?} is the beginning of several runs"), exit::USAGE)),
        };
        let path = file_of(&folder, &run);
        let text = state::read(&path).map_err(failed)?;
        Self::read(&text, path)
            .ok_or_else(|| Stop(format!("the record of run {run} is damaged"), exit::SYSTEM))
    }

    fn read(text: &str, path: PathBuf) -> Option<Self> {
        let mut lines = text.lines();
        let Head { run, command, nodes, .. } = serde_json::from_str(lines.next()?).ok()?;
        let mut entries = BTreeMap::new();
        for node in nodes {
            entries.insert(node.parse().ok()?, Entry::default());
        }
        for line in lines {
            let Ok(Line { node, accept, outcome, message }) = serde_json::from_str(line) else {
                continue;
            };
            let Some(entry) = node.parse::<Name>().ok().and_then(|name| entries.get_mut(&name))
            else {
                continue;
            };
            entry.accept = accept.or_else(|| entry.accept.take());
            entry.end = outcome.map(|outcome| (outcome, message)).or_else(|| entry.end.take());
        }
        Some(Self { run, command, nodes: entries, path })
    }

    /// Updates the entry of a node.
    pub(super) fn learn(&mut self, node: &Name, outcome: Outcome, message: &str) {
        let kept: String = message.chars().take(MAX_MESSAGE).collect();
        let line = Line {
            node: node.to_string(),
            accept: None,
            outcome: Some(outcome),
            message: kept.clone(),
        };
        let file = fs::OpenOptions::new().append(true).open(&self.path);
        // If the write fails, the next command asks the nodes again.
        let _ = file.and_then(|mut file| put(&mut file, &line));
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.end = Some((outcome, kept));
        }
    }
}

/// The ids of all recorded runs, the oldest first.
fn runs(folder: &Path) -> io::Result<Vec<String>> {
    let mut runs = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_record = path.extension().is_some_and(|extension| extension == EXTENSION);
        runs.extend(
            path.file_stem()
                .and_then(|stem| stem.to_str())
                .filter(|_| is_record)
                .map(str::to_owned),
        );
    }
    runs.sort();
    Ok(runs)
}

fn file_of(folder: &Path, run: &str) -> PathBuf {
    folder.join(format!("{run}.{EXTENSION}"))
}

/// 16 characters of Crockford's alphabet: 50 bits of the time, so that ids sort by it, and 30 random
/// ones.
fn new_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    let number = (u128::from(state::now_ms()) << 30) | u128::from(random & 0x3fff_ffff);
    encode(number)
}

fn encode(number: u128) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |at: u32| {
        let value = usize::try_from((number >> (5 * at)) & 31).unwrap_or_default();
        char::from(*ALPHABET.get(value).unwrap_or(&b'0'))
    };
    (0..16).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_sort_by_their_time() {
        let (a, b) = (encode(5 << 30), encode((6 << 30) | 7));
        assert!(a < b && a.len() == 16, "{a} {b}");
        assert_ne!(new_id(), new_id());
    }

    #[test]
    fn the_last_word_of_each_node_counts() {
        let text = r#"{"run":"r1","at_ms":1,"command":"x","nodes":["a","b","c"]}
{"node":"a","accept":"a.E.1"}
{"node":"b","accept":"b.E.1"}
{"node":"a","outcome":"unknown","message":"lost"}
{"node":"a","outcome":"ok","message":"done"}
{"node":"z","outcome":"ok"}
{"node":"b","outco"#;
        let record = Record::read(text, PathBuf::new()).unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        let a = &record.nodes[&name("a")];
        assert_eq!(a.accept.as_deref(), Some("a.E.1"));
        assert_eq!(a.end, Some((Outcome::Ok, "done".into())));
        let b = Entry { accept: Some("b.E.1".into()), end: None };
        assert_eq!((&record.nodes[&name("b")], record.nodes.len()), (&b, 3));
        assert_eq!(record.nodes[&name("c")], Entry::default());
    }
}
