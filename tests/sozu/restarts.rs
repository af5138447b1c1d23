//! Sōzu is killed and comes back, or upgraded, under tasks that go on asking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use kakehi_sozu::{
    Error, ErrorKind, Outcome, Sozu,
    command::{UpgradeMain, request::RequestType},
};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Proxy, add_cluster, binaries, query};

/// What became of the requests to add a cluster each, by its name, and of the lookups.
#[derive(Default)]
struct Seen {
    ok: Vec<String>,
    errors: Vec<(String, Error)>,
    lookups: Vec<Error>,
}

/// 16 tasks that add cluster after cluster, and look each time for what they have added.
struct Tasks {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Seen>>,
}

impl Tasks {
    fn start(sozu: &Sozu) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |number| ask(number, sozu.clone(), Arc::clone(&stop));
        let tasks = (0..16).map(|number| tokio::spawn(task(number))).collect();
        Self { stop, tasks }
    }

    async fn end(self) -> Seen {
        self.stop.store(true, Relaxed);
        let mut all = Seen::default();
        for task in self.tasks {
            let seen = task.await.unwrap();
            all.ok.extend(seen.ok);
            all.errors.extend(seen.errors);
            all.lookups.extend(seen.lookups);
        }
        all
    }
}

async fn ask(task: usize, sozu: Sozu, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let name = format!("task-{task}-{number}");
        match sozu.request(add_cluster(&name)).await {
            Ok(_) => seen.ok.push(name.clone()),
            Err(error) => seen.errors.push((name.clone(), error)),
        }
        match query(&sozu, &name).await {
            // After a restart, it may know nothing of it; never of another.
            Ok(found) => assert!(found.iter().all(|found| *found == name), "{found:?}"),
            Err(error) => seen.lookups.push(error),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    seen
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_restart_each_outcome_is_true_and_afterwards_each_request_succeeds() {
    for binary in binaries() {
        let mut proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let tasks = Tasks::start(&sozu);
        settle().await;
        proxy.kill();
        settle().await;
        proxy.start_again();
        proxy.answers().await;
        // The first request on each connection that died meanwhile.
        for number in 0..32 {
            sozu.request(add_cluster(&format!("after-{number}"))).await.unwrap();
        }
        let seen = tasks.end().await;

        // Its log names each cluster that it was asked to add.
        let log = proxy.log();
        let was_asked = |name: &str| log.contains(&format!("target=cluster:{name},"));
        assert!(seen.ok.iter().any(|name| was_asked(name)));
        assert!(!seen.errors.is_empty());
        for (name, error) in &seen.errors {
            match error.outcome() {
                Outcome::NotSent => assert!(!was_asked(name), "{name}: {error:?}"),
                Outcome::Unknown => {
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error:?}");
                }
                _ => panic!("{name}: {error:?}"),
            }
        }
        for error in &seen.lookups {
            assert!(
                error.outcome() == Outcome::NotSent || error.kind() == ErrorKind::Disconnected,
                "{error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_an_upgrade_of_the_main_process_nothing_that_was_added_is_lost() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let tasks = Tasks::start(&sozu);
        settle().await;
        let upgrade = RequestType::UpgradeMain(UpgradeMain {});
        let upgraded = sozu.request(upgrade).deadline(PATIENCE).await;
        proxy.answers().await;
        for number in 0..32 {
            sozu.request(add_cluster(&format!("after-{number}"))).await.unwrap();
        }
        let seen = tasks.end().await;
        upgraded.unwrap();

        for name in &seen.ok {
            assert_eq!(query(&sozu, name).await.unwrap(), [name.as_str(), name.as_str()]);
        }
        for (name, error) in &seen.errors {
            match error.outcome() {
                Outcome::NotSent => assert_eq!(query(&sozu, name).await.unwrap(), [""; 0]),
                Outcome::Unknown => {
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error:?}");
                }
                _ => panic!("{name}: {error:?}"),
            }
        }
    }
}
