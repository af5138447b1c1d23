//! The ids of requests that were started: none is started twice, and an outcome can be asked for.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::numbers::sequence;
use crate::names::Name;

/// How long an id is kept after its request has ended, without a journal.
pub(super) const KEPT: Duration = Duration::from_secs(600);

/// How many ids of ended requests are kept.
const MAX_IDS: usize = 16 * 1024;

/// How many bytes of final responses are kept.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A request's id, as one signer chose it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) signer: String,
    pub(crate) id: String,
}

/// The accept of a request: the process of the node, and the number there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) epoch: Name,
    pub(crate) number: u64,
}

/// The state of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// With the final response, if there was one.
    Ended(Option<Bytes>),
    /// Never started, and never to be.
    Barred,
    /// The process ended before the request did.
    Interrupted,
}

/// The ids that one node knows: those of its process, and those of its journal.
#[derive(Debug)]
pub(crate) struct Ids {
    kept: Duration,
    known: HashMap<Key, (Origin, State)>,
    /// Ids of requests that do not run, and until when they are kept, in this order.
    over: VecDeque<(Instant, Key)>,
    bytes: usize,
    /// The processes whose ids are known, each with the highest [sequence] of a request whose id is no
    /// longer kept.
    epochs: HashMap<Name, u64>,
    /// Ids that are no longer kept, for the journal; `None` without one.
    removed: Option<Vec<Removed>>,
}

/// An id that is no longer kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) key: Key,
    pub(crate) origin: Origin,
}

/// The answer to a query for a request's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Final(Bytes),
    Running,
    Never,
    Interrupted,
    Forgotten,
}

impl Ids {
    /// Without a journal.
    pub(crate) fn new(epoch: Name) -> Self {
        Self {
            kept: KEPT,
            known: HashMap::new(),
            over: VecDeque::new(),
            bytes: 0,
            epochs: HashMap::from([(epoch, 0)]),
            removed: None,
        }
    }

    /// With a journal, which keeps ids for `kept` and has these `epochs`.
    pub(crate) fn with_journal(kept: Duration, epochs: HashMap<Name, u64>) -> Self {
        Self {
            kept,
            known: HashMap::new(),
            over: VecDeque::new(),
            bytes: 0,
            epochs,
            removed: Some(vec![]),
        }
    }

    /// Takes an id of the journal, whose request ended `age` before `now`. The oldest comes first.
    pub(crate) fn load(
        &mut self,
        key: Key,
        origin: Origin,
        state: State,
        age: Duration,
        now: Instant,
    ) {
        self.put(key, origin, state, now + self.kept.saturating_sub(age));
    }

    /// Takes an id for a request that starts now. `false`: it was started before, or barred.
    pub(crate) fn start(&mut self, key: &Key, origin: &Origin, now: Instant) -> bool {
        self.forget(now);
        if self.known.contains_key(key) {
            return false;
        }
        self.known.insert(key.clone(), (origin.clone(), State::Running));
        true
    }

    /// Keeps the final response of a request that has ended.
    pub(crate) fn end(
        &mut self,
        key: &Key,
        origin: &Origin,
        response: Option<Bytes>,
        now: Instant,
    ) {
        self.put(key.clone(), origin.clone(), State::Ended(response), now + self.kept);
        self.forget(now);
    }

    /// Returns the state of the request `key` that was accepted as `origin`. Bars a request that was
    /// not started: `true` if it was not barred before.
    pub(crate) fn settle(&mut self, key: &Key, origin: &Origin, now: Instant) -> (Settled, bool) {
        self.forget(now);
        // Another process of this name accepted it: this one knows of another run of the id at most.
        let is_own = |(found, _): &&(Origin, State)| {
            found.epoch == origin.epoch || self.epochs.contains_key(&origin.epoch)
        };
        let settled = match self.known.get(key).filter(is_own).map(|(_, state)| state) {
            Some(State::Running) => Settled::Running,
            Some(State::Ended(Some(response))) => Settled::Final(response.clone()),
            Some(State::Ended(None)) => Settled::Forgotten,
            Some(State::Barred) => Settled::Never,
            Some(State::Interrupted) => Settled::Interrupted,
            None => match self.epochs.get(&origin.epoch) {
                Some(forgotten) if sequence(origin.number) > *forgotten => {
                    self.put(key.clone(), origin.clone(), State::Barred, now + self.kept);
                    self.forget(now);
                    return (Settled::Never, true);
                }
                _ => Settled::Forgotten,
            },
        };
        (settled, false)
    }

    /// Returns the ids that were dropped since the last call, for the journal.
    pub(crate) fn take_removed(&mut self) -> Vec<Removed> {
        self.removed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn put(&mut self, key: Key, origin: Origin, state: State, until: Instant) {
        if let State::Ended(Some(response)) = &state {
            self.bytes += response.len();
        }
        self.known.insert(key.clone(), (origin, state));
        self.over.push_back((until, key));
    }

    /// Drops expired ids, and the oldest ids while their number or size exceeds its bound.
    fn forget(&mut self, now: Instant) {
        while let Some((until, _)) = self.over.front() {
            if now <= *until && self.over.len() <= MAX_IDS && self.bytes <= MAX_BYTES {
                return;
            }
            let Some((_, key)) = self.over.pop_front() else { return };
            let Some((origin, state)) = self.known.remove(&key) else { continue };
            if let State::Ended(Some(response)) = state {
                self.bytes -= response.len();
            }
            if let Some(forgotten) = self.epochs.get_mut(&origin.epoch) {
                *forgotten = (*forgotten).max(sequence(origin.number));
            }
            if let Some(removed) = &mut self.removed {
                removed.push(Removed { key, origin });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> Key {
        Key { signer: "U1".into(), id: id.to_string() }
    }

    /// The `at`th request; later ones have the lower random bits.
    fn origin(at: u64) -> Origin {
        Origin { epoch: epoch("E1"), number: (at << 32) | (u64::from(u32::MAX) - at) }
    }

    fn epoch(name: &str) -> Name {
        name.parse().unwrap()
    }

    fn ids() -> (Ids, Instant) {
        (Ids::new(epoch("E1")), Instant::now())
    }

    const DONE: Option<Bytes> = Some(Bytes::from_static(b"done"));

    #[test]
    fn an_id_of_one_signer_starts_once() {
        let (mut ids, now) = ids();
        assert!(ids.start(&key(1), &origin(1), now));
        assert!(!ids.start(&key(1), &origin(2), now));
        assert!(ids.start(&Key { signer: "U2".into(), id: "1".into() }, &origin(3), now));
        ids.end(&key(1), &origin(1), DONE, now);
        assert!(!ids.start(&key(1), &origin(4), now + Duration::from_secs(599)));
        assert!(ids.start(&key(1), &origin(5), now + Duration::from_secs(601)));
    }

    #[test]
    fn a_settled_request_is_final_running_never_or_forgotten() {
        let (mut ids, now) = ids();
        let settle = |ids: &mut Ids, at, now| ids.settle(&key(at), &origin(at), now).0;
        ids.start(&key(1), &origin(1), now);
        assert_eq!(settle(&mut ids, 1, now), Settled::Running);
        ids.end(&key(1), &origin(1), DONE, now);
        assert_eq!(settle(&mut ids, 1, now), Settled::Final(Bytes::from_static(b"done")));
        assert_eq!(settle(&mut ids, 2, now), Settled::Never);
        let other = Origin { epoch: epoch("E2"), ..origin(9) };
        assert_eq!(ids.settle(&key(9), &other, now), (Settled::Forgotten, false));
        assert_eq!(ids.settle(&key(1), &other, now), (Settled::Forgotten, false));
        let later = now + Duration::from_secs(601);
        assert_eq!(settle(&mut ids, 1, later), Settled::Forgotten);
        assert_eq!(settle(&mut ids, 2, later), Settled::Forgotten);
        assert_eq!(settle(&mut ids, 3, later), Settled::Never);
    }

    #[test]
    fn what_is_settled_as_never_does_not_start() {
        let (mut ids, now) = ids();
        assert_eq!(ids.settle(&key(1), &origin(1), now), (Settled::Never, true));
        assert!(!ids.start(&key(1), &origin(2), now));
        assert_eq!(ids.settle(&key(1), &origin(1), now), (Settled::Never, false));
    }

    #[test]
    fn ids_and_responses_are_bounded() {
        let (mut ids, now) = ids();
        for at in 1..=2 * MAX_IDS as u64 {
            ids.start(&key(at), &origin(at), now);
            ids.end(&key(at), &origin(at), None, now);
        }
        assert_eq!((ids.known.len(), ids.over.len()), (MAX_IDS, MAX_IDS));
        assert_eq!(ids.settle(&key(1), &origin(1), now).0, Settled::Forgotten);
        let large = Bytes::from(vec![0; MAX_BYTES / 4]);
        for at in 100_000..100_010 {
            ids.start(&key(at), &origin(at), now);
            ids.end(&key(at), &origin(at), Some(large.clone()), now);
        }
        assert!(ids.bytes <= MAX_BYTES && ids.known.len() <= 4);
        assert_eq!(ids.take_removed(), [], "removed ids are listed only for a journal");
    }

    #[test]
    fn ids_of_a_journal_keep_their_age_and_their_process() {
        let epochs = HashMap::from([(epoch("E1"), 5), (epoch("E2"), 0)]);
        let (mut ids, now) = (Ids::with_journal(Duration::from_secs(100), epochs), Instant::now());
        let seconds = Duration::from_secs;
        ids.load(key(6), origin(6), State::Ended(DONE), seconds(90), now);
        ids.load(key(7), origin(7), State::Interrupted, seconds(0), now);
        assert!(!ids.start(&key(6), &origin(1), now) && !ids.start(&key(7), &origin(1), now));
        let settle = |ids: &mut Ids, at, now| ids.settle(&key(at), &origin(at), now).0;
        assert_eq!(settle(&mut ids, 6, now), Settled::Final(Bytes::from_static(b"done")));
        assert_eq!(settle(&mut ids, 7, now), Settled::Interrupted);
        assert_eq!(settle(&mut ids, 5, now), Settled::Forgotten, "it was evicted before");
        assert_eq!(settle(&mut ids, 8, now), Settled::Never, "it would be in the journal");
        assert_eq!(settle(&mut ids, 6, now + seconds(11)), Settled::Forgotten);
        assert_eq!(ids.take_removed(), [Removed { key: key(6), origin: origin(6) }]);
        assert_eq!(ids.take_removed(), []);
    }
}
