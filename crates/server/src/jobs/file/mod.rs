//! The jobs file: TOML in, jobs or every problem out.

mod job;
mod reader;

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use rustix::process::geteuid;
use toml::de::{DeTable, DeValue};

use self::reader::Reader;
use super::job::Job;

/// Jobs by name.
pub(crate) type Jobs = BTreeMap<String, Arc<Job>>;

/// The largest file that is read, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// What is wrong with a jobs file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Reads the jobs of a file. It blocks: on the file, and on the databases of users and groups.
///
/// # Errors
/// All that is wrong with it, in the order of its lines, each as `FILE:LINE: what was expected`.
pub(crate) fn load(path: &Path) -> Result<Jobs, Vec<String>> {
    let file = path.display();
    let text = read(path).map_err(|error| vec![format!("{file}: cannot be read: {error}")])?;
    parse(&text).map_err(|problems| {
        let shown = |Problem { line, text }| format!("{file}:{line}: {text}");
        problems.into_iter().map(shown).collect()
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    trust(&file.metadata()?).map_err(io::Error::other)?;
    let mut bytes = vec![];
    file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SIZE {
        return Err(io::Error::other(format!("it is over {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}

/// Who can write a jobs file runs what they like as the server's user.
fn trust(file: &Metadata) -> Result<(), String> {
    let (owner, mode) = (file.uid(), file.mode() & 0o7777);
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!("it belongs to uid {owner}, who could have any program run"));
    }
    if mode & 0o002 != 0 {
        return Err(format!("everybody can write to it (mode {mode:04o}): chmod o-w"));
    }
    Ok(())
}

/// # Errors
/// All that is wrong with it, in the order of its lines.
pub(crate) fn parse(bytes: &[u8]) -> Result<Jobs, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        vec![Problem { line, text: "expected UTF-8, as TOML is".to_owned() }]
    })?;
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text);
    for error in errors {
        reader.syntax(error.span(), error.message());
    }
    let mut jobs = Jobs::new();
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("job", DeValue::Table(table)) => {
                for (name, value) in table {
                    if let Some(job) = job::read(&mut reader, name, value) {
                        jobs.insert(job.name.clone(), Arc::new(job));
                    }
                }
            }
            ("job", _) => reader.expected("job", value, "tables, such as [job.backup]"),
            (other, _) => {
                reader.problem(&key.span(), &format!("unknown key `{other}`, expected [job.NAME]"));
            }
        }
    }
    match reader.into_problems() {
        problems if problems.is_empty() => Ok(jobs),
        problems => Err(problems),
    }
}

#[cfg(test)]
mod tests;
