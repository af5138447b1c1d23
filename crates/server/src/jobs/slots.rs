//! How many of one job run at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for the runs of one job, taken in the order of asking. Their number can change while
/// some are taken.
#[derive(Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Clone, Copy, Debug)]
struct Size {
    wanted: usize,
    /// Taken places that are not to be free again.
    surplus: usize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(wanted: usize) -> Arc<Self> {
        let size = Mutex::new(Size { wanted, surplus: 0 });
        Arc::new(Self { semaphore: Arc::new(Semaphore::new(wanted)), size })
    }

    /// From now on there are `wanted` places; those who have one keep it.
    pub(crate) fn resize(&self, wanted: usize) {
        let size = &mut *self.size();
        if wanted >= size.wanted {
            let more = wanted - size.wanted;
            let kept = more.min(size.surplus);
            size.surplus -= kept;
            self.semaphore.add_permits(more - kept);
        } else {
            let fewer = size.wanted - wanted;
            size.surplus += fewer - self.semaphore.forget_permits(fewer);
        }
        size.wanted = wanted;
    }

    /// A place, if there is one at once.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.semaphore).try_acquire_owned().ok()?;
        Some(Slot { slots: Arc::clone(self), permit: Some(permit) })
    }

    /// Waits for a place. Cancel safe: who stops waiting is no longer in the queue.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        Slot { slots: Arc::clone(self), permit }
    }

    /// How many places are taken, and how many there are.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let size = *self.size();
        let all = size.wanted + size.surplus;
        (all.saturating_sub(self.semaphore.available_permits()), size.wanted)
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let size = &mut *self.slots.size();
        if size.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            size.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let slots = Slots::new(2);
        let (first, second) = (slots.try_take(), slots.try_take());
        assert!(first.is_some() && second.is_some());
        assert!(slots.try_take().is_none());
        assert_eq!(slots.taken(), (2, 2));
        drop(first);
        assert_eq!(slots.taken(), (1, 2));
        assert!(slots.take().now_or_never().is_some());
    }

    #[test]
    fn fewer_places_count_once_the_runs_that_have_them_end() {
        let slots = Slots::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| slots.try_take().unwrap()).collect();
        slots.resize(1);
        assert_eq!(slots.taken(), (3, 1));
        taken.truncate(1);
        assert_eq!(slots.taken(), (1, 1));
        assert!(slots.try_take().is_none(), "two were not to be free again");
        taken.clear();
        assert!(slots.try_take().is_some());
        assert_eq!(slots.taken(), (0, 1));
    }

    #[test]
    fn more_places_are_there_at_once() {
        let slots = Slots::new(1);
        let _first = slots.try_take().unwrap();
        assert!(slots.try_take().is_none());
        slots.resize(2);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn places_that_were_to_go_are_kept_when_there_may_be_more_again() {
        let slots = Slots::new(2);
        let taken = (slots.try_take().unwrap(), slots.try_take().unwrap());
        slots.resize(1);
        slots.resize(3);
        assert_eq!(slots.taken(), (2, 3));
        let third = slots.try_take();
        assert!(third.is_some() && slots.try_take().is_none());
        drop(taken);
        assert_eq!(slots.taken(), (1, 3));
    }

    #[tokio::test]
    async fn who_waits_longest_has_the_next_place() {
        let slots = Slots::new(1);
        let held = slots.try_take();
        let (mut first, mut second) = (Box::pin(slots.take()), Box::pin(slots.take()));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(held);
        assert!((&mut second).now_or_never().is_none());
        let slot = first.await;
        drop(slot);
        second.await;
    }
}
