//! A small daemon of typed commands, and a client that writes any text.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use kakehi::{
    Command, Router,
    server::{Answer, Context, Failure, Handler, Limits, Peer, Protocol, serve_stream},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Step {
    pub(crate) done: u32,
    pub(crate) total: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Report {
    pub(crate) loaded: u32,
    pub(crate) note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Full {
    pub(crate) free: u64,
}

/// Loads every key under a prefix into memory.
///
/// Keys that are in memory already are skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Command)]
#[command(progress = Step, reply = Report, fault = Full)]
pub(crate) struct Warm {
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

/// Counts the requests so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Command)]
#[command(reply = u32, read_only)]
pub(crate) struct Stats {
    #[serde(default)]
    pub(crate) from: u32,
}

/// Removes everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Command)]
pub(crate) struct Purge;

/// A command whose types have no schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Command)]
#[command(name = "no-schema", progress = Vec<Untold>, reply = Vec<Untold>)]
pub(crate) struct WithoutSchema {
    pub(crate) items: Vec<Untold>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Untold;

pub(crate) type Count = Arc<AtomicU32>;

pub(crate) fn root(Peer { uid, .. }: Peer) -> Result<(), String> {
    if uid == 0 { Ok(()) } else { Err(format!("uid {uid} is not root")) }
}

async fn warm(count: Count, warm: Warm, context: Context<Step>) -> Result<Report, Failure<Full>> {
    count.fetch_add(1, Ordering::SeqCst);
    let total = warm.limit.unwrap_or(2);
    for done in 0..total {
        context.progress_with(format!("{}{done}", warm.prefix), &Step { done, total }).await?;
    }
    match warm.prefix.as_str() {
        "full" => Err(Failure::new("the disk is full").with_content(Full { free: 7 })),
        _ => Ok(Report { loaded: total, note: None }),
    }
}

async fn stats(count: Count, stats: Stats, _: Context<()>) -> Result<Answer<u32>, Failure> {
    let count = count.load(Ordering::SeqCst) + stats.from;
    Ok(Answer::new(format!("{count} requests")).with_content(count))
}

async fn purge(_: Count, _: Purge, context: Context<()>) -> Result<&'static str, Failure> {
    context.progress("purging").await?;
    Ok("purged")
}

pub(crate) fn router() -> Router<Count> {
    let without_schema = |_, command: WithoutSchema, _| async move {
        if command.items.is_empty() { Err("no items") } else { Ok(command.items) }
    };
    Router::new(Count::default())
        .command(warm)
        .command(stats)
        .command_if(root, purge)
        .command(without_schema)
        .describe("cached", "1.2.3")
}

/// Writes any text, and reads responses as JSON.
pub(crate) struct Raw(DuplexStream);

impl Raw {
    pub(crate) fn of(router: Router<Count>, uid: u32) -> Self {
        Self::serving(router, uid)
    }

    pub(crate) fn serving<C, H, F>(handler: H, uid: u32) -> Self
    where
        C: Send + 'static,
        H: Handler<C, F>,
        F: Protocol<C>,
    {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer = Peer { uid, ..Peer::own() };
        tokio::spawn(serve_stream(theirs, peer, handler, Limits::default()));
        Self(ours)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(format!("{text}\0").as_bytes()).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Value {
        let mut frame = vec![];
        loop {
            match self.0.read_u8().await.unwrap() {
                0 => return serde_json::from_slice(&frame).unwrap(),
                byte => frame.push(byte),
            }
        }
    }

    /// The final response to a request for `command`, which is JSON.
    pub(crate) async fn ask(&mut self, command: &str) -> Value {
        self.send(&format!(r#"{{"id":"a","version":0,"command":{command}}}"#)).await;
        self.last().await
    }

    pub(crate) async fn last(&mut self) -> Value {
        loop {
            let response = self.next().await;
            if response["status"] != "PROCESSING" {
                return response;
            }
        }
    }
}
