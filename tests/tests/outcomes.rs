//! The outcomes that a client reports are true, whatever happens to the server. The server keeps a
//! journal of the requests that it started and finished, and the tests compare both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kakehi_channel::Request;
use kakehi_client::{Client, ClientSettings, ErrorKind, Outcome, Reconnect};
use kakehi_server::{Context, Limits, Socket, serve};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

const FOLDER: &str = "KAKEHI_TEST_JOURNAL";

/// Not a test but the server of one, in a process of its own: it answers a number by that number,
/// after a while that the number says, and writes down when it starts and when it finishes.
#[test]
fn a_server_with_a_journal() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let journal = OpenOptions::new().append(true).create(true).open(folder.join("journal"));
    let journal = Arc::new(journal.unwrap());
    let note = move |what: char, number: &str| {
        (&*journal).write_all(format!("{what}{number}\n").as_bytes()).unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = Socket::bind(folder.join("socket")).listen().unwrap();
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        serve(socket, move |request: Request<String>, _: Context| {
            let note = note.clone();
            async move {
                let number = request.command.unwrap_or_default();
                note('s', &number);
                match noise(&number) % 4 {
                    0 => tokio::time::sleep(Duration::from_millis(noise(&number) % 5)).await,
                    1 => tokio::task::yield_now().await,
                    _ => {}
                }
                note('f', &number);
                Ok::<_, String>(number)
            }
        })
        // On a busy machine it is slow to learn of connections that were given up.
        .limits(Limits {
            connections: 10_000,
            connections_per_uid: 10_000,
            drain_time: Duration::from_millis(200),
            ..Limits::default()
        })
        .shutdown(async move {
            terminate.recv().await;
        })
        .await;
    });
}

/// Different for each number, the same in each run.
fn noise(number: &str) -> u64 {
    number.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
    })
}

struct Server(Child);

impl Server {
    fn start(folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_server_with_a_journal", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Ends = Arc<Mutex<Vec<(usize, Option<Outcome>)>>>;

/// Sends the numbers of one task, one after the other.
async fn ask(client: Client, numbers: Vec<usize>, ends: Ends, done: Arc<AtomicUsize>) {
    for number in numbers {
        let end = match client.request(number.to_string()).await {
            Ok(answer) => {
                assert_eq!(answer.message, number.to_string(), "another's answer");
                None
            }
            Err(error) => Some(error.outcome()),
        };
        ends.lock().unwrap().push((number, end));
        done.fetch_add(1, Ordering::SeqCst);
        if end == Some(Outcome::NotSent) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_share_eight_connections_through_twenty_restarts() {
    const REQUESTS: usize = 100_000;
    const TASKS: usize = 64;
    const RESTARTS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let patient = Client::new(
        &socket,
        ClientSettings {
            pool_size: 8,
            reconnect: Some(Reconnect {
                first: Duration::from_millis(1),
                max: Duration::from_millis(20),
            }),
            ..ClientSettings::default()
        },
    );
    let hasty = Client::new(&socket, ClientSettings { pool_size: 2, ..ClientSettings::default() });
    let (ends, done) = (Ends::default(), Arc::new(AtomicUsize::new(0)));

    let mut server = Server::start(folder.path());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS + 2 {
        let client = if task < TASKS { &patient } else { &hasty };
        let numbers = (0..REQUESTS).filter(|n| n % (TASKS + 2) == task).collect();
        tasks.spawn(ask(client.clone(), numbers, Arc::clone(&ends), Arc::clone(&done)));
    }
    for restart in 1..=RESTARTS {
        while done.load(Ordering::SeqCst) < restart * REQUESTS / (RESTARTS + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let signal = if restart % 2 == 0 { Signal::TERM } else { Signal::KILL };
        tokio::task::spawn_blocking(move || server.end(signal)).await.unwrap();
        server = Server::start(folder.path());
    }
    tasks.join_all().await;
    server.end(Signal::TERM);
    let stats = patient.stats();
    assert_eq!(stats.busy, 0, "no connection is leaked: {stats:?}");
    compare(&fs::read_to_string(folder.path().join("journal")).unwrap(), &ends, REQUESTS);
}

/// Compares the outcomes of the client with the journal of the server.
fn compare(journal: &str, ends: &Ends, requests: usize) {
    let (mut started, mut finished) = (HashSet::new(), HashSet::new());
    for line in journal.lines() {
        let number: usize = line[1..].parse().unwrap();
        let is_new =
            if line.starts_with('s') { &mut started } else { &mut finished }.insert(number);
        assert!(is_new, "{line} twice");
    }
    let ends = ends.lock().unwrap();
    assert_eq!(ends.len(), requests);
    let mut counts = [0; 5];
    for (number, end) in &*ends {
        let (is_true, count) = match end {
            None => (finished.contains(number), 0),
            Some(Outcome::NotSent) => (!started.contains(number), 1),
            Some(Outcome::Refused) => (!started.contains(number), 2),
            // Only a drain's end makes this server answer so.
            Some(Outcome::Failed) => (started.contains(number) && !finished.contains(number), 3),
            Some(Outcome::Unknown) => (true, 4),
            Some(Outcome::Done) => (false, 5),
        };
        assert!(is_true, "{number} ended in {end:?}");
        counts[count] += 1;
    }
    let [ok, not_sent, _, _, unknown] = counts;
    assert!(ok > requests * 9 / 10 && not_sent > 0 && unknown > 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_timeout_the_next_request_gets_its_own_answer_ten_thousand_times() {
    const REQUESTS: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path());
    let client = Client::new(
        folder.path().join("socket"),
        ClientSettings {
            pool_size: 4,
            reconnect: Some(Reconnect::default()),
            ..ClientSettings::default()
        },
    );
    let timeouts = Arc::new(AtomicUsize::new(0));
    // In per mille: on a busy machine there is more patience, so that some of them are answered.
    let ease = Arc::new(AtomicUsize::new(1000));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (client, timeouts, ease) = (client.clone(), Arc::clone(&timeouts), Arc::clone(&ease));
        tasks.spawn(async move {
            for number in (0..REQUESTS).filter(|n| n % 8 == task) {
                let number = number.to_string();
                let now = ease.load(Ordering::SeqCst);
                let patience = Duration::from_micros(500 + noise(&number) % 4000);
                let patience = patience * u32::try_from(now).unwrap() / 1000;
                match client.request(number.clone()).timeout(patience).await {
                    Ok(answer) => {
                        assert_eq!(answer.message, number, "another's answer");
                        ease.store(now.saturating_sub(3).max(50), Ordering::SeqCst);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                        timeouts.fetch_add(1, Ordering::SeqCst);
                        ease.store(now + 20, Ordering::SeqCst);
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let timeouts = timeouts.load(Ordering::SeqCst);
    assert!((100..REQUESTS / 2).contains(&timeouts), "{timeouts} timeouts test nothing");
}
