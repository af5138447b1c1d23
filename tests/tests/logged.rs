//! The log lines of a server about its requests.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use kakehi::{
    Command, Refusal, Request, Router,
    server::{Access, Context, Failure, Handler, Protocol, serve},
    testing,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The log of a server at the level info, which gets these commands one after the other from uid 1000.
/// It denies the command `secret`.
fn log<C, F, H>(handler: H, commands: &[Value]) -> Vec<String>
where
    C: std::fmt::Debug + Send + 'static,
    F: Protocol<C>,
    H: Handler<C, F>,
{
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let server = testing::connect_with(|listener| {
                serve(listener, handler)
                    .access(Access { everybody: true, ..Access::default() })
                    .authorize(|_, request| {
                        let is_secret = request.id == "denied";
                        if is_secret { Err("no".to_owned()) } else { Ok(()) }
                    })
            });
            for command in commands {
                let mut client = server.as_uid(1000);
                let denied = command == "denied";
                let id = if denied { "denied" } else { "ID-1" };
                let command = if denied { json!("reload") } else { command.clone() };
                let _ = client.connection().request(command).id(id).await;
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Checks that a line has all of these words.
fn has(log: &[String], words: &[&str]) {
    let found = log.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no line has {words:?}: {log:#?}");
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only decoded")]
enum Order {
    Reload,
    Warm { prefix: String },
    Purge,
}

#[test]
fn refused_connections_are_logged_once_a_second_with_the_number_of_the_others() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let server = testing::connect_with(|listener| {
                let handler = async |_: Request<Value>, _: Context| Ok::<_, Failure>("");
                serve(listener, handler).access(Access::default())
            });
            for pause in [0, 0, 0, 999, 1] {
                tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
                let mut client = server.as_uid(54_321);
                let error = client.connection().request("x").await.unwrap_err();
                assert_eq!(error.refusal(), Some(Refusal::Denied), "{error:?}");
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("refused a conn")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].contains("before=3"), "{text}");
}

#[test]
fn the_span_of_a_function_or_closure_has_the_name_of_the_command() {
    async fn handle(request: Request<Order>, _: Context) -> Result<(), Failure> {
        match request.command {
            Some(Order::Purge) => Err(Failure::refused(Refusal::Busy, "it purges already")),
            _ => Ok(()),
        }
    }
    let commands = [
        json!("reload"),
        json!({ "warm": { "prefix": "hidden" } }),
        json!("purge"),
        json!("denied"),
        json!("nonsense"),
    ];
    let closure = async |request: Request<Order>, context: Context| handle(request, context).await;
    for log in [log(handle, &commands), log(closure, &commands)] {
        has(&log, &["answered", r#"request{id="ID-1" command="reload"}"#, "Answered(Ok)"]);
        has(&log, &["answered", r#"request{id="ID-1" command="warm"}"#]);
        let refused = r#"refused a request uid=1000 id="ID-1" command="purge" why=Busy"#;
        has(&log, &["INFO", refused, "it purges already", r#"request{id="ID-1" command="purge"}"#]);
        let denied = r#"refused a request uid=1000 id="denied" command="reload" why=Denied"#;
        has(&log, &["INFO", denied, r#"request{id="denied" command="reload"}"#]);
        let malformed = r#"refused a request uid=1000 id="ID-1" command="nonsense" why=Malformed"#;
        has(&log, &["INFO", malformed]);
        assert!(!log.concat().contains("hidden"), "{log:#?}");
    }
}

#[derive(Serialize, Deserialize, Command)]
struct Warm {
    limit: u32,
}

#[test]
fn a_router_logs_refusals_with_the_command() {
    async fn warm((): (), _: Warm, _: Context<()>) -> Result<(), Failure> {
        Ok(())
    }
    fn nobody(_: kakehi::server::Peer) -> Result<(), String> {
        Err("nobody may".to_owned())
    }
    let commands =
        [json!("unknown"), json!({ "warm": { "limit": "x" } }), json!({ "warm": { "limit": 1 } })];
    let log = log(Router::new(()).command_if(nobody, warm), &commands);
    has(&log, &[r#"refused a request uid=1000 id="ID-1" command="unknown" why=Unsupported"#]);
    has(&log, &[r#"refused a request uid=1000 id="ID-1" command="warm" why=Malformed"#]);
    has(&log, &[r#"refused a request uid=1000 id="ID-1" command="warm" why=Denied"#, "nobody may"]);
}
