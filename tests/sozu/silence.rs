//! Answers that come late or never, and requests that Sōzu could not survive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kakehi_sozu::{
    ErrorKind, Outcome, Sozu,
    command::{
        self, CountRequests, ReturnListenSockets, request::RequestType,
        response_content::ContentType,
    },
};
use rustix::process::Signal;

use crate::support::{Proxy, add_cluster, binaries, cluster, query, signal, status, workers};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "current_thread")]
async fn a_worker_that_hangs_holds_up_no_other_task_and_no_later_request() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let worker = workers(&sozu.request(status()).await.unwrap())[0];
        signal(worker.pid, Signal::STOP);

        let ticks = Arc::new(AtomicU64::new(0));
        let ticking = tokio::spawn({
            let ticks = Arc::clone(&ticks);
            async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    ticks.fetch_add(1, Relaxed);
                }
            }
        });
        let start = Instant::now();
        let error = sozu.request(status()).deadline(SECOND).await.unwrap_err();
        assert!(start.elapsed() >= SECOND);
        assert!(
            error.kind() == ErrorKind::Deadline && error.outcome() == Outcome::Unknown,
            "{error:?}"
        );
        assert!(ticks.load(Relaxed) > 100, "the runtime was blocked");
        ticking.abort();

        // Sōzu has the late answer still to give.
        let answer = sozu.request(RequestType::CountRequests(CountRequests {})).await.unwrap();
        assert!(matches!(answer.content, Some(ContentType::RequestCounts(_))), "{answer:?}");
        signal(worker.pid, Signal::CONT);
        for _ in 0..20 {
            assert_eq!(workers(&sozu.request(status()).await.unwrap()).len(), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_answered_ends_at_the_deadline_with_the_outcome_unknown() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let empty = command::Request { request_type: None };
        let launch = RequestType::LaunchWorker("tag".to_owned()).into();
        let sockets = RequestType::ReturnListenSockets(ReturnListenSockets {}).into();
        for request in [empty, launch, sockets] {
            let patience = Duration::from_millis(300);
            let error = sozu.request(request.clone()).deadline(patience).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Deadline, "{request:?}: {error:?}");
            assert_eq!(error.outcome(), Outcome::Unknown, "{request:?}: {error:?}");
            assert_eq!(workers(&sozu.request(status()).await.unwrap()).len(), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_given_up_leaves_its_answer_to_nobody() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = Sozu::builder(proxy.socket()).pool_size(1).connect().await.unwrap();
        for name in ["blue", "green"] {
            sozu.request(add_cluster(name)).await.unwrap();
        }
        for _ in 0..30 {
            let blue = RequestType::QueryClusterById("blue".to_owned());
            drop(sozu.request(blue).send().await.unwrap());
            // Sōzu itself may lose a worker's answer while another request is under way there.
            let answers = query(&sozu, "green").await.unwrap();
            assert!(
                answers.len() <= 2 && answers.iter().all(|name| name == "green"),
                "{answers:?}"
            );
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(query(&sozu, "green").await.unwrap(), ["green", "green"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_would_kill_the_workers_is_refused_before_it_is_sent() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let before = workers(&sozu.request(status()).await.unwrap());
        // 8 bytes of length; a tag and a length for each message and string around the name.
        let frame = |size: usize| {
            let around = 8 + 4 + 4 + 2 * 3;
            let mut cluster = cluster(&"x".repeat(size - around));
            cluster.load_balancing = 0;
            RequestType::AddCluster(cluster)
        };
        for size in [2_000_000 - 1023, 2_000_000, 2_000_001, 3_000_000] {
            let error = sozu.request(frame(size)).await.unwrap_err();
            assert!(
                error.kind() == ErrorKind::TooLarge && error.outcome() == Outcome::NotSent,
                "{size}: {error:?}"
            );
        }
        assert_eq!(workers(&sozu.request(status()).await.unwrap()), before);

        let answer = sozu.request(frame(2_000_000 - 1024)).await.unwrap();
        assert_eq!(answer.status, kakehi_sozu::Status::Ok);
        assert_eq!(workers(&sozu.request(status()).await.unwrap()), before, "they are alive");
    }
}
