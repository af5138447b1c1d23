//! Limits the runs of one job that go on at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots for the runs of one job, taken in FIFO order. Their number can change while some are
/// taken.
#[derive(Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Clone, Copy, Debug)]
struct Size {
    wanted: usize,
    /// Taken slots that are removed when given back.
    surplus: usize,
}

/// A slot, given back when dropped.
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

    /// Changes the number of slots to `wanted`. Taken slots stay taken.
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

    /// Takes a slot if one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.semaphore).try_acquire_owned().ok()?;
        Some(Slot { slots: Arc::clone(self), permit: Some(permit) })
    }

    /// Waits for a slot. Cancel safe: dropping the future leaves the queue.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        Slot { slots: Arc::clone(self), permit }
    }

    /// Returns how many slots are taken, and how many exist.
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
    fn slots_are_limited_and_given_back() {
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
    fn removed_slots_disappear_when_their_runs_end() {
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
    fn added_slots_are_free_at_once() {
        let slots = Slots::new(1);
        let _first = slots.try_take().unwrap();
        assert!(slots.try_take().is_none());
        slots.resize(2);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn a_slot_that_was_to_be_removed_is_kept_if_the_number_grows_again() {
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
    async fn the_longest_waiter_gets_the_next_slot() {
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
