//! The output of `kakehi call`: progress, results and errors.

use kakehi::{
    Command, Router,
    server::{Answer, Context, Failure},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{calling::Daemon, support::Step};

/// Streams its result.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(progress = Change)]
struct Watch;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Change {
    key: String,
}

/// Has steps and then a reply.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(progress = Step, reply = Change)]
struct Copy;

/// Fails in several ways.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(fault = Full)]
struct Write {
    panics: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Full {
    free: u32,
}

fn change(key: &str) -> Change {
    Change { key: key.to_owned() }
}

async fn watch((): (), _: Watch, context: Context<Change>) -> Result<&'static str, Failure> {
    context.progress("watching").await?;
    context.progress_with("one", &change("a")).await?;
    context.progress_with("", &change("b\u{202e}")).await?;
    Ok("no more")
}

async fn copy((): (), _: Copy, context: Context<Step>) -> Result<Answer<Change>, Failure> {
    context.progress_with("copying", &Step { done: 1, total: 2 }).await?;
    Ok(Answer::new("copied").with_content(change("c")))
}

async fn write((): (), write: Write, _: Context<()>) -> Result<(), Failure<Full>> {
    assert!(!write.panics, "as the caller asked");
    Err(Failure::new("the disk is full").with_content(Full { free: 7 }))
}

fn daemon() -> Daemon {
    Daemon::serving(Router::new(()).command(watch).command(copy).command(write))
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_progress_is_a_result_unless_it_counts_steps() {
    let daemon = daemon();
    let said = daemon.kakehi(&["call", "watch"]).await;
    let lines = "one {\"key\":\"a\"}\n{\"key\":\"b\\u202e\"}\nno more\n";
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, lines, "processing: watching\n"));
    let json = daemon.kakehi(&["-o", "json", "call", "watch"]).await;
    assert_eq!(json.stdout, "{\"key\":\"a\"}\n{\"key\":\"b\\u202e\"}\n", "{json:?}");
    let yaml = daemon.kakehi(&["-o", "yaml", "call", "watch"]).await;
    assert_eq!(yaml.stdout, "---\nkey: a\n---\nkey: \"b\\u202e\"\n", "{yaml:?}");
    let quiet = daemon.kakehi(&["-q", "call", "watch"]).await;
    assert_eq!((&*quiet.stdout, &*quiet.stderr), (lines, ""));
    let raw = daemon.kakehi(&["--json", "call", "watch"]).await;
    assert_eq!(raw.stdout.lines().count(), 4, "{raw:?}");
    // Steps are no result.
    let said = daemon.kakehi(&["call", "copy"]).await;
    assert_eq!(
        (&*said.stdout, &*said.stderr),
        ("copied\n{\"key\":\"c\"}\n", "processing: copying\n")
    );
    let json = daemon.kakehi(&["-o", "json", "call", "copy"]).await;
    assert_eq!(json.stdout, "{\"key\":\"c\"}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_shown_below_the_message_and_the_log_is_named_for_a_panic_only() {
    let daemon = daemon();
    let fails = ["call", "write", "--panics=false"];
    let said = daemon.kakehi(&fails).await;
    let text = "error: the request failed\n  why: the disk is full\n  details: {\"free\":7}\n";
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "", text));
    // As for a result, `-o` puts the content on standard output.
    let json = daemon.kakehi(&[&["-o", "json"], &fails[..]].concat()).await;
    let text = "error: the request failed\n  why: the disk is full\n";
    assert_eq!((json.code, &*json.stdout, &*json.stderr), (1, "{\"free\":7}\n", text));
    let whole = daemon.kakehi(&[&["--json"], &fails[..]].concat()).await;
    let answer: Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!(answer["content"], json!({ "free": 7 }));
    let panics = daemon.kakehi(&["call", "write", "--panics"]).await;
    let text =
        "error: the request failed\n  why: the handler panicked\n  try: see the server's log\n";
    assert_eq!((panics.code, &*panics.stderr), (1, text));
}
