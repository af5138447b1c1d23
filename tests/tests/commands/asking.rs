//! Typed commands from the client's side.

use std::time::Duration;

use futures::StreamExt;
use kakehi::{
    Command, Describe, Refusal, Router,
    client::{Client, ErrorKind, Event, Outcome},
    server::{Context, Failure, Limits, Socket, serve},
    testing,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::support::{Count, Full, Purge, Report, Stats, Step, Warm, router};

fn warm(prefix: &str, limit: u32) -> Warm {
    Warm { prefix: prefix.to_owned(), limit: Some(limit) }
}

#[tokio::test(start_paused = true)]
async fn a_call_returns_the_reply_alone() {
    let mut client = testing::connect(router()).as_uid(1000);
    let report = client.call(warm("x", 2)).await.unwrap();
    assert_eq!(report, Report { loaded: 2, note: None });
    assert_eq!(client.call(Stats { from: 4 }).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_each_progress_and_then_the_reply() {
    let mut client = testing::connect(router()).as_uid(1000);
    let events: Vec<_> = client.call(warm("x", 1)).send().await.unwrap().collect().await;
    let [Ok(Event::Progress { message, progress }), Ok(Event::Done { reply, .. })] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((message.as_str(), progress), ("x0", &Some(Step { done: 0, total: 1 })));
    assert_eq!(reply, &Report { loaded: 1, note: None });
}

#[tokio::test(start_paused = true)]
async fn a_fault_and_a_refusal_are_errors() {
    let mut client = testing::connect(router()).as_uid(1000);
    let error = client.call(warm("full", 0)).await.unwrap_err();
    assert_eq!((error.outcome(), error.fault()), (Outcome::Failed, Some(&Full { free: 7 })));
    assert_eq!(error.to_string(), "the server answered ERROR: the disk is full");
    let error = client.call(Purge).await.unwrap_err();
    assert_eq!((error.outcome(), error.refusal()), (Outcome::Refused, Some(Refusal::Denied)));
    let events: Vec<_> = client.call(warm("full", 0)).send().await.unwrap().collect().await;
    let [Err(error)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error.fault(), Some(&Full { free: 7 }));
}

#[tokio::test(start_paused = true)]
async fn a_description_is_a_typed_command_too() {
    let mut client = testing::connect(router()).as_uid(1000);
    let description = client.call(Describe).await.unwrap();
    assert_eq!(description.name, "cached");
    let handler = async |_: kakehi::Request<u8>, _: Context| Err::<(), _>("no");
    let mut client = testing::connect(handler).as_uid(0);
    assert_eq!(client.call(Describe).await.unwrap(), kakehi::Description::default());
}

/// The commands of a daemon that is newer than the client.
mod newer {
    use super::{Command, Deserialize, Serialize};

    #[derive(Serialize, Deserialize, Command)]
    #[command(name = "warm", progress = Step, reply = Report, fault = String)]
    pub(super) struct Warm {
        pub(super) prefix: String,
        #[serde(default)]
        pub(super) parallel: bool,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) enum Step {
        Started,
        Loaded { key: String },
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Report {
        pub(super) keys: Vec<String>,
    }
}

async fn newer(
    _: Count,
    warm: newer::Warm,
    context: Context<newer::Step>,
) -> Result<newer::Report, Failure<String>> {
    assert!(!warm.parallel, "an absent argument has its default");
    context.progress_with("started", &newer::Step::Started).await?;
    context.progress_with("", &newer::Step::Loaded { key: "a".to_owned() }).await?;
    match warm.prefix.as_str() {
        "fail" => Err(Failure::new("the disk is full").with_content("sda".to_owned())),
        _ => Ok(newer::Report { keys: vec![] }),
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_client_gets_on_with_a_newer_daemon() {
    let mut client = testing::connect(Router::new(Count::default()).command(newer)).as_uid(0);
    let error = client.call(warm("x", 1)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Done, "it was done: {error}");
    let error = client.call(warm("fail", 1)).await.unwrap_err();
    assert_eq!((error.outcome(), error.fault()), (Outcome::Failed, None));
    assert_eq!(error.to_string(), "the server answered ERROR: the disk is full");
    let events: Vec<_> = client.call(warm("x", 1)).send().await.unwrap().collect().await;
    let [Ok(Event::Progress { progress: None, message }), Ok(Event::Progress { .. }), Err(_)] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(message, "started");
    let error = client.call(Stats { from: 0 }).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Unsupported), "nothing was started");
}

#[tokio::test(start_paused = true)]
async fn a_newer_client_gets_on_with_an_older_daemon() {
    let mut client = testing::connect(router()).as_uid(0);
    let newer = |prefix: &str| newer::Warm { prefix: prefix.to_owned(), parallel: true };
    assert!(client.call(newer("x")).await.unwrap_err().outcome() == Outcome::Done);
    let error = client.call(newer("full")).await.unwrap_err();
    assert_eq!((error.outcome(), error.fault()), (Outcome::Failed, None));
}

#[derive(Serialize, Deserialize, Command)]
struct Sleep {
    seconds: u64,
}

fn sleeper() -> Router<()> {
    let handler = async |(), sleeping: Sleep, _: Context<()>| {
        sleep(Duration::from_secs(sleeping.seconds)).await;
        if sleeping.seconds == 0 { Err("not tired") } else { Ok(()) }
    };
    Router::new(()).command(handler)
}

#[tokio::test(start_paused = true)]
async fn keep_alives_hold_a_slow_call_and_a_deadline_ends_it() {
    let mut client = testing::connect(sleeper()).as_uid(0);
    let timeout = Duration::from_secs(1);
    client.call(Sleep { seconds: 60 }).timeout(timeout).await.unwrap();
    let start = Instant::now();
    let error = client.call(Sleep { seconds: 60 }).deadline(timeout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_server_hold_in_memory() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = testing::connect_with(|listener| serve(listener, sleeper()).limits(limits));
    let own = kakehi::server::Peer::own();
    let (mut first, mut second) = (server.as_peer(own.clone()), server.as_peer(own));
    first.call(Sleep { seconds: 1 }).await.unwrap();
    let error = second.call(Sleep { seconds: 1 }).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Busy));
    let mut stranger = server.as_uid(4242);
    let error = stranger.call(Sleep { seconds: 1 }).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Denied), "by the default access");
    server.handle().shutdown();
}

#[tokio::test]
async fn one_pool_serves_commands_of_all_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    tokio::spawn(serve(Socket::bind(&path).listen().unwrap(), router()).into_future());
    let client = Client::connect(&path).await.unwrap();
    client.call(warm("x", 1)).await.unwrap();
    client.call(Stats { from: 0 }).await.unwrap();
    client.call(Describe).await.unwrap();
    // Only root may purge; a refusal does not cost the connection either.
    let purged = client.request("purge").await;
    assert_eq!(purged.is_ok(), rustix::process::geteuid().is_root(), "{purged:?}");
    assert_eq!(client.stats().opened, 1);
}
