//! Where a connection comes from, and goes back to.

use tokio::time::Instant;

use crate::pool::{Place, Pool};

/// Where a connection comes from, and goes back to.
pub(crate) enum Home<'c, L> {
    /// A [`Connection`](crate::Connection) that lends its only one.
    Own(&'c mut Option<L>),
    Pool(Place<L>),
}

impl<L> Home<'_, L> {
    pub(crate) fn give_back(&mut self, link: L, now: Instant) {
        match self {
            Self::Own(slot) => **slot = Some(link),
            Self::Pool(place) => place.give_back(link, now),
        }
    }

    /// The connection is closed: another may be opened in its place.
    pub(crate) fn release(&mut self) {
        if let Self::Pool(place) = self {
            place.release();
        }
    }

    pub(crate) fn pool(&self) -> Option<&Pool<L>> {
        match self {
            Self::Own(_) => None,
            Self::Pool(place) => Some(&place.pool),
        }
    }
}
