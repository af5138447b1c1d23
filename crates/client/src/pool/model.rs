//! The pool under many interleavings of the threads that use it. `tests/models` runs these tests.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use shuttle::{future::block_on, thread};
use tokio::time::Instant;

use super::{Dial, Dialing, Pool, Slot};
use crate::{ClientSettings, connect::Connector};

/// How many interleavings are tried, of each of two kinds.
const TIMES: usize = 5_000;
const SIZE: usize = 2;

/// A connection that knows whether a request uses it.
struct Transport {
    is_used: AtomicBool,
    open: Arc<AtomicUsize>,
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

std::thread_local! {
    /// How many connections are open. One thread runs all threads of a model.
    static OPEN: Arc<AtomicUsize> = Arc::new(AtomicUsize::new(0));
}

struct Dialer;

impl Dial<Transport> for Dialer {
    fn dial(&self) -> Dialing<Transport> {
        Box::pin(async {
            let open = OPEN.with(Arc::clone);
            assert!(open.fetch_add(1, SeqCst) < SIZE, "more are open than the pool has slots");
            thread::yield_now();
            Ok(Transport { is_used: AtomicBool::new(false), open })
        })
    }

    fn is_silent(&self, _: &Transport) -> bool {
        true
    }
}

fn pool() -> Arc<Pool<Transport>> {
    let settings = ClientSettings { pool_size: SIZE, idle_time: None, ..ClientSettings::default() };
    Arc::new(Pool::new(Connector { path: "/nowhere".into(), settings }, Dialer))
}

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), TIMES);
    shuttle::check_pct(model, TIMES, 3);
}

/// One request: it takes a connection, uses it alone, and gives it back if it `ends_well`.
fn ask(pool: &Arc<Pool<Transport>>, ends_well: bool) {
    let mut slot = Slot::new(pool);
    let transport = slot.try_take(Instant::now()).unwrap_or_else(|| {
        block_on(poll_fn(|cx| slot.poll_transport(cx))).map(|(transport, _)| transport).unwrap()
    });
    assert!(!transport.is_used.swap(true, SeqCst), "two requests use one connection");
    thread::yield_now();
    transport.is_used.store(false, SeqCst);
    if ends_well {
        slot.give_back(transport, Instant::now());
    }
}

#[test]
fn a_connection_serves_one_request_at_a_time_and_no_slot_is_lost() {
    check(|| {
        let pool = pool();
        let users = (0..3).map(|user| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                ask(&pool, user != 0);
                ask(&pool, true);
            })
        });
        for user in users.collect::<Vec<_>>() {
            user.join().unwrap();
        }
        let stats = pool.stats();
        assert_eq!(stats.busy, 0);
        assert_eq!(stats.idle, OPEN.with(Arc::clone).load(SeqCst));
        pool.close();
        assert_eq!(OPEN.with(Arc::clone).load(SeqCst), 0);
    });
}

#[test]
fn no_connection_that_is_given_back_while_the_pool_closes_stays_open() {
    check(|| {
        let pool = pool();
        let users = (0..2).map(|_| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || ask(&pool, true))
        });
        let users: Vec<_> = users.collect();
        pool.close();
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(OPEN.with(Arc::clone).load(SeqCst), 0, "a connection is still open");
    });
}
