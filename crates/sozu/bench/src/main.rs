//! What kakehi-sozu promises in figures, against a real Sōzu:
//!
//! ```sh
//! cargo run --release --manifest-path crates/sozu/bench/Cargo.toml
//! ```
//! The `sozu` program is looked for as the tests do: `SOZU_BIN`, then what `tests/sozu/build` made.

mod published;
#[path = "../../../../tests/sozu/support.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod support;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use kakehi_sozu::{
    Sozu,
    command::{CountRequests, request::RequestType},
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::{runtime::Builder, time::sleep};

use support::{Proxy, add_cluster, query, signal, status, workers};

const TASKS: usize = 50;
const EACH: usize = 100;
/// Runs of each kind; the middle one counts.
const RUNS: usize = 3;

fn main() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more descriptors");
    for binary in support::binaries() {
        println!("## {}", binary.display());
        for threads in [1, 2] {
            run(threads, throughput(threads, &binary));
        }
        run(1, hang(&binary));
        run(2, batch(&binary));
        run(2, subscriber(&binary));
    }
}

fn run(threads: usize, what: impl Future<Output = ()>) {
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    // In a task of its own thread's making, as a program's main function is.
    runtime.expect("a runtime").block_on(what);
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// 50 tasks, 5,000 requests, a pool of 8, beside 1,000 open connections: ours and the published
/// client's in turn, in requests per second.
async fn throughput(threads: usize, binary: &std::path::Path) {
    let proxy = Proxy::start(binary).await;
    let crowd = Sozu::builder(proxy.socket()).pool_size(1000).build();
    assert!(crowd.batch((0..1000).map(|_| status())).await.iter().all(Result::is_ok));
    let size = if proxy.loses_answers() { 1 } else { 8 };
    let sozu = Sozu::builder(proxy.socket()).pool_size(size).connect().await.expect("it is there");
    for task in 0..TASKS {
        sozu.request(add_cluster(&format!("cluster-{task}"))).await.expect("it is added");
    }
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..RUNS {
        ours.push(rate(|task| ask(sozu.clone(), task)).await);
        let client = published::connect(proxy.socket()).await;
        theirs.push(rate(|task| published::ask(client.clone(), task, EACH)).await);
    }
    let opened = crowd.stats().idle;
    let (ours, theirs) = (middle(ours), middle(theirs));
    println!(
        "{threads} runtime thread(s), {opened} connections beside: {ours:.0}/s, \
         published client {theirs:.0}/s, ratio {:.2}",
        ours / theirs
    );
}

async fn rate<F: Future<Output = ()> + Send + 'static>(task: impl Fn(usize) -> F) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|number| tokio::spawn(task(number))).collect();
    for task in tasks {
        task.await.expect("each answer is right");
    }
    (TASKS * EACH) as f64 / start.elapsed().as_secs_f64()
}

async fn ask(sozu: Sozu, task: usize) {
    let name = format!("cluster-{task}");
    for _ in 0..EACH {
        let found = query(&sozu, &name).await.expect("an answer");
        assert_eq!(found, [name.as_str(), name.as_str()]);
    }
}

/// One worker is stopped: when a deadline of 1 s ends, and how late a task is that ticks each
/// millisecond.
async fn hang(binary: &std::path::Path) {
    let proxy = Proxy::start(binary).await;
    let sozu = proxy.connect().await;
    let worker = workers(&sozu.request(status()).await.expect("a status"))[0];
    signal(worker.pid, Signal::STOP);
    let ticking = tokio::spawn(async {
        let (mut ticks, mut longest) = (0, Duration::ZERO);
        let end = Instant::now() + Duration::from_millis(1100);
        while Instant::now() < end {
            let start = Instant::now();
            sleep(Duration::from_millis(1)).await;
            longest = longest.max(start.elapsed());
            ticks += 1;
        }
        (ticks, longest)
    });
    let start = Instant::now();
    let error = sozu.request(status()).deadline(Duration::from_secs(1)).await.expect_err("late");
    let elapsed = start.elapsed();
    let counts = RequestType::CountRequests(CountRequests {});
    let next = sozu.request(counts).await.expect("its own answer");
    let (ticks, longest) = ticking.await.expect("it ticks");
    println!(
        "a stopped worker: {error} after {elapsed:.3?}; {ticks} ticks of 1 ms in 1.1 s, the \
         longest {longest:.1?}; next: {:?}",
        next.content.map(|_| "its own")
    );
    signal(worker.pid, Signal::CONT);
}

/// 1,000 adds one after another over one connection, and as a batch, two of them failing.
async fn batch(binary: &std::path::Path) {
    let proxy = Proxy::start(binary).await;
    let sozu = proxy.connect().await;
    let (mut in_turn, mut at_once) = (vec![], vec![]);
    for run in 0..RUNS {
        let names = |kind: &str| (0..1000).map(move |n| format!("{kind}-{run}-{n}")).collect();
        let (one, many): (Vec<_>, Vec<_>) = (names("one"), names("many"));
        let start = Instant::now();
        for name in one {
            sozu.request(add_cluster(&name)).await.expect("it is added");
        }
        in_turn.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let mut requests: Vec<_> = many.iter().map(|name| add_cluster(name)).collect();
        for place in [123, 877] {
            requests[place] = RequestType::RemoveCluster("there is none".to_owned());
        }
        let results = sozu.batch(requests).await;
        at_once.push(start.elapsed().as_secs_f64());
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
    }
    let (in_turn, at_once) = (middle(in_turn), middle(at_once));
    println!(
        "1,000 adds: {in_turn:.3} s in turn, {at_once:.3} s as a batch: {:.2} of it",
        at_once / in_turn
    );
}

/// Requests per second of a client, without and with a subscriber beside it that reads, and one
/// that does not.
async fn subscriber(binary: &std::path::Path) {
    let proxy = Proxy::start(binary).await;
    let sozu = proxy.connect().await;
    for task in 0..TASKS {
        sozu.request(add_cluster(&format!("cluster-{task}"))).await.expect("it is added");
    }
    let mut alone = vec![];
    let mut beside = vec![];
    for _ in 0..RUNS {
        alone.push(rate(|task| ask(sozu.clone(), task)).await);
        let mut reading = sozu.events();
        let mut deaf = sozu.events();
        reading.next().await;
        deaf.next().await;
        let reading = tokio::spawn(async move {
            loop {
                reading.next().await;
            }
        });
        beside.push(rate(|task| ask(sozu.clone(), task)).await);
        reading.abort();
    }
    println!(
        "a second client: {:.0}/s, beside a subscriber that reads and one that does not {:.0}/s",
        middle(alone),
        middle(beside)
    );
}
