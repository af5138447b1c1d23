use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use kakehi_channel::Json;
use serde::{Serialize, Serializer, ser::Error as _};

use super::*;

const LOW: usize = LOW_WATER as usize;

fn outbox() -> Outbox {
    Outbox::new(Peer::own(), &Limits::default(), CancellationToken::new())
}

/// Sends progress until there is no room for more. Says how many bytes that took.
fn fill(outbox: &Outbox, serial: u64) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(sent) = outbox.poll_push::<Json, ()>(serial, "step", None, &mut cx) {
        sent.unwrap().unwrap();
    }
    let mut size = 0;
    outbox.drain(|frames| {
        size = frames.len();
        frames.reset();
    });
    size
}

#[test]
fn a_burst_starts_small_and_so_does_the_next_requests() {
    let outbox = outbox();
    for _ in 0..2 {
        let serial = outbox.open("a");
        let first = fill(&outbox, serial);
        assert!((LOW..2 * LOW).contains(&first), "{first}");
        assert!(fill(&outbox, serial) >= 2 * LOW);
    }
}

#[test]
fn answers_that_wait_behind_each_other_are_one_burst() {
    let outbox = outbox();
    let serial = outbox.open("a");
    fill(&outbox, serial);
    outbox.close::<Json, ()>(Status::Ok, "done", None, None).unwrap();
    let serial = outbox.open("b");
    assert!(fill(&outbox, serial) >= 2 * LOW);
}

#[test]
fn a_connection_that_waits_holds_little_memory_for_what_is_not_sent() {
    /// Fails once most of it is written.
    struct Broken;

    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat_n("x", LOW))?;
            Err(S::Error::custom("broken"))
        }
    }

    let outbox = outbox();
    outbox.open(&"id".repeat(LOW));
    outbox.close::<Json, _>(Status::Ok, "", Some(&Broken), None).unwrap_err();
    outbox.open("a");
    assert!(outbox.lock().frames.capacity() > LOW);
    outbox.leave(Waker::noop());
    let state = outbox.lock();
    assert!(state.frames.capacity() <= LOW, "{}", state.frames.capacity());
    assert!(state.id.capacity() <= LOW, "{}", state.id.capacity());
}

#[test]
fn a_connection_is_woken_while_it_waits_and_not_while_it_answers() {
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (outbox, count) = (outbox(), Arc::new(Count::default()));
    let connection = Waker::from(Arc::clone(&count));
    let woken_by_progress = |serial| {
        let mut cx = Context::from_waker(Waker::noop());
        let sent = outbox.poll_push::<Json, ()>(serial, "step", None, &mut cx);
        assert!(matches!(sent, Poll::Ready(Some(Ok(())))));
        count.0.swap(0, Ordering::Relaxed)
    };
    outbox.leave(&connection);
    let serial = outbox.open("a");
    assert_eq!(woken_by_progress(serial), 0, "it has begun to answer");
    outbox.leave(&connection);
    assert_eq!(woken_by_progress(serial), 1, "it waits");
    assert_eq!(woken_by_progress(serial), 0, "it is awake already");
    outbox.leave(&connection);
    outbox.attend();
    assert_eq!(woken_by_progress(serial), 0, "it is back");
}
