//! The handler that gets each request, and the refusal of requests that have no handler.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kakehi::{
    Command, Refusal, Router,
    server::{Context, Failure, Peer},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{Count, Purge, Raw, Stats, root, router};

#[tokio::test]
async fn a_command_gets_its_own_progress_and_reply() {
    let mut client = Raw::of(router(), 0);
    client.send(r#"{"id":"a","version":0,"command":{"warm":{"prefix":"x","limit":1}}}"#).await;
    let progress = json!({ "id": "a", "version": 0, "status": "PROCESSING", "message": "x0",
        "content": { "done": 0, "total": 1 } });
    assert_eq!(client.next().await, progress);
    let answer = json!({ "id": "a", "version": 0, "status": "OK", "message": "",
        "content": { "loaded": 1, "note": null } });
    assert_eq!(client.next().await, answer);
}

#[tokio::test]
async fn a_fault_is_the_content_of_an_error() {
    let answer = Raw::of(router(), 0).ask(r#"{"warm":{"prefix":"full"}}"#).await;
    let expected = json!({ "id": "a", "version": 0, "status": "ERROR",
        "message": "the disk is full", "content": { "free": 7 } });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn an_empty_reply_is_no_content() {
    let answer = Raw::of(router(), 0).ask(r#""purge""#).await;
    assert_eq!(answer, json!({ "id": "a", "version": 0, "status": "OK", "message": "purged" }));
}

#[tokio::test]
async fn a_bare_word_and_an_empty_object_are_the_same() {
    let mut client = Raw::of(router(), 0);
    for command in [r#""stats""#, r#"{"stats":{}}"#, r#"{"stats":{"of_later":1}}"#] {
        assert_eq!(client.ask(command).await["message"], "0 requests", "{command}");
    }
    for command in [r#""purge""#, r#"{"purge":{}}"#, r#"{"purge":{"of_later":1}}"#] {
        assert_eq!(client.ask(command).await["message"], "purged", "{command}");
    }
}

#[tokio::test]
async fn requests_are_understood_however_they_are_written() {
    let mut client = Raw::of(router(), 0);
    for request in [
        r#"{"id":"a","version":0,"command":{"stats":{"from":3}}}"#,
        r#"{"command":{"stats":{"from":3}},"version":0,"id":"a"}"#,
        r#" { "id" : "a", "version" : 0, "command" : { "stats" : { "from" : 3 } } } "#,
        r#"{"id":"a","version":0,"command":{"st\u0061ts":{"fr\u006fm":3}}}"#,
        r#"{"id":"a","version":0,"c\u006fmmand":{"stats":{"from":3}}}"#,
        r#"{"unknown":{"command":{"warm":1}},"id":"a","version":0,"command":{"stats":{"from":3}}}"#,
        r#"{"unknown":"\"command\":{\"warm\"","id":"a","version":0,"command":{"stats":{"from":3}}}"#,
    ] {
        client.send(request).await;
        let answer = client.last().await;
        assert_eq!((&answer["id"], &answer["content"]), (&json!("a"), &json!(3)), "{request}");
    }
}

#[tokio::test]
async fn an_unknown_command_is_refused_apart_from_wrong_arguments() {
    let mut client = Raw::of(router(), 0);
    for (command, refused, message) in [
        (r#""reload""#, "unsupported", "there is no command `reload`"),
        (r#"{"reload":{"now":true}}"#, "unsupported", "there is no command `reload`"),
        (r#""kakehi.later""#, "unsupported", "there is no command `kakehi.later`"),
        (r#""wa\nrm""#, "unsupported", r"there is no command `wa\nrm`"),
        ("null", "unsupported", "the request names no command"),
        (r#""warm""#, "malformed", "command `warm`: missing field `prefix`"),
        (r#"{"warm":{}}"#, "malformed", "command `warm`: missing field `prefix`"),
        (
            r#"{"warm":{"prefix":"x","limit":"y"}}"#,
            "malformed",
            "command `warm`: field `limit`: invalid type: string \"y\", expected u32",
        ),
        (
            r#"{"no-schema":{"items":[null,7]}}"#,
            "malformed",
            "command `no-schema`: field `items[1]`: invalid type: integer `7`, expected unit",
        ),
        ("7", "malformed", "a command, which is a word or an object with one key"),
        ("{}", "malformed", "a command, which is a word or an object with one key"),
        (r#"{"warm":{},"stats":{}}"#, "malformed", "an object with one key; it has more"),
    ] {
        let answer = client.ask(command).await;
        assert_eq!(answer["refused"], refused, "{command}: {answer}");
        assert_eq!(answer["id"], "a", "{command}: {answer}");
        let found = answer["message"].as_str().unwrap();
        assert!(found.contains(message), "{command}: {found}");
    }
}

#[tokio::test]
async fn wrong_arguments_are_located_in_the_request() {
    let answer = Raw::of(router(), 0).ask(r#"{"warm":{"prefix":7}}"#).await;
    let message = answer["message"].as_str().unwrap();
    assert!(message.ends_with("at line 1 column 51"), "{message}");
}

#[tokio::test]
async fn a_guard_refuses_before_the_handler_runs() {
    let answer = Raw::of(router(), 1000).ask(r#""purge""#).await;
    assert_eq!(answer["refused"], "denied");
    assert_eq!(answer["message"], "uid 1000 is not root");
}

#[derive(Serialize, Deserialize, Command)]
struct Slow;

#[tokio::test(start_paused = true)]
async fn an_async_guard_is_awaited_inside_of_the_deadline() {
    async fn guard(peer: Peer) -> Result<(), Failure> {
        sleep(Duration::from_secs(5)).await;
        match peer.uid {
            0 => Ok(()),
            _ => Err(Failure::refused(Refusal::Busy, "later")),
        }
    }
    async fn slow(_: Count, _: Slow, _: Context<()>) -> Result<(), Failure> {
        Ok(())
    }
    let router = || Router::new(Count::default()).command_if(guard, slow);
    assert_eq!(Raw::of(router(), 0).ask(r#""slow""#).await["status"], "OK");
    assert_eq!(Raw::of(router(), 1).ask(r#""slow""#).await["refused"], "busy");
    let mut client = Raw::of(router(), 0);
    client.send(r#"{"id":"a","version":0,"deadline_ms":1000,"command":"slow"}"#).await;
    assert_eq!(client.last().await["message"], "cancelled: the deadline has passed");
}

#[tokio::test]
async fn a_closure_that_captures_is_a_handler() {
    let seen = Count::default();
    let handler = {
        let seen = Arc::clone(&seen);
        async move |_: Count, stats: Stats, _: Context<()>| {
            seen.store(stats.from, Ordering::SeqCst);
            if stats.from == 0 { Err("nothing") } else { Ok(stats.from) }
        }
    };
    let router = Router::new(Count::default()).command(handler);
    assert_eq!(Raw::of(router, 0).ask(r#"{"stats":{"from":4}}"#).await["content"], 4);
    assert_eq!(seen.load(Ordering::SeqCst), 4);
}

#[derive(Serialize, Deserialize)]
struct Reserved;
impl Command for Reserved {
    const NAME: &'static str = "kakehi.describe";
    type Progress = ();
    type Reply = ();
    type Fault = ();
}

#[test]
fn a_name_is_taken_once_and_only_if_it_is_valid() {
    async fn purge(_: Count, _: Purge, _: Context<()>) -> Result<(), Failure> {
        Ok(())
    }
    async fn reserved(_: Count, _: Reserved, _: Context<()>) -> Result<(), Failure> {
        Ok(())
    }
    let twice = || Router::new(Count::default()).command(purge).command_if(root, purge);
    assert!(catch_unwind(AssertUnwindSafe(twice)).is_err());

    let reserved = || Router::new(Count::default()).command(reserved);
    assert!(catch_unwind(AssertUnwindSafe(reserved)).is_err());
}
