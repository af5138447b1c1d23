//! The ids of a node on the disk, so that outcomes survive its restart.
//!
//! One thread writes. It joins what waits into one transaction, because each costs an `fdatasync`.

use std::{
    collections::{HashMap, HashSet},
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableTable, TableDefinition, WriteTransaction};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ids::{Ids, Key, Origin, Removed, State},
    numbers::sequence,
};
use crate::names::Name;

/// How long an id is kept after its request has ended.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Of how many processes of the node the journal knows that it is complete.
const MAX_EPOCHS: usize = 64;

/// How many writes may wait. Further requests wait in their tasks, whose number is bounded.
const WRITES: usize = 256;

/// The memory of the database, in bytes.
const CACHE: usize = 1024 * 1024;

/// From signer and id to state, epoch, number, the time of the state, and the final response.
type Row = (u8, &'static str, u64, u64, &'static [u8]);
const REQUESTS: TableDefinition<'_, (&str, &str), Row> = TableDefinition::new("requests");

/// From epoch to its start, and the highest sequence of a request whose id is no longer kept.
const EPOCHS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("epochs");

const STARTED: u8 = 0;
const FINAL: u8 = 1;
const ENDED: u8 = 2;
const BARRED: u8 = 3;
const INTERRUPTED: u8 = 4;

/// The writer of the journal. Dropped, it ends once all is written.
#[derive(Debug)]
pub(super) struct Journal {
    writes: mpsc::Sender<Write>,
}

/// A change of the journal.
#[derive(Debug)]
struct Write {
    put: Option<(Key, Origin, State)>,
    removed: Vec<Removed>,
    done: oneshot::Sender<Result<(), String>>,
}

impl Journal {
    /// Opens the journal at `path`, and creates it if it does not exist. Returns the ids in it;
    /// requests that ran when the last process ended are interrupted. Blocks.
    ///
    /// # Errors
    /// The file or its folder cannot be used, or another node uses it.
    pub(super) fn open(path: &Path, epoch: &Name) -> Result<(Self, Ids), String> {
        let failed = |error: &dyn std::fmt::Display| format!("journal {}: {error}", path.display());
        let database = open(path).map_err(|error| failed(&error))?;
        let ids = load(&database, epoch).map_err(|error| failed(&error))?;
        let (writes, waiting) = mpsc::channel(WRITES);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("kakehi-journal".to_owned())
            .spawn(move || write_all(&path, database, waiting))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((Self { writes }, ids))
    }

    /// Writes the state of a request, and removes ids. Returns when both are on the disk.
    ///
    /// # Errors
    /// The disk refuses. Both may be written all the same.
    pub(super) async fn write(
        &self,
        put: Option<(Key, Origin, State)>,
        removed: Vec<Removed>,
    ) -> Result<(), String> {
        let (done, written) = oneshot::channel();
        let ended = |()| "the journal is closed".to_owned();
        self.writes.send(Write { put, removed, done }).await.map_err(|_| ended(()))?;
        written.await.map_err(|_| ended(()))?
    }
}

fn open(path: &Path) -> Result<Database, String> {
    if let Some(folder) = path.parent() {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|error| error.to_string())?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|error| error.to_string())?;
    let opened = Database::builder().set_cache_size(CACHE).create_file(file);
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => "another node uses it".to_owned(),
        error => error.to_string(),
    })
}

/// Writes queued changes until the journal is dropped.
fn write_all(path: &Path, database: Database, mut waiting: mpsc::Receiver<Write>) {
    let mut database = Some(database);
    while let Some(first) = waiting.blocking_recv() {
        let mut writes = vec![first];
        while writes.len() < WRITES
            && let Ok(next) = waiting.try_recv()
        {
            writes.push(next);
        }
        let written = write_once(path, &mut database, &writes);
        for Write { done, .. } in writes {
            // A task that has ended does not wait.
            let _ = done.send(written.clone());
        }
    }
}

/// Opens the database again after a failed write, because it refuses all writes until then.
fn write_once(
    path: &Path,
    database: &mut Option<Database>,
    writes: &[Write],
) -> Result<(), String> {
    let opened = match database.take() {
        Some(database) => database,
        None => open(path)?,
    };
    write(&opened, writes).map_err(|error| error.to_string())?;
    *database = Some(opened);
    Ok(())
}

fn write(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut requests = transaction.open_table(REQUESTS)?;
        let mut epochs = transaction.open_table(EPOCHS)?;
        for Write { put, removed, .. } in writes {
            for Removed { key, origin } in removed {
                let (epoch, key) = (origin.epoch.as_str(), (key.signer.as_str(), key.id.as_str()));
                // The id may have been taken again since.
                let is_same = requests.get(key)?.is_some_and(|row| {
                    let (_, row_epoch, number, ..) = row.value();
                    (row_epoch, number) == (epoch, origin.number)
                });
                if is_same {
                    requests.remove(key)?;
                }
                let found = epochs.get(epoch)?.map(|found| found.value());
                if let Some((start, forgotten)) = found {
                    epochs.insert(epoch, (start, forgotten.max(sequence(origin.number))))?;
                }
            }
            if let Some((key, origin, state)) = put {
                let (code, response) = encode(state);
                let row = (code, origin.epoch.as_str(), origin.number, now_ms(), response);
                requests.insert((key.signer.as_str(), key.id.as_str()), row)?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A row of the journal.
struct Loaded {
    key: Key,
    origin: Origin,
    state: State,
    at_ms: u64,
}

/// Reads the ids, marks those that ran as interrupted, and begins an epoch.
fn load(database: &Database, epoch: &Name) -> Result<Ids, redb::Error> {
    let now = now_ms();
    let transaction = database.begin_write()?;
    let epochs = begin_epoch(&transaction, epoch, now)?;
    let mut rows = read(&transaction)?;
    for row in &mut rows {
        if row.state == State::Running {
            (row.state, row.at_ms) = (State::Interrupted, now);
            let mut requests = transaction.open_table(REQUESTS)?;
            let Loaded { key, origin, .. } = row;
            let value = (INTERRUPTED, origin.epoch.as_str(), origin.number, now, &b""[..]);
            requests.insert((key.signer.as_str(), key.id.as_str()), value)?;
        }
    }
    transaction.commit()?;

    rows.sort_by_key(|row| row.at_ms);
    let mut ids = Ids::with_journal(KEPT, epochs);
    for Loaded { key, origin, state, at_ms } in rows {
        // A clock that was set back makes no id younger than new.
        let age = Duration::from_millis(now.saturating_sub(at_ms));
        ids.load(key, origin, state, age, Instant::now());
    }
    Ok(ids)
}

fn read(transaction: &WriteTransaction) -> Result<Vec<Loaded>, redb::Error> {
    let mut rows = vec![];
    for entry in transaction.open_table(REQUESTS)?.iter()? {
        let (key, row) = entry?;
        let ((signer, id), (code, epoch, number, at_ms, response)) = (key.value(), row.value());
        // The epoch is a name, unless the file is not ours.
        let Ok(epoch) = epoch.parse() else { continue };
        let key = Key { signer: signer.to_owned(), id: id.to_owned() };
        let state = decode(code, response);
        rows.push(Loaded { key, origin: Origin { epoch, number }, state, at_ms });
    }
    Ok(rows)
}

/// Adds the epoch of this process, and drops the oldest. Returns all with their highest forgotten
/// sequence.
fn begin_epoch(
    transaction: &WriteTransaction,
    epoch: &Name,
    now: u64,
) -> Result<HashMap<Name, u64>, redb::Error> {
    let mut table = transaction.open_table(EPOCHS)?;
    table.insert(epoch.as_str(), (now, 0))?;
    let mut known = vec![];
    for entry in table.iter()? {
        let (name, value) = entry?;
        let ((start, forgotten), name) = (value.value(), name.value().to_owned());
        known.push((start, name, forgotten));
    }
    known.sort();
    let surplus: HashSet<String> = known
        .iter()
        .take(known.len().saturating_sub(MAX_EPOCHS))
        .map(|(_, name, _)| name.clone())
        .filter(|name| name != epoch.as_str())
        .collect();
    for name in &surplus {
        table.remove(name.as_str())?;
    }
    let kept = known.into_iter().filter(|(_, name, _)| !surplus.contains(name));
    Ok(kept.filter_map(|(_, name, forgotten)| Some((name.parse().ok()?, forgotten))).collect())
}

fn encode(state: &State) -> (u8, &[u8]) {
    match state {
        State::Running => (STARTED, b""),
        State::Ended(Some(response)) => (FINAL, response),
        State::Ended(None) => (ENDED, b""),
        State::Barred => (BARRED, b""),
        State::Interrupted => (INTERRUPTED, b""),
    }
}

fn decode(code: u8, response: &[u8]) -> State {
    match code {
        STARTED => State::Running,
        FINAL => State::Ended(Some(Bytes::copy_from_slice(response))),
        BARRED => State::Barred,
        INTERRUPTED => State::Interrupted,
        // A state of a newer version. The outcome is not known.
        _ => State::Ended(None),
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::node::ids::Settled;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn key(id: &str) -> Key {
        Key { signer: "U1".into(), id: id.into() }
    }

    fn origin(epoch: &str, at: u64) -> Origin {
        Origin { epoch: name(epoch), number: at << 32 }
    }

    async fn put(journal: &Journal, id: &str, at: u64, state: State) {
        journal.write(Some((key(id), origin("E1", at), state)), vec![]).await.unwrap();
    }

    fn settled(ids: &mut Ids, id: &str, at: u64) -> Settled {
        ids.settle(&key(id), &origin("E1", at), Instant::now()).0
    }

    /// The thread closes the file after the journal is dropped.
    async fn open_again(path: &Path, epoch: &str) -> (Journal, Ids) {
        for _ in 0..1_000 {
            if let Ok(opened) = Journal::open(path, &name(epoch)) {
                return opened;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the journal is not closed");
    }

    #[tokio::test]
    async fn outcomes_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/fleet.redb");
        let (journal, _) = Journal::open(&path, &name("E1")).unwrap();
        put(&journal, "running", 1, State::Running).await;
        for (at, id, response) in
            [(2, "done", Some(Bytes::from_static(b"{}\0"))), (3, "cancelled", None)]
        {
            put(&journal, id, at, State::Running).await;
            put(&journal, id, at, State::Ended(response)).await;
        }
        put(&journal, "barred", 4, State::Barred).await;
        let error = Journal::open(&path, &name("E2")).unwrap_err();
        assert!(error.ends_with("another node uses it"), "{error}");
        drop(journal);
        for epoch in ["E2", "E3"] {
            let (_, mut ids) = open_again(&path, epoch).await;
            assert_eq!(settled(&mut ids, "running", 1), Settled::Interrupted);
            assert_eq!(settled(&mut ids, "done", 2), Settled::Final(Bytes::from_static(b"{}\0")));
            assert_eq!(settled(&mut ids, "cancelled", 3), Settled::Forgotten);
            assert_eq!(settled(&mut ids, "barred", 4), Settled::Never);
            assert_eq!(settled(&mut ids, "other", 5), Settled::Never);
            let other = ids.settle(&key("other-2"), &origin("E9", 5), Instant::now()).0;
            assert_eq!(other, Settled::Forgotten, "of a process that had another journal");
            for id in ["running", "done", "cancelled", "barred"] {
                assert!(!ids.start(&key(id), &origin(epoch, 1), Instant::now()), "{id}");
            }
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn what_is_removed_is_forgotten_and_not_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        let (journal, _) = Journal::open(&path, &name("E1")).unwrap();
        put(&journal, "old", 7, State::Barred).await;
        put(&journal, "again", 6, State::Barred).await;
        put(&journal, "again", 9, State::Barred).await;
        let removed = [("old", 7), ("again", 6)]
            .map(|(id, at)| Removed { key: key(id), origin: origin("E1", at) });
        journal.write(None, removed.to_vec()).await.unwrap();
        drop(journal);
        let (_, mut ids) = open_again(&path, "E2").await;
        assert_eq!(settled(&mut ids, "old", 7), Settled::Forgotten);
        assert_eq!(settled(&mut ids, "again", 9), Settled::Never, "it was taken again");
        assert_eq!(settled(&mut ids, "new", 8), Settled::Never);
    }

    #[tokio::test]
    async fn epochs_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        for at in 0..MAX_EPOCHS + 2 {
            let (_, mut ids) = open_again(&path, &format!("E{at}")).await;
            let known = ids.settle(&key(&at.to_string()), &origin("E0", 1), Instant::now()).0;
            let expected = if at < MAX_EPOCHS { Settled::Never } else { Settled::Forgotten };
            assert_eq!(known, expected, "{at}");
        }
    }
}
