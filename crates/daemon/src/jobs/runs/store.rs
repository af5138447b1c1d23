//! The runs that the daemon knows: records in an embedded database, output in files beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    ops::Bound,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{Database, Table, TableDefinition, backends::InMemoryBackend};
use rustix::process::geteuid;
use tempfile::TempDir;
use tracing::{error, info, warn};

use super::record::{Stored, now_ms};
use crate::jobs::job::Keep;

/// The database in the folder of a store.
const FILE: &str = "runs.redb";
/// Records by run id, in JSON.
const RUNS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("runs");

/// All kept runs. The records are in memory; the database lets them survive a restart.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Identifies the folder on this machine.
    state: String,
    database: Mutex<Written>,
    records: Mutex<BTreeMap<String, Arc<Stored>>>,
    /// Removes the folder of a daemon that has none of its own.
    temporary: Option<TempDir>,
}

/// The database, and whether it has all records.
#[derive(Debug)]
struct Written {
    /// `None` after a failed attempt to open it again.
    database: Option<Database>,
    /// Why the last write failed. The database refuses all writes after that until it is opened
    /// again.
    problem: Option<StoreError>,
}

/// Why a store cannot be opened, or a record not be written.
#[derive(Clone, Debug)]
pub(crate) struct StoreError(String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

impl Store {
    /// Opens the store in `folder`, and creates both if they do not exist. Runs that were going on
    /// when the last daemon ended are [unknown](Outcome::Unknown), and queued ones were not started.
    /// The ids of both are returned. Call [`save`](Self::save) with them once their processes are
    /// ended.
    ///
    /// # Errors
    /// If the folder is not this user's alone, another daemon uses it, or the system refuses.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<String>), StoreError> {
        let shown = folder.display();
        let refused = |error: io::Error| StoreError(format!("cannot use {shown}: {error}"));
        create_folder(folder).map_err(refused)?;
        check_owner(folder).map_err(StoreError)?;
        create_folder(&folder.join("output")).map_err(refused)?;
        let path = folder.join(FILE);
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                StoreError(format!("another kakehid uses the state in {shown}"))
            }
            error => StoreError(format!("cannot open {}: {error}", path.display())),
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        let store = Self::new(folder, database, None)?;
        let interrupted = store.recover()?;
        Ok((store, interrupted))
    }

    /// A store that lasts as long as this process.
    ///
    /// # Errors
    /// If the system refuses a temporary folder.
    pub(crate) fn temporary() -> Result<Self, StoreError> {
        let refused =
            |error: io::Error| StoreError(format!("cannot create a temporary folder: {error}"));
        let temporary = tempfile::Builder::new().prefix("kakehid-").tempdir().map_err(refused)?;
        create_folder(&temporary.path().join("output")).map_err(refused)?;
        let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
        let folder = temporary.path().to_owned();
        Self::new(&folder, database, Some(temporary))
    }

    fn new(
        folder: &Path,
        database: Database,
        temporary: Option<TempDir>,
    ) -> Result<Self, StoreError> {
        let writing = database.begin_write()?;
        writing.open_table(RUNS)?;
        writing.commit()?;
        let metadata = fs::metadata(folder)
            .map_err(|error| StoreError(format!("cannot read {}: {error}", folder.display())))?;
        let state = format!("{}:{}", metadata.dev(), metadata.ino());
        let folder = folder.to_owned();
        let database = Mutex::new(Written { database: Some(database), problem: None });
        Ok(Self { folder, state, database, records: Mutex::default(), temporary })
    }

    /// Whether the records survive this process.
    pub(crate) fn is_lasting(&self) -> bool {
        self.temporary.is_none()
    }

    /// Removes the folder if it is temporary. A task that still runs may keep this alive until the
    /// process ends, so that dropping is not enough.
    pub(crate) fn close(&self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_dir_all(temporary.path());
        }
    }

    /// Returns what identifies the folder on this machine.
    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    /// Loads all records, and marks those of interrupted runs in memory. If this daemon crashes
    /// too, the next one finds the same interrupted runs.
    fn recover(&self) -> Result<Vec<String>, StoreError> {
        use redb::{ReadableDatabase, ReadableTable};
        let mut interrupted = vec![];
        let mut written = self.written();
        let reading = written.open(&self.folder)?.begin_read()?;
        let mut known = BTreeSet::new();
        for entry in reading.open_table(RUNS)?.iter()? {
            let (run, bytes) = entry?;
            known.insert(run.value().to_owned());
            // A record of a newer version that cannot be read stays in the file.
            let Ok(mut stored) = serde_json::from_slice::<Stored>(bytes.value()) else { continue };
            if !stored.record.outcome.is_over() {
                stored.record.interrupt();
                interrupted.push(run.value().to_owned());
            }
            self.records().insert(run.value().to_owned(), Arc::new(stored));
        }
        self.remove_orphans(&known);
        Ok(interrupted)
    }

    /// Removes the output of runs without a record: an earlier daemon ended between the removal of
    /// the record and that of the output.
    fn remove_orphans(&self, known: &BTreeSet<String>) {
        let entries = fs::read_dir(self.folder.join("output")).into_iter().flatten().flatten();
        let orphans = entries
            .filter(|entry| !entry.file_name().to_str().is_some_and(|run| known.contains(run)));
        for orphan in orphans {
            if let Err(error) = fs::remove_dir_all(orphan.path()) {
                warn!(path = ?orphan.path(), %error, "cannot remove output without a record");
            }
        }
    }

    /// Why the last record was not written. The next write tries again with all records.
    pub(crate) fn problem(&self) -> Option<String> {
        self.written().problem.as_ref().map(ToString::to_string)
    }

    /// Writes the records of `runs` to the disk. Blocks.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub(crate) fn save(&self, runs: &[String]) -> Result<(), StoreError> {
        for run in runs {
            if let Some(stored) = self.get(run) {
                self.write(&stored)?;
            }
        }
        Ok(())
    }

    /// Records the state of a run. Blocks until it is on the disk.
    ///
    /// # Errors
    /// If the database cannot be written. The record then lasts as long as this process.
    pub(crate) fn put(&self, stored: Stored) -> Result<(), StoreError> {
        let stored = Arc::new(stored);
        self.records().insert(stored.record.run.clone(), Arc::clone(&stored));
        self.write(&stored)
    }

    fn write(&self, stored: &Stored) -> Result<(), StoreError> {
        self.change(|table| insert(table, stored))
    }

    /// Changes the table and commits. After a failed write, first opens the database again and
    /// writes all records.
    fn change(
        &self,
        change: impl FnOnce(&mut Records<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut written = self.written();
        let failed = written.problem.is_some() && self.is_lasting();
        if failed {
            written.database = None;
        }
        let changing = |database: &Database| {
            let writing = database.begin_write()?;
            {
                let mut table = writing.open_table(RUNS)?;
                if failed {
                    self.all().iter().try_for_each(|stored| insert(&mut table, stored))?;
                }
                change(&mut table)?;
            }
            Ok(writing.commit()?)
        };
        let changed = written.open(&self.folder).and_then(changing);
        match (&changed, &written.problem) {
            (Ok(()), Some(_)) => info!("records of runs are written again"),
            (Err(error), None) => error!(%error, "records of runs are not written"),
            _ => {}
        }
        written.problem = changed.as_ref().err().cloned();
        changed
    }

    /// Removes the runs of a job that are over and beyond what its declaration keeps. Blocks.
    ///
    /// # Errors
    /// If the database or a file cannot be written.
    pub(crate) fn prune(&self, job: &str, keep: &Keep) -> Result<(), StoreError> {
        let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = now_ms().saturating_sub(age);
        let over: Vec<_> = self
            .all()
            .into_iter()
            .filter(|stored| stored.record.job == job && stored.record.outcome.is_over())
            .collect();
        let surplus = over.len().saturating_sub(keep.runs);
        let removed = over.iter().enumerate().filter(|(index, stored)| {
            *index < surplus || stored.record.ended_ms.unwrap_or(stored.record.queued_ms) < oldest
        });
        let removed: Vec<_> = removed.map(|(_, stored)| stored.record.run.clone()).collect();
        self.remove(&removed)
    }

    fn remove(&self, runs: &[String]) -> Result<(), StoreError> {
        if runs.is_empty() {
            return Ok(());
        }
        self.change(|table| {
            for run in runs {
                table.remove(run.as_str())?;
            }
            Ok(())
        })?;
        for run in runs {
            self.records().remove(run);
            match fs::remove_dir_all(self.output(run)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError(format!("cannot remove the output of {run}: {error}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns all runs in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Stored>> {
        self.records().values().cloned().collect()
    }

    /// Finds the run with the id `id`, or else the runs whose ids begin with it. Returns at most
    /// `most` of those that are `wanted`.
    pub(crate) fn find(
        &self,
        id: &str,
        most: usize,
        wanted: impl Fn(&Stored) -> bool,
    ) -> Vec<Arc<Stored>> {
        let records = self.records();
        if let Some(exact) = records.get(id) {
            return wanted(exact).then(|| Arc::clone(exact)).into_iter().collect();
        }
        if id.is_empty() {
            return vec![];
        }
        let from = (Bound::Included(id), Bound::Unbounded);
        let found = records.range::<str, _>(from).map(|(_, stored)| stored);
        let found = found.take_while(|stored| stored.record.run.starts_with(id));
        found.filter(|stored| wanted(stored)).take(most).cloned().collect()
    }

    /// Removes a run that could not be recorded from the memory.
    pub(crate) fn forget(&self, run: &str) {
        self.records().remove(run);
    }

    pub(crate) fn get(&self, run: &str) -> Option<Arc<Stored>> {
        self.records().get(run).cloned()
    }

    /// Returns the folder of a run's output.
    pub(crate) fn output(&self, run: &str) -> PathBuf {
        self.folder.join("output").join(run)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Stored>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Records<'a> = Table<'a, &'static str, &'static [u8]>;

fn insert(table: &mut Records<'_>, stored: &Stored) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(stored).map_err(|error| StoreError(error.to_string()))?;
    table.insert(stored.record.run.as_str(), &*bytes)?;
    Ok(())
}

impl Written {
    /// Returns the database in `folder`, which it opens if a write has failed.
    fn open(&mut self, folder: &Path) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::create(folder.join(FILE))?,
        };
        Ok(self.database.insert(database))
    }
}

fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Refuses a folder that other users can write: they could forge records.
fn check_owner(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let metadata = fs::metadata(folder).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != geteuid().as_raw() {
        return Err(format!("cannot use {shown}: uid {owner} owns it"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("cannot use {shown}: other users can write to it (mode {mode:04o})"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{
        content::Reason,
        runs::record::{Outcome, Record},
    };

    fn stored(run: &str, outcome: Outcome, ended_ms: u64) -> Stored {
        let record = Record {
            run: run.to_owned(),
            id: "ID-1".to_owned(),
            job: "a".to_owned(),
            args: vec![],
            uid: 7,
            caller: None,
            outcome,
            queued_ms: 1,
            started_ms: None,
            ended_ms: Some(ended_ms),
            exit_code: None,
            signal: None,
            ended_by: None,
            reason: None,
            duration_ms: 0,
            stdout_lines: 0,
            stderr_lines: 0,
            message: String::new(),
        };
        Stored { record, given: None }
    }

    fn outcomes(store: &Store) -> Vec<(String, Outcome)> {
        let all = store.all();
        all.iter().map(|stored| (stored.record.run.clone(), stored.record.outcome)).collect()
    }

    #[test]
    fn a_run_that_went_on_when_the_daemon_ended_is_unknown_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (store, interrupted) = Store::open(&path).unwrap();
        assert!(interrupted.is_empty());
        for (run, outcome) in [("1", Outcome::Running), ("2", Outcome::Ok), ("3", Outcome::Queued)]
        {
            store.put(stored(run, outcome, 0)).unwrap();
        }
        let error = Store::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("another kakehid uses the state in "), "{error}");
        drop(store);
        let (store, interrupted) = Store::open(&path).unwrap();
        assert_eq!(interrupted, ["1", "3"]);
        // This daemon crashed before it had ended their processes.
        drop(store);
        let (store, interrupted) = Store::open(&path).unwrap();
        assert_eq!(interrupted, ["1", "3"]);
        store.save(&interrupted).unwrap();
        drop(store);
        let (store, interrupted) = Store::open(&path).unwrap();
        assert!(interrupted.is_empty());
        let expected = [("1", Outcome::Unknown), ("2", Outcome::Ok), ("3", Outcome::Failed)];
        assert_eq!(outcomes(&store), expected.map(|(run, outcome)| (run.to_owned(), outcome)));
        assert_eq!(store.get("3").unwrap().record.reason, Some(Reason::NotStarted));
    }

    #[test]
    fn runs_beyond_the_bounds_are_removed_with_their_output() {
        let store = Store::temporary().unwrap();
        for run in ["1", "2", "3", "4"] {
            store.put(stored(run, Outcome::Ok, now_ms())).unwrap();
            create_folder(&store.output(run)).unwrap();
        }
        store.put(stored("0", Outcome::Running, 0)).unwrap();
        store.put(stored("5", Outcome::Ok, 1)).unwrap();
        store.prune("another", &Keep { runs: 0, ..Keep::default() }).unwrap();
        assert_eq!(store.all().len(), 6);
        store.prune("a", &Keep { runs: 3, ..Keep::default() }).unwrap();
        let left: Vec<_> = store.all().iter().map(|stored| stored.record.run.clone()).collect();
        assert_eq!(left, ["0", "3", "4"]);
        assert!(!store.output("2").exists() && store.output("3").exists());
    }

    #[test]
    fn output_without_a_record_is_removed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (store, _) = Store::open(&path).unwrap();
        store.put(stored("1", Outcome::Ok, now_ms())).unwrap();
        for run in ["1", "2"] {
            create_folder(&store.output(run)).unwrap();
            fs::write(store.output(run).join("0"), "output").unwrap();
        }
        drop(store);
        let (store, _) = Store::open(&path).unwrap();
        assert!(store.output("1").exists() && !store.output("2").exists());
    }

    #[test]
    fn a_run_is_found_by_its_id_or_a_prefix_and_only_some_are_returned() {
        let store = Store::temporary().unwrap();
        for run in ["a", "ab1", "ab2", "ab3", "b"] {
            store.put(stored(run, Outcome::Ok, 0)).unwrap();
        }
        let found = |id: &str, most| {
            let found = store.find(id, most, |stored| stored.record.run != "ab2");
            let ids: Vec<_> = found.iter().map(|stored| stored.record.run.clone()).collect();
            ids.join(" ")
        };
        assert_eq!(found("a", 9), "a");
        assert_eq!(found("ab", 9), "ab1 ab3");
        assert_eq!(found("ab", 1), "ab1");
        for none in ["ab2", "ac", ""] {
            assert_eq!(found(none, 9), "");
        }
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Store::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("other users can write to it (mode 0777)"), "{error}");
    }
}
