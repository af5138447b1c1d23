//! A socket's file, from its `bind` to its removal.

use rustix::fs::Stat;

use super::{error::BindError, lock::Lock, place::Place};

/// Dropped, the file is removed if it is still the one that was bound. Then the lock is released.
pub(super) struct Claim {
    place: Place,
    bound: Stat,
    _lock: Lock,
}

impl Claim {
    /// Right after `bind`, under the lock, in a directory where nobody else can swap files: what is
    /// there is what was bound. `None` if it is gone nevertheless.
    pub(super) fn new(place: Place, lock: Lock) -> Result<Option<Self>, BindError> {
        let bound = place.stat()?;
        Ok(bound.map(|bound| Self { place, bound, _lock: lock }))
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn is_bound(&self, stat: &Stat) -> bool {
        (stat.st_dev, stat.st_ino) == (self.bound.st_dev, self.bound.st_ino)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let path = self.place.path.display();
        match self.place.stat() {
            Ok(Some(stat)) if self.is_bound(&stat) => {
                if let Err(error) = self.place.remove() {
                    tracing::warn!(%path, %error, "cannot remove the socket");
                }
            }
            Ok(Some(_)) => tracing::warn!(%path, "left alone what replaced the socket"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot remove the socket"),
        }
    }
}
