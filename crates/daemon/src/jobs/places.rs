//! Limits the requests that take long, so that connections for control stay free.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The limits on requests that take long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Requests of clients that wait.
    pub(crate) connections: usize,
    pub(crate) connections_per_uid: usize,
    /// Detached runs that wait or go on.
    pub(crate) detached: usize,
    pub(crate) detached_per_uid: usize,
}

/// Counts the requests that take long.
#[derive(Debug)]
pub(crate) struct Places {
    bounds: Bounds,
    /// By kind and caller. The sum of a kind has no caller.
    taken: Mutex<HashMap<(bool, Option<String>), usize>>,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    /// A user, or the name of a remote caller: remote callers share one uid.
    caller: String,
    is_detached: bool,
}

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, taken: Mutex::default() })
    }

    /// Takes a place for a detached run, or for a request whose client waits.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(crate) fn take(
        self: &Arc<Self>,
        caller: impl fmt::Display,
        is_detached: bool,
    ) -> Result<Place, String> {
        let caller = caller.to_string();
        let Bounds { connections, connections_per_uid, detached, detached_per_uid } = self.bounds;
        let (all, per_uid, what) = if is_detached {
            (detached, detached_per_uid, "detached runs")
        } else {
            (connections, connections_per_uid, "running requests")
        };
        let mut taken = self.taken();
        let keys = [None, Some(caller.clone())].map(|user| (is_detached, user));
        let [sum, own] = keys.each_ref().map(|key| taken.get(key).copied().unwrap_or(0));
        if sum >= all {
            return Err(format!("the server has its {all} {what} already"));
        }
        if own >= per_uid {
            return Err(format!("{caller} has its {per_uid} {what} already"));
        }
        for key in keys {
            *taken.entry(key).or_default() += 1;
        }
        Ok(Place { places: Arc::clone(self), caller, is_detached })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<(bool, Option<String>), usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        for user in [None, Some(mem::take(&mut self.caller))] {
            let key = (self.is_detached, user);
            if let Some(count) = taken.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_all_together_have_a_limit_per_kind() {
        let (connections, connections_per_uid) = (3, 2);
        let (detached, detached_per_uid) = (1, 1);
        let bounds = Bounds { connections, connections_per_uid, detached, detached_per_uid };
        let places = Places::new(bounds);
        let first = places.take("uid 7", false).unwrap();
        let _second = places.take("uid 7", false).unwrap();
        let error = places.take("uid 7", false).unwrap_err();
        assert_eq!(error, "uid 7 has its 2 running requests already");
        let _third = places.take("uid 8", false).unwrap();
        let error = places.take("uid 9", false).unwrap_err();
        assert_eq!(error, "the server has its 3 running requests already");
        drop(first);
        assert!(places.take("uid 9", false).is_ok());
        let detached = places.take("uid 7", true).unwrap();
        let error = places.take("uid 8", true).unwrap_err();
        assert_eq!(error, "the server has its 1 detached runs already");
        drop(detached);
        assert_eq!(places.taken().len(), 3);
    }
}
