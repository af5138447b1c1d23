//! Many connections, many tasks: each has its own answer.

use kakehi_sozu::{
    Sozu,
    command::{CountRequests, request::RequestType},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixStream;

use crate::support::{Proxy, add_cluster, binaries, query};

/// A connection takes a descriptor here and another in the proxy.
fn allow_many_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_thousand_connections_each_of_five_thousand_requests_has_its_own_answer() {
    allow_many_descriptors();
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let mut crowd = vec![];
        for _ in 0..1000 {
            crowd.push(UnixStream::connect(proxy.socket()).await.unwrap());
        }
        let size = if proxy.loses_answers() { 1 } else { 8 };
        let sozu = Sozu::builder(proxy.socket()).pool_size(size).connect().await.unwrap();
        let mut tasks = vec![];
        for task in 0..50 {
            let sozu = sozu.clone();
            tasks.push(tokio::spawn(async move {
                let name = format!("cluster-{task}");
                sozu.request(add_cluster(&name)).await.unwrap();
                for _ in 0..100 {
                    let found = query(&sozu, &name).await.unwrap();
                    assert_eq!(found, [name.as_str(), name.as_str()]);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let stats = sozu.stats();
        assert_eq!(stats.ok.count(), 5050);
        assert!(stats.opened <= 8, "{stats:?}");
        drop(crowd);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_over_as_many_connections_are_all_answered() {
    allow_many_descriptors();
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = Sozu::builder(proxy.socket()).pool_size(1000).build();
        let counts = (0..1000).map(|_| RequestType::CountRequests(CountRequests {}));
        let answers = sozu.batch(counts).await;
        assert_eq!(answers.len(), 1000);
        assert!(answers.iter().all(Result::is_ok));
        assert!(sozu.stats().opened > 900, "{:?}", sozu.stats());
    }
}
