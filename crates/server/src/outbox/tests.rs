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
    Outbox::new(Peer::own(), &Limits::default(), Arc::default())
}

/// Sends progress until the outbox is full. Returns its size in bytes.
fn fill(outbox: &Outbox, number: u64) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(sent) = outbox.poll_push::<Json, ()>(number, "step", None, &mut cx) {
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
fn the_first_burst_of_each_request_is_small() {
    let outbox = outbox();
    for _ in 0..2 {
        let number = outbox.open("a", "".into());
        let first = fill(&outbox, number);
        assert!((LOW..2 * LOW).contains(&first), "{first}");
        assert!(fill(&outbox, number) >= 2 * LOW);
    }
}

#[test]
fn pipelined_responses_are_one_burst() {
    let outbox = outbox();
    let number = outbox.open("a", "".into());
    fill(&outbox, number);
    outbox.close::<Json, ()>(Status::Ok, "done", None, None).unwrap();
    let number = outbox.open("b", "".into());
    assert!(fill(&outbox, number) >= 2 * LOW);
}

#[test]
fn a_parked_connection_releases_the_memory_of_an_unsent_response() {
    /// Fails after most of it is written.
    struct Broken;

    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat_n("x", LOW))?;
            Err(S::Error::custom("broken"))
        }
    }

    let outbox = outbox();
    outbox.open(&"id".repeat(LOW), "".into());
    outbox.close::<Json, _>(Status::Ok, "", Some(&Broken), None).unwrap_err();
    outbox.open("a", "".into());
    assert!(outbox.lock().frames.capacity() > LOW);
    outbox.park(Waker::noop());
    let state = outbox.lock();
    assert!(state.frames.capacity() <= LOW, "{}", state.frames.capacity());
    assert!(state.id.capacity() <= LOW, "{}", state.id.capacity());
}

#[test]
fn progress_wakes_only_a_parked_connection() {
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (outbox, count) = (outbox(), Arc::new(Count::default()));
    let connection = Waker::from(Arc::clone(&count));
    let woken_by_progress = |number| {
        let mut cx = Context::from_waker(Waker::noop());
        let sent = outbox.poll_push::<Json, ()>(number, "step", None, &mut cx);
        assert!(matches!(sent, Poll::Ready(Some(Ok(())))));
        count.0.swap(0, Ordering::Relaxed)
    };
    outbox.park(&connection);
    let number = outbox.open("a", "".into());
    assert_eq!(woken_by_progress(number), 0, "a request has started");
    outbox.park(&connection);
    assert_eq!(woken_by_progress(number), 1, "it is parked");
    assert_eq!(woken_by_progress(number), 0, "it was woken already");
    outbox.park(&connection);
    outbox.unpark();
    assert_eq!(woken_by_progress(number), 0, "it is unparked");
}
