//! Answers a number of calls over a stream in memory, with a handler over an enum or with a router.
//! A count of the instructions shows the cost of a router.
//!
//! ```sh
//! cargo build --release -p kakehi-router --example calls
//! for handler in enum router; do
//!     valgrind --tool=callgrind target/release/examples/calls $handler 10000
//! done
//! ```
//!
//! A third argument is the prefix of the calls, with escapes as in JSON. The difference between two
//! counts is the cost of the calls without the start of the process.

use std::{env, error::Error};

use kakehi_channel::Request;
use kakehi_command::Command;
use kakehi_router::Router;
use kakehi_server::{Answer, Context, Failure, Limits, Peer, serve_stream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Deserialize, Serialize)]
struct Warm {
    prefix: String,
    limit: Option<u32>,
}

impl Command for Warm {
    const NAME: &'static str = "warm";
    type Progress = ();
    type Reply = Report;
    type Fault = ();
}

#[derive(Deserialize, Serialize)]
struct Report {
    loaded: usize,
    note: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Stats;

impl Command for Stats {
    const NAME: &'static str = "stats";
    const UNIT: bool = true;
    type Progress = ();
    type Reply = Report;
    type Fault = ();
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Commands {
    Warm(Warm),
    Stats,
}

fn loaded(warm: &Warm) -> Report {
    Report { loaded: warm.prefix.len() + warm.limit.unwrap_or(0) as usize, note: None }
}

async fn warm((): (), warm: Warm, _: Context<()>) -> Result<Report, Failure> {
    Ok(loaded(&warm))
}

async fn stats((): (), _: Stats, _: Context<()>) -> Result<Report, Failure> {
    Ok(Report { loaded: 0, note: None })
}

async fn handle(request: Request<Commands>, _: Context) -> Result<Answer<Report>, Failure> {
    let report = match request.command {
        Some(Commands::Warm(warm)) => loaded(&warm),
        Some(Commands::Stats) => Report { loaded: 0, note: None },
        None => return Err(Failure::new("the command is missing")),
    };
    Ok(Answer::new("").with_content(report))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [handler, count, prefix @ ..] = arguments.as_slice() else {
        return Err("usage: calls enum|router COUNT [PREFIX]".into());
    };
    let prefix = prefix.first().map_or("users/by-name/", String::as_str);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let limits = Limits::default();
    let server = if handler == "router" {
        let router = Router::new(()).command(warm).command(stats);
        tokio::spawn(serve_stream(theirs, Peer::own(), router, limits))
    } else {
        tokio::spawn(serve_stream(theirs, Peer::own(), handle, limits))
    };
    call(ours, count.parse()?, prefix).await?;
    Ok(server.await?)
}

/// Sends as many calls as `count` says, each after the answer to the one before it.
async fn call(mut stream: DuplexStream, count: usize, prefix: &str) -> Result<(), Box<dyn Error>> {
    let request = format!(
        "{{\"id\":\"ID-00000001\",\"version\":0,\"timeout_ms\":30000,\
         \"command\":{{\"warm\":{{\"prefix\":\"{prefix}\",\"limit\":10}}}}}}\0"
    );
    let mut answer = [0; 1024];
    for _ in 0..count {
        stream.write_all(request.as_bytes()).await?;
        let read = stream.read(&mut answer).await?;
        if !answer.get(..read).is_some_and(|answer| answer.ends_with(b"}\0")) {
            return Err("half an answer".into());
        }
    }
    Ok(())
}
