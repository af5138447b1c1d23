//! The rules of docs/protocol.md for old and new programs, each with a typed client and a typed server.

use kakehi::{
    Command, Refusal, Router,
    channel::{Channel, Json, Request, Response},
    client::{CommandError, Connection, Event, Outcome},
    server::{Context, Failure},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::{Count, Raw};

/// One command at three times.
macro_rules! version {
    ($module:ident, $arguments:tt, $step:tt, $reply:tt) => {
        mod $module {
            use super::{Command, Deserialize, Serialize};

            #[derive(Debug, Serialize, Deserialize, Command)]
            #[command(name = "copy", progress = Step, reply = Reply, fault = u8)]
            pub(super) struct Copy $arguments

            #[derive(Debug, Default, Serialize, Deserialize)]
            pub(super) struct Step $step

            #[derive(Debug, Default, Serialize, Deserialize)]
            pub(super) struct Reply $reply
        }
    };
}

version!(old, { pub(super) from: String }, { pub(super) done: u32 }, { pub(super) files: u32 });
// Compatible changes: additional fields.
version!(
    new,
    { pub(super) from: String, #[serde(default)] pub(super) deep: bool },
    { pub(super) done: u32, pub(super) rate: f64 },
    { pub(super) files: u32, pub(super) bytes: u64 }
);
// Incompatible changes: fields that change their type, and a required argument.
version!(
    broken,
    { pub(super) from: String, pub(super) to: String },
    { pub(super) done: String },
    { pub(super) files: Vec<String> }
);

type Client = Connection<Request, Response, Json, DuplexStream>;

fn serve(router: Router<Count>) -> Client {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (peer, limits) = (kakehi::server::Peer::own(), kakehi::server::Limits::default());
    tokio::spawn(kakehi::server::serve_stream(theirs, peer, router, limits));
    Connection::new(Channel::new(ours))
}

macro_rules! server {
    ($version:ident) => {{
        let handler = async |_: Count, copy: $version::Copy, context: Context<$version::Step>| {
            context.progress_with("a step", &$version::Step::default()).await?;
            match copy.from.as_str() {
                "fail" => Err(Failure::new("no space").with_content(7)),
                _ => Ok($version::Reply::default()),
            }
        };
        serve(Router::new(Count::default()).command(handler))
    }};
}

/// The outcome, whether the progress could be read, and the fault.
async fn ask<C: Command<Fault = u8>>(
    client: &mut Client,
    copy: C,
) -> (Option<Outcome>, bool, Option<u8>) {
    let mut events = client.call(copy).send().await.unwrap();
    let mut is_read = false;
    loop {
        match events.next().await.unwrap() {
            Ok(Event::Progress { message, progress }) => {
                assert_eq!(message, "a step");
                is_read = progress.is_some();
            }
            Ok(Event::Done { .. }) => return (None, is_read, None),
            Err(error) => return (Some(error.outcome()), is_read, error.fault().copied()),
        }
    }
}

#[tokio::test]
async fn old_and_new_clients_get_on_with_old_and_new_daemons() {
    let (old, new) = (
        |from: &str| old::Copy { from: from.to_owned() },
        |from: &str| new::Copy { from: from.to_owned(), deep: true },
    );
    for mut server in [server!(old), server!(new)] {
        assert_eq!(ask(&mut server, old("x")).await, (None, true, None));
        assert_eq!(ask(&mut server, old("fail")).await, (Some(Outcome::Failed), true, Some(7)));
    }
    let mut server = server!(new);
    assert_eq!(ask(&mut server, new("x")).await, (None, true, None));
    // An older daemon ignores the new argument. Its content lacks the new fields.
    let mut server = server!(old);
    assert_eq!(ask(&mut server, new("x")).await, (Some(Outcome::Done), false, None));
    assert_eq!(ask(&mut server, new("fail")).await, (Some(Outcome::Failed), false, Some(7)));
}

#[tokio::test]
async fn a_change_that_is_not_allowed_is_met_without_a_guess() {
    let copy = |from: &str| old::Copy { from: from.to_owned() };
    // A required argument is missing: nothing was started.
    for from in ["x", "fail"] {
        let mut server = server!(broken);
        assert_eq!(ask(&mut server, copy(from)).await, (Some(Outcome::Refused), false, None));
    }
    let with_both = |from: &str| broken::Copy { from: from.to_owned(), to: String::new() };
    let mut server = server!(old);
    assert_eq!(ask(&mut server, with_both("x")).await, (Some(Outcome::Done), false, None));
    assert_eq!(ask(&mut server, with_both("fail")).await, (Some(Outcome::Failed), false, Some(7)));
}

#[tokio::test]
async fn an_unknown_command_is_refused() {
    #[derive(Serialize, Deserialize, Command)]
    struct Later;
    let mut server = server!(old);
    let error = server.call(Later).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::Unsupported));
}

/// The answer of a typed client to these frames, with `ID` as the id.
async fn answered(frames: &[&str]) -> Result<old::Reply, CommandError<old::Copy>> {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let mut client = Client::new(Channel::new(ours));
    let frames = frames
        .iter()
        .fold(String::new(), |all, frame| all + &format!("{{\"id\":\"ID\",{frame}}}\0"));
    let serving = tokio::spawn(async move {
        let mut request = [0; 1024];
        let _ = theirs.read(&mut request).await;
        theirs.write_all(frames.as_bytes()).await.unwrap();
        theirs
    });
    let answer = client.call(old::Copy { from: String::new() }).id("ID").await;
    drop(serving.await.unwrap());
    answer
}

#[tokio::test]
async fn a_client_meets_what_a_later_server_may_send() {
    const OK: &str = r#""version":0,"status":"OK","message":"m","content":{"files":3}"#;
    for progress in [
        r#""version":0,"status":"PROCESSING","message":"","content":{"later":1}"#,
        r#""version":0,"status":"PROCESSING","message":"m","content":"later""#,
        r#""version":0,"status":"PROCESSING","message":"m","later":[{}]"#,
    ] {
        assert_eq!(answered(&[progress, OK]).await.unwrap().files, 3, "{progress}");
    }
    for (last, outcome) in [
        (r#""version":0,"status":"OK","message":"m","content":"later""#, Outcome::Done),
        (r#""version":0,"status":"OK","message":"m""#, Outcome::Done),
        (r#""version":0,"status":"ERROR","message":"m","content":"later""#, Outcome::Failed),
        (r#""version":0,"status":"ERROR","message":"m","refused":"later""#, Outcome::Refused),
        (r#""version":0,"status":"LATER","message":"m""#, Outcome::Unknown),
        (r#""version":1,"status":"OK","message":"m","content":{"files":3}"#, Outcome::Unknown),
        (r#""version":0,"status":"OK","message":"m","refused":"busy""#, Outcome::Unknown),
        (r#""version":0,"status":"OK","message":"m","message":"n""#, Outcome::Unknown),
        (r#""version":0,"status":"OK","message":"m","content":{]"#, Outcome::Unknown),
    ] {
        let error = answered(&[last]).await.unwrap_err();
        assert_eq!(error.outcome(), outcome, "{last}: {error}");
    }
    let refused = r#""version":0,"status":"ERROR","message":"m","refused":"later""#;
    assert_eq!(answered(&[refused]).await.unwrap_err().refusal(), Some(Refusal::Other));
}

#[tokio::test]
async fn a_server_meets_what_a_later_client_may_send() {
    let handler = async |_: Count, copy: old::Copy, _: Context<old::Step>| {
        if copy.from == "x" { Ok(old::Reply::default()) } else { Err(copy.from) }
    };
    let mut client = Raw::of(Router::new(Count::default()).command(handler), 0);
    for request in [
        r#"{"id":"a","version":0,"later":{"x":[1]},"command":{"copy":{"from":"x"}}}"#,
        r#"{"id":"a","version":0,"command":{"copy":{"from":"x","later":1}},"timeout_ms":null}"#,
    ] {
        client.send(request).await;
        assert_eq!(client.last().await["content"], json!({ "files": 0 }), "{request}");
    }
    // The connection goes on after each refusal.
    for (request, refused) in [
        (r#"{"id":"a","id":"a","version":0,"command":{"copy":{"from":"x"}}}"#, "malformed"),
        (r#"{"id":"a","version":1,"command":{"copy":{"from":"x"}}}"#, "malformed"),
        (r#"{"id":"a","version":0,"command":{"later":{"from":"x"}}}"#, "unsupported"),
        (r#"{"id":"a","version":0,"command":"later"}"#, "unsupported"),
    ] {
        client.send(request).await;
        let answer = client.last().await;
        assert_eq!(answer["refused"], refused, "{answer}");
    }
}
