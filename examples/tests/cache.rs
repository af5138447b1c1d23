//! The whole daemon in memory, in paused time.

use std::time::Duration;

use cache::{Drain, Purge, Report, Stats, Step, Warm, daemon};
use kakehi::client::{ErrorKind, Event};
use kakehi::{Refusal, server::Handle, testing};

fn server() -> testing::TestServer {
    testing::connect(daemon::router(daemon::Cache::new(Handle::default())))
}

fn warm(limit: u32) -> Warm {
    Warm { prefix: "users/".to_owned(), limit: Some(limit) }
}

#[tokio::test(start_paused = true)]
async fn only_root_may_purge_and_drain() {
    let server = server();
    let (mut anna, mut root) = (server.as_uid(1000), server.as_uid(0));
    let purge = Purge { prefix: String::new() };
    let error = anna.call(purge.clone()).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Denied));
    assert_eq!(error.to_string(), "the server refused: uid 1000 is not root");
    assert_eq!(anna.call(Drain).await.unwrap_err().refusal(), Some(Refusal::Denied));
    anna.call(warm(3)).await.unwrap();
    assert_eq!(root.call(purge).await.unwrap(), Report { keys: 3 });
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cancels_half_way() {
    let server = server();
    let mut client = server.as_uid(1000);
    let error = client.call(warm(10)).deadline(Duration::from_millis(900)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(server.as_uid(1000).call(Stats).await.unwrap(), Report { keys: 4 });
}

#[tokio::test(start_paused = true)]
async fn warm_tells_each_step() {
    let server = server();
    let mut client = server.as_uid(1000);
    let mut events = client.call(warm(1)).send().await.unwrap();
    let Some(Ok(Event::Progress { progress, .. })) = events.next().await else { panic!() };
    assert_eq!(progress, Some(Step { done: 0, total: 1 }));
}
