//! What connections share, under many interleavings of their threads: `tests/models` runs these.

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

use tokio_util::sync::CancellationToken;

use crate::{
    Limits, Peer,
    hub::{Hub, Phase},
    outbox::Outbox,
    serve::until,
};

/// How many interleavings are tried, of each of two kinds.
const TIMES: usize = 5_000;

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), TIMES);
    shuttle::check_pct(model, TIMES, 3);
}

fn outbox(uid: u32, limits: &Limits) -> Arc<Outbox> {
    Arc::new(Outbox::new(Peer { uid, ..Peer::own() }, limits, CancellationToken::new()))
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn what_is_sent_while_the_connection_goes_to_sleep_wakes_it() {
    check(|| {
        let outbox = outbox(0, &Limits { outgoing_bytes: 100, ..Limits::default() });
        let serial = outbox.open("a");
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for _ in 0..3 {
                    let sent = poll_fn(|cx| outbox.poll_push::<Json, ()>(serial, "x", None, cx));
                    block_on(sent).transpose().unwrap();
                }
            })
        };
        let mut frames = 0;
        block_on(poll_fn(|cx| {
            outbox.attend();
            outbox.leave(cx.waker());
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
fn a_sender_that_waits_for_room_is_let_go_when_the_connection_is_gone() {
    check(|| {
        let outbox = outbox(0, &Limits { outgoing_bytes: 2, ..Limits::default() });
        let serial = outbox.open("a");
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for _ in 0..3 {
                    let sent = poll_fn(|cx| outbox.poll_push::<Json, ()>(serial, "x", None, cx));
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
        let (hub, working) = (Arc::new(Hub::default()), Arc::new(AtomicUsize::new(0)));
        let connections = (0..2).map(|_| {
            let (hub, working) = (Arc::clone(&hub), Arc::clone(&working));
            thread::spawn(move || {
                let running = hub.start_request();
                if hub.phase() == Phase::Running {
                    working.fetch_add(1, SeqCst);
                    thread::yield_now();
                    working.fetch_sub(1, SeqCst);
                }
                drop(running);
            })
        });
        let connections = connections.collect();
        hub.enter_phase(Phase::Draining);
        block_on(until(&hub, |hub| hub.running() == 0));
        assert_eq!(working.load(SeqCst), 0, "a request was still at work");
        join(connections);
    });
}

#[test]
fn each_connection_sees_the_close_and_the_server_sees_each_leave() {
    check(|| {
        let hub = Arc::new(Hub::default());
        let connections = (0..2).map(|_| {
            let hub = Arc::clone(&hub);
            thread::spawn(move || {
                let outbox = outbox(0, &Limits::default());
                let seat = hub.connect(&outbox, &Limits::default()).unwrap();
                block_on(poll_fn(|cx| {
                    outbox.leave(cx.waker());
                    let is_closing = hub.phase() == Phase::Closing;
                    if is_closing { Poll::Ready(()) } else { Poll::Pending }
                }));
                drop(seat);
            })
        });
        let connections = connections.collect();
        hub.enter_phase(Phase::Closing);
        block_on(until(&hub, Hub::is_empty));
        join(connections);
        assert!(hub.is_empty());
    });
}

#[test]
fn limits_hold_whoever_comes_at_once() {
    check(|| {
        let limits = Limits { connections: 2, connections_per_uid: 1, ..Limits::default() };
        let (hub, here) = (Arc::new(Hub::default()), Arc::new(AtomicUsize::new(0)));
        let clients = (0..4).map(|uid| {
            let (hub, here, limits) = (Arc::clone(&hub), Arc::clone(&here), limits.clone());
            thread::spawn(move || {
                if let Ok(seat) = hub.connect(&outbox(uid / 2, &limits), &limits) {
                    assert!(here.fetch_add(1, SeqCst) < 2, "more than the limit");
                    let mut held = 0;
                    hub.hold_unfinished(&mut held, 10, 15);
                    hub.hold_unfinished(&mut held, 0, 15);
                    here.fetch_sub(1, SeqCst);
                    drop(seat);
                }
            })
        });
        join(clients.collect());
        assert!(hub.is_empty());
        assert!(hub.hold_unfinished(&mut 0, 15, 15), "all was given back");
    });
}
