//! The pool, under many interleavings of its users' threads: `tests/models` runs these.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use shuttle::{future::block_on, thread};
use tokio::time::Instant;

use crate::{
    connect::Connector,
    open::{Opened, Opening, Order},
    pool::{Place, Pool},
};

/// How many interleavings are tried, of each of two kinds.
const TIMES: usize = 5_000;
const SIZE: usize = 2;

/// A connection that knows who uses it.
struct Link {
    is_used: AtomicBool,
    open: Arc<AtomicUsize>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

std::thread_local! {
    /// How many are open in the world of this thread: one runs all threads of a model.
    static OPEN: Arc<AtomicUsize> = Arc::new(AtomicUsize::new(0));
}

fn open(mut place: Place<Link>, _: Order) -> Opening<Link> {
    Box::pin(async move {
        place.hold().await;
        if let Some(link) = place.pool.take(Instant::now()) {
            return Ok(Opened { link, place, is_reused: true });
        }
        let open = OPEN.with(Arc::clone);
        assert!(open.fetch_add(1, SeqCst) < SIZE, "more are open than the pool has places");
        thread::yield_now();
        Ok(Opened { link: Link { is_used: AtomicBool::new(false), open }, place, is_reused: false })
    })
}

fn pool() -> Arc<Pool<Link>> {
    Arc::new(Pool::new(Connector::new("/nowhere".into()), (SIZE, None), open, |_| true))
}

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), TIMES);
    shuttle::check_pct(model, TIMES, 3);
}

/// One request: it takes a connection, uses it alone, and gives it back or not.
fn ask(pool: &Arc<Pool<Link>>, ends_well: bool) {
    let mut place = Place::new(pool);
    let link = match place.try_take(Instant::now()) {
        Some(link) => link,
        None => match block_on(place.open(Order { end: None, failures: 0, cause: None })) {
            Ok(opened) => {
                place = opened.place;
                opened.link
            }
            Err(error) => panic!("{error:?}"),
        },
    };
    assert!(!link.is_used.swap(true, SeqCst), "two use one connection");
    thread::yield_now();
    link.is_used.store(false, SeqCst);
    if ends_well {
        place.give_back(link, Instant::now());
    }
}

#[test]
fn a_connection_is_one_requests_at_a_time_and_no_place_is_lost() {
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
fn nothing_is_kept_of_what_is_given_back_while_the_pool_closes() {
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
        assert_eq!(OPEN.with(Arc::clone).load(SeqCst), 0, "some are open still");
    });
}
