//! Models of the state that threads share, run under many interleavings by `tests/models`.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
};

use kakehi_channel::Json;
use shuttle::{
    future::block_on,
    sync::atomic::AtomicUsize,
    thread::{self, JoinHandle},
};

use crate::{
    Limits, Peer,
    outbox::Outbox,
    shared::{Phase, Shared},
};

/// The number of interleavings that each of two schedulers tries.
const TIMES: usize = 5_000;

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), TIMES);
    shuttle::check_pct(model, TIMES, 3);
}

fn outbox(uid: u32, limits: &Limits) -> Arc<Outbox> {
    Arc::new(Outbox::new(Peer { uid, ..Peer::own() }, limits, Arc::default()))
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn progress_wakes_a_connection_that_is_being_parked() {
    check(|| {
        let outbox = outbox(0, &Limits { outgoing_bytes: 100, ..Limits::default() });
        let number = outbox.open("a", "".into());
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for _ in 0..3 {
                    let sent = poll_fn(|cx| outbox.poll_push::<Json, ()>(number, "x", None, cx));
                    block_on(sent).transpose().unwrap();
                }
            })
        };
        let mut frames = 0;
        block_on(poll_fn(|cx| {
            outbox.unpark();
            outbox.park(cx.waker());
            outbox.drain(|waiting| {
                frames += waiting.data().iter().filter(|byte| **byte == 0).count();
                waiting.reset();
            });
            if frames == 3 { Poll::Ready(()) } else { Poll::Pending }
        }));
        sender.join().unwrap();
    });
}

#[test]
fn the_end_of_the_connection_releases_a_sender_that_waits_for_room() {
    check(|| {
        let outbox = outbox(0, &Limits { outgoing_bytes: 2, ..Limits::default() });
        let number = outbox.open("a", "".into());
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for _ in 0..3 {
                    let sent = poll_fn(|cx| outbox.poll_push::<Json, ()>(number, "x", None, cx));
                    block_on(sent).transpose().unwrap();
                }
            })
        };
        outbox.abandon();
        sender.join().unwrap();
    });
}

#[test]
fn a_drain_ends_with_the_last_request_and_not_before() {
    check(|| {
        let (shared, working) = (Arc::new(Shared::default()), Arc::new(AtomicUsize::new(0)));
        let connections = (0..2).map(|_| {
            let (shared, working) = (Arc::clone(&shared), Arc::clone(&working));
            thread::spawn(move || {
                let running = shared.start_request();
                if shared.phase() == Phase::Running {
                    working.fetch_add(1, SeqCst);
                    thread::yield_now();
                    working.fetch_sub(1, SeqCst);
                }
                drop(running);
            })
        });
        let connections = connections.collect();
        shared.enter_phase(Phase::Draining);
        block_on(shared.until(|shared| shared.running() == 0));
        assert_eq!(working.load(SeqCst), 0, "a request was still at work");
        join(connections);
    });
}

#[test]
fn each_connection_sees_the_close_and_the_server_sees_each_end() {
    check(|| {
        let shared = Arc::new(Shared::default());
        let connections = (0..2).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let outbox = outbox(0, &Limits::default());
                let guard = shared.connect(&outbox, &Limits::default()).unwrap();
                block_on(poll_fn(|cx| {
                    outbox.park(cx.waker());
                    let is_closing = shared.phase() == Phase::Closing;
                    if is_closing { Poll::Ready(()) } else { Poll::Pending }
                }));
                drop(guard);
            })
        });
        let connections = connections.collect();
        shared.enter_phase(Phase::Closing);
        block_on(shared.until(Shared::is_empty));
        join(connections);
        assert!(shared.is_empty());
    });
}

#[test]
fn limits_hold_for_simultaneous_clients() {
    check(|| {
        let limits = Limits { connections: 2, connections_per_uid: 1, ..Limits::default() };
        let (shared, here) = (Arc::new(Shared::default()), Arc::new(AtomicUsize::new(0)));
        let clients = (0..4).map(|uid| {
            let (shared, here, limits) = (Arc::clone(&shared), Arc::clone(&here), limits.clone());
            thread::spawn(move || {
                if let Ok(guard) = shared.connect(&outbox(uid / 2, &limits), &limits) {
                    assert!(here.fetch_add(1, SeqCst) < 2, "more than the limit");
                    let mut held = 0;
                    shared.hold_unfinished(&mut held, 10, 15);
                    shared.hold_unfinished(&mut held, 0, 15);
                    here.fetch_sub(1, SeqCst);
                    drop(guard);
                }
            })
        });
        join(clients.collect());
        assert!(shared.is_empty());
        assert!(shared.hold_unfinished(&mut 0, 15, 15), "all was given back");
    });
}
