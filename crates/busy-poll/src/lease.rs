//! How many streams of the process poll at the same time.

use std::{
    num::NonZeroU64,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The permission of one stream to poll. Half of the process's cores may poll, none if there is
/// but one.
///
/// A lease expires, because a future may never be polled again. It is identified by its expiry in
/// ns, which keeps it small. If two expire at the same time, either may be released.
pub(crate) struct Lease(NonZeroU64);

const MOST: usize = 16;
static LEASES: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
static START: LazyLock<(Instant, usize)> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (Instant::now(), cores / 2)
});

/// Whether any stream of this process ever polls.
pub(crate) fn is_possible() -> bool {
    START.1 > 0
}

impl Lease {
    pub(crate) fn take(now: Instant, time: Duration) -> Option<Self> {
        let (start, count) = *START;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(start));
        let end = NonZeroU64::MIN.saturating_add(now.saturating_add(nanos(time)));
        LEASES.iter().take(count).find_map(|slot| {
            let held_until = slot.load(Ordering::Relaxed);
            let is_free = held_until == 0 || held_until < now;
            (is_free && change(slot, held_until, end.get())).then_some(Self(end))
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // After its expiry, its slot may hold another lease.
        let end = self.0.get();
        let slot = LEASES.iter().find(|slot| slot.load(Ordering::Relaxed) == end);
        if let Some(slot) = slot {
            change(slot, end, 0);
        }
    }
}

fn change(slot: &AtomicU64, from: u64, to: u64) -> bool {
    slot.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
