//! Reads jobs files: TOML in, jobs or all problems out.

mod argument;
mod fleet;
mod job;
mod keep;
mod reader;

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use toml::de::{DeTable, DeValue};

pub(crate) use self::fleet::FleetFile;
use self::reader::Reader;
use super::job::Job;

/// Jobs by name.
pub(crate) type Jobs = BTreeMap<String, Arc<Job>>;

/// The largest file that is read, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// A problem of a jobs file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The largest number of files that a folder may hold.
const MAX_FILES: usize = 256;

/// Reads the jobs of a file, or of all `*.toml` files of a folder. Blocks on the files, and on the
/// lookup of users and groups.
///
/// # Errors
/// All problems in the order of files and lines, each as `FILE:LINE: problem`.
pub(crate) fn load(path: &Path) -> Result<Jobs, Vec<String>> {
    if !path.is_dir() {
        return load_file(path);
    }
    let files = files_of(path)
        .map_err(|error| vec![format!("{}: cannot be read: {error}", path.display())])?;
    let (mut jobs, mut problems) = (Jobs::new(), vec![]);
    for file in files {
        match load_file(&file) {
            Ok(more) => {
                for (name, job) in more {
                    if jobs.insert(name.clone(), job).is_some() {
                        let file = file.display();
                        problems.push(format!("{file}: job.{name}: another file declares it too"));
                    }
                }
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(jobs) } else { Err(problems) }
}

/// Reads the table `[fleet]` of a file, or of the files of a folder. Blocks on the files.
///
/// # Errors
/// As [`load`]; or two files have the table.
pub(crate) fn load_fleet(path: &Path) -> Result<Option<FleetFile>, Vec<String>> {
    let files = if path.is_dir() { files_of(path) } else { Ok(vec![path.to_owned()]) };
    let files =
        files.map_err(|error| vec![format!("{}: cannot be read: {error}", path.display())])?;
    let mut found = None;
    for file in files {
        let (_, fleet) = load_tables(&file)?;
        if fleet.is_some() && found.is_some() {
            let file = file.display();
            return Err(vec![format!("{file}: fleet: another file declares it too")]);
        }
        found = found.or(fleet);
    }
    Ok(found)
}

/// The `*.toml` files of a folder, sorted by name.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    trust(&fs::metadata(folder)?).map_err(io::Error::other)?;
    let mut files = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(io::Error::other(format!("the folder has more than {MAX_FILES} files")));
        }
    }
    files.sort();
    Ok(files)
}

fn load_file(path: &Path) -> Result<Jobs, Vec<String>> {
    load_tables(path).map(|(jobs, _)| jobs)
}

fn load_tables(path: &Path) -> Result<(Jobs, Option<FleetFile>), Vec<String>> {
    let file = path.display();
    let text = read(path).map_err(|error| vec![format!("{file}: cannot be read: {error}")])?;
    parse_tables(&text).map_err(|problems| {
        let shown = |Problem { line, text }| format!("{file}:{line}: {text}");
        problems.into_iter().map(shown).collect()
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO without a writer would block the open, and a terminal could become the daemon's own.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    trust(&metadata).map_err(io::Error::other)?;
    let mut bytes = vec![];
    file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}

/// Refuses a file that other users can write: they could run any program as the daemon's user.
fn trust(file: &Metadata) -> Result<(), String> {
    let (owner, mode) = (file.uid(), file.mode() & 0o7777);
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!(
            "it belongs to uid {owner}, who could run any program as the daemon's user"
        ));
    }
    if mode & 0o002 != 0 {
        return Err(format!("every user can write to it (mode {mode:04o}). Run chmod o-w on it"));
    }
    Ok(())
}

/// # Errors
/// All problems in the order of the lines.
pub(crate) fn parse(bytes: &[u8]) -> Result<Jobs, Vec<Problem>> {
    parse_tables(bytes).map(|(jobs, _)| jobs)
}

fn parse_tables(bytes: &[u8]) -> Result<(Jobs, Option<FleetFile>), Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        vec![Problem { line, text: "expected UTF-8".to_owned() }]
    })?;
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text);
    for error in errors {
        reader.syntax(error.span(), error.message());
    }
    let (mut jobs, mut fleet) = (Jobs::new(), None);
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("job", DeValue::Table(table)) => {
                for (name, value) in table {
                    if let Some(job) = job::read(&mut reader, name, value) {
                        jobs.insert(job.name.clone(), Arc::new(job));
                    }
                }
            }
            ("fleet", _) => fleet = fleet::read(&mut reader, value),
            ("job", _) => reader.expected("job", value, "tables, such as [job.backup]"),
            (other, _) => {
                reader.problem(
                    &key.span(),
                    &format!("unknown key `{other}`, expected [job.NAME] or [fleet]"),
                );
            }
        }
    }
    match reader.into_problems() {
        problems if problems.is_empty() => Ok((jobs, fleet)),
        problems => Err(problems),
    }
}

#[cfg(test)]
mod tests;
