//! Running requests: listed, cancelled and followed by other requests.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kakehi::{
    Command, Refusal, Router,
    client::{Event, Outcome},
    command::control::{Attach, Cancel, Running, RunningRequest},
    server::{Access, Answer, Context, Failure, FollowError, Followed, Limits, Peer, serve},
    testing::{self, TestServer},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{Count, Raw, Step, root};

const SECOND: Duration = Duration::from_secs(1);

/// Takes a step each second.
#[derive(Clone, Serialize, Deserialize, Command)]
#[command(progress = Step, reply = u32, fault = u32)]
struct Walk {
    steps: u32,
    #[serde(default)]
    fails: bool,
    /// Goes on without its client.
    #[serde(default)]
    detached: bool,
    /// Bytes in each message.
    #[serde(default)]
    size: usize,
}

const WALK: Walk = Walk { steps: 10, fails: false, detached: false, size: 0 };

async fn walk(
    count: Count,
    walk: Walk,
    context: Context<Step>,
) -> Result<Answer<u32>, Failure<u32>> {
    if walk.detached {
        context.detach_from_client();
    }
    let total = walk.steps;
    for done in 0..total {
        let message = format!("step {done}{}", "x".repeat(walk.size));
        context.progress_with(message, &Step { done, total }).await?;
        sleep(SECOND).await;
    }
    count.fetch_add(1, Ordering::SeqCst);
    if walk.fails {
        return Err(Failure::new("tired").with_content(total));
    }
    Ok(Answer::new("arrived").with_content(total))
}

fn router() -> Router<Count> {
    Router::new(Count::default()).command(walk).control(root)
}

async fn running(server: &TestServer, uid: u32) -> Vec<RunningRequest> {
    server.as_uid(uid).call(Running).await.unwrap().running
}

/// The messages of the progress, and the end.
type Walked = (Vec<String>, Result<u32, (Outcome, String)>);

/// Starts a walk in a task of its own, which returns what its client gets.
fn start(server: &TestServer, uid: u32, id: &str, walk: Walk) -> JoinHandle<Walked> {
    let (mut client, id) = (server.as_uid(uid), id.to_owned());
    tokio::spawn(async move {
        let mut events = match client.call(walk).id(id).timeout(None).send().await {
            Ok(events) => events,
            Err(error) => return (vec![], Err((error.outcome(), error.to_string()))),
        };
        let mut messages = vec![];
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Progress { message, .. }) => messages.push(message),
                Ok(Event::Done { reply, .. }) => return (messages, Ok(reply)),
                Err(error) => return (messages, Err((error.outcome(), error.to_string()))),
            }
        }
        panic!("no end")
    })
}

#[tokio::test(start_paused = true)]
async fn each_caller_sees_its_own_requests_and_some_see_all() {
    let server = testing::connect(router());
    let _walks = [("a", 1), ("b", 2), ("b", 2)].map(|(id, uid)| start(&server, uid, id, WALK));
    sleep(3 * SECOND / 2).await;
    let all = running(&server, 0).await;
    let shown: Vec<_> =
        all.iter().map(|of| (of.id.as_str(), of.uid, of.command.as_str())).collect();
    assert_eq!(shown, [("a", Some(1), "walk"), ("b", Some(2), "walk"), ("b", Some(2), "walk")]);
    assert!(all.iter().all(|of| of.age_ms == 1500 && of.identity.is_none()), "{all:?}");
    let mut runs: Vec<_> = all.iter().map(|of| &of.run).collect();
    runs.dedup();
    assert_eq!(runs.len(), 3, "run ids are unique: {all:?}");
    assert_eq!(running(&server, 2).await, all[1..]);
    assert_eq!(running(&server, 3).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_cancelled_by_its_owner_and_by_those_who_may() {
    let server = testing::connect(router());
    let (first, second) = (start(&server, 1, "a", WALK), start(&server, 2, "b", WALK));
    sleep(SECOND / 2).await;
    let run = running(&server, 2).await[0].run.clone();
    let mut anna = server.as_uid(1);
    for id in ["b", &run] {
        let error = anna.call(Cancel { id: id.to_owned() }).await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Denied), "{error}");
    }
    let cancelled = anna.call(Cancel { id: "a".to_owned() }).await.unwrap().cancelled;
    assert_eq!((cancelled.len(), &*cancelled[0].id), (1, "a"));
    let (messages, end) = first.await.unwrap();
    let expected = "the server answered ERROR: cancelled by uid 1".to_owned();
    assert_eq!((messages, end), (vec!["step 0".to_owned()], Err((Outcome::Failed, expected))));
    let error = anna.call(Cancel { id: "a".to_owned() }).await.unwrap_err();
    assert_eq!(error.fault().unwrap().reason, "no_such_run", "{error}");

    server.as_uid(0).call(Cancel { id: run }).await.unwrap();
    let (_, end) = second.await.unwrap();
    assert!(end.unwrap_err().1.ends_with("cancelled by uid 0"));
    assert_eq!(server.handle().stats().cancelled, 2);
    assert_eq!(running(&server, 0).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_two_requests_is_ambiguous() {
    let server = testing::connect(router());
    let walks = [1, 1, 2].map(|uid| start(&server, uid, "a", WALK));
    sleep(SECOND / 2).await;
    let runs = running(&server, 1).await;
    let mut anna = server.as_uid(1);
    let error = anna.call(Cancel { id: "a".to_owned() }).await.unwrap_err();
    let expected = format!("\"a\" is ambiguous: it stands for {}, {}", runs[0].run, runs[1].run);
    assert_eq!(error.to_string(), format!("the server answered ERROR: {expected}"));
    anna.call(Cancel { id: runs[1].run.clone() }).await.unwrap();
    anna.call(Cancel { id: "a".to_owned() }).await.expect("it is no longer ambiguous");
    let [first, second, third] = walks;
    assert!(first.await.unwrap().1.is_err() && second.await.unwrap().1.is_err());
    assert_eq!(third.await.unwrap().1, Ok(10), "the request of another caller goes on");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_may_clean_up() {
    let cleaned = Count::default();
    let handler = {
        let cleaned = Arc::clone(&cleaned);
        async move |_: Count, _: Walk, context: Context<Step>| {
            context.cancellation().cancelled().await;
            sleep(SECOND).await;
            cleaned.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(7)
        }
    };
    let server = testing::connect(Router::new(Count::default()).command(handler).control(root));
    let walk = start(&server, 1, "a", WALK);
    sleep(SECOND).await;
    let begun = Instant::now();
    server.as_uid(1).call(Cancel { id: "a".to_owned() }).await.unwrap();
    assert!(walk.await.unwrap().1.unwrap_err().1.ends_with("cancelled by uid 1"));
    assert!(begun.elapsed() < SECOND / 10, "the client does not wait for the cleanup");
    sleep(2 * SECOND).await;
    assert_eq!(cleaned.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn followers_see_the_progress_from_then_on_and_the_end() {
    let server = testing::connect(router());
    for (fails, refused) in [(false, None), (true, Some("tired"))] {
        let walk = start(&server, 1, "a", Walk { steps: 4, fails, ..WALK });
        sleep(3 * SECOND / 2).await;
        let followers = [0, 1].map(|uid| {
            let mut client = server.as_uid(uid);
            tokio::spawn(async move {
                let attach = client.call(Attach { id: "a".to_owned() });
                let mut events = attach.send().await.unwrap();
                let (mut steps, mut end) = (vec![], None);
                while let Some(event) = events.next().await {
                    match event {
                        Ok(Event::Progress { message, progress }) => {
                            let step: Step = serde_json::from_str(progress.unwrap().get()).unwrap();
                            steps.push((message, step.done));
                        }
                        Ok(Event::Done { message, reply }) => {
                            end = Some(format!("{message} {}", reply.unwrap().get()));
                        }
                        Err(error) => {
                            end = Some(format!("{} {}", error, error.fault().unwrap().get()));
                        }
                    }
                }
                (steps, end.unwrap())
            })
        });
        for follower in followers {
            let (steps, end) = follower.await.unwrap();
            assert_eq!(steps, [("step 2".to_owned(), 2), ("step 3".to_owned(), 3)]);
            match refused {
                None => assert_eq!(end, "arrived 4"),
                Some(why) => assert_eq!(end, format!("the server answered ERROR: {why} 4")),
            }
        }
        let (messages, end) = walk.await.unwrap();
        assert_eq!((messages.len(), end.is_ok()), (4, !fails));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_client_has_left_is_still_followed() {
    let count = Count::default();
    let router = Router::new(Arc::clone(&count)).command(walk).control(root);
    let server = testing::connect(router);
    let walk = start(&server, 1, "a", Walk { steps: 5, detached: true, ..WALK });
    sleep(3 * SECOND / 2).await;
    let mut client = server.as_uid(1);
    let mut events = client.call(Attach { id: "a".to_owned() }).send().await.unwrap();
    sleep(SECOND / 4).await;
    walk.abort();
    let mut messages = vec![];
    let reply = loop {
        match events.next().await.unwrap().unwrap() {
            Event::Progress { message, .. } => messages.push(message),
            Event::Done { reply, .. } => break reply.unwrap(),
        }
    };
    assert_eq!((messages.join(" "), reply.get()), ("step 2 step 3 step 4".to_owned(), "5"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_ends_for_its_followers_too() {
    let server = testing::connect(router());
    let _walk = start(&server, 1, "a", WALK);
    sleep(SECOND).await;
    let mut client = server.as_uid(1);
    let following =
        tokio::spawn(async move { client.call(Attach { id: "a".to_owned() }).await.unwrap_err() });
    sleep(SECOND).await;
    server.as_uid(1).call(Cancel { id: "a".to_owned() }).await.unwrap();
    let error = following.await.unwrap();
    assert_eq!(error.to_string(), "the server answered ERROR: cancelled by uid 1");

    // A client that leaves ends its request.
    let walk = start(&server, 1, "b", WALK);
    sleep(SECOND).await;
    let mut client = server.as_uid(1);
    let following =
        tokio::spawn(async move { client.call(Attach { id: "b".to_owned() }).await.unwrap_err() });
    sleep(SECOND).await;
    walk.abort();
    let error = following.await.unwrap();
    assert!(error.to_string().ends_with("the client disconnected"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_misses_responses_and_slows_nothing_down() {
    const SIZE: usize = 100 * 1024;
    let server = testing::connect(router());
    let handle = server.handle();
    let walk = start(&server, 1, "a", Walk { size: SIZE, ..WALK });
    sleep(SECOND / 2).await;
    let run = handle.running()[0].run.clone();
    let (mut slow, mut fast) = (handle.follow(&run).unwrap(), handle.follow(&run).unwrap());
    let reading = tokio::spawn(async move {
        let mut responses = 0;
        while let Some(Followed::Response(_)) = fast.next().await {
            responses += 1;
        }
        responses
    });
    let begun = Instant::now();
    let (messages, end) = walk.await.unwrap();
    assert_eq!((messages.len(), end), (10, Ok(10)));
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(reading.await.unwrap(), 10, "nine steps and the end");
    assert_eq!(slow.next().await, Some(Followed::Missed(7)));
    let mut kept = vec![];
    while let Some(Followed::Response(frame)) = slow.next().await {
        kept.push(frame);
    }
    assert_eq!(kept.len(), 3, "two steps and the end");
    assert!(kept[2].ends_with(b"\"content\":10}\0"), "{:?}", String::from_utf8_lossy(&kept[2]));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_followers_is_bounded() {
    let server = testing::connect(router());
    let handle = server.handle();
    let _walk = start(&server, 1, "a", WALK);
    sleep(SECOND / 2).await;
    let run = handle.running()[0].run.clone();
    let followers: Vec<_> = (0..16).map(|_| handle.follow(&run).unwrap()).collect();
    assert_eq!(handle.follow(&run).unwrap_err(), FollowError::TooManyFollowers);
    let error = server.as_uid(1).call(Attach { id: run.clone() }).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Busy));
    drop(followers);
    handle.follow(&run).expect("one that was dropped does not count");
}

#[tokio::test(start_paused = true)]
async fn a_guard_may_be_async() {
    async fn nobody(_: Peer) -> Result<(), &'static str> {
        sleep(SECOND).await;
        Err("nobody")
    }
    let router = Router::new(Count::default()).command(walk).control(nobody);
    let server = testing::connect(router);
    let _walks = [1, 2].map(|uid| start(&server, uid, "a", WALK));
    sleep(SECOND).await;
    assert_eq!(running(&server, 0).await, []);
    assert_eq!(running(&server, 1).await.len(), 1);
}

#[tokio::test]
async fn the_commands_are_refused_without_control_and_with_wrong_arguments() {
    let without = Router::new(Count::default()).command(walk);
    let mut client = Raw::of(without, 0);
    for command in [r#""kakehi.running""#, r#"{"kakehi.cancel":{"id":"a"}}"#] {
        assert_eq!(client.ask(command).await["refused"], "unsupported", "{command}");
    }
    let mut client = Raw::of(router(), 0);
    let list = json!({ "running": [] });
    assert_eq!(
        client.ask(r#""kakehi.running""#).await["content"],
        list,
        "it is not in its own list"
    );
    for (command, message) in [
        (r#""kakehi.cancel""#, "command `kakehi.cancel`: missing field `id`"),
        (r#"{"kakehi.attach":{"id":7}}"#, "command `kakehi.attach`: invalid type: integer `7`"),
    ] {
        let answer = client.ask(command).await;
        assert_eq!(answer["refused"], "malformed", "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(message), "{answer}");
    }
    let answer = client.ask(r#"{"kakehi.attach":{"id":"a"}}"#).await;
    assert_eq!(answer["content"], json!({ "reason": "no_such_run" }));
    let answer = client.ask(r#"{"kakehi.cancel":{"id":"99-1"}}"#).await;
    assert_eq!(answer["message"], "no running request has the id \"99-1\"");
}

#[tokio::test(start_paused = true)]
async fn long_ids_do_not_hide_the_list_from_others() {
    let server = testing::connect(router());
    let long = "筧".repeat(300_000);
    let walks: Vec<_> = (0..20).map(|_| start(&server, 1, &long, WALK)).collect();
    sleep(SECOND / 2).await;
    let all = running(&server, 0).await;
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|request| request.id == format!("{}…", "筧".repeat(85))));
    let mut root = server.as_uid(0);
    let error = root.call(Cancel { id: long }).await.unwrap_err();
    assert!(error.to_string().contains("no running request"));
    for request in all {
        root.call(Cancel { id: request.run }).await.unwrap();
    }
    for walk in walks {
        assert!(walk.await.unwrap().1.unwrap_err().1.ends_with("cancelled by uid 0"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_ends_with_the_number_of_the_rest() {
    let limits = Limits { connections: 400, connections_per_uid: 400, ..Limits::default() };
    let server = testing::connect_with(|listener| {
        serve(listener, router())
            .limits(limits)
            .access(Access { everybody: true, ..Access::default() })
    });
    for _ in 0..300 {
        drop(start(&server, 1, "a", WALK));
        sleep(SECOND / 1000).await;
    }
    sleep(SECOND / 2).await;
    let list = server.as_uid(0).call(Running).await.unwrap();
    assert_eq!((list.running.len(), list.more), (256, 44));
    assert_eq!(server.handle().running().len(), 300);
}
