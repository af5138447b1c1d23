//! Makes a number of calls over a stream in memory, with one type for all commands or with typed
//! commands. A count of the instructions shows the cost of typed commands.
//!
//! ```sh
//! cargo build --release -p kakehi-client --example client_calls
//! for client in single enum typed; do
//!     valgrind --tool=callgrind target/release/examples/client_calls $client 10000
//! done
//! ```
//!
//! The difference between two counts is the cost of the calls without the start of the process.

use std::{env, error::Error, hint::black_box};

use kakehi_channel::{Channel, Json, Request, Response};
use kakehi_client::Connection;
use kakehi_command::Command;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Deserialize, Serialize)]
struct Warm {
    prefix: String,
    limit: Option<u32>,
}

impl Command for Warm {
    const NAME: &'static str = "warm";
    type Progress = Step;
    type Reply = Report;
    type Fault = ();
}

#[derive(Deserialize, Serialize)]
struct Step {
    done: u32,
    total: u32,
}

#[derive(Deserialize, Serialize)]
struct Report {
    loaded: usize,
    note: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Commands {
    Warm(Warm),
    #[expect(dead_code, reason = "the other commands of this client")]
    Stats,
}

/// The content of all responses to all commands.
#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "the content is read, and not used")]
enum Content {
    Step { done: u32, total: u32 },
    Report { loaded: usize, note: Option<String> },
}

const ID: &str = "ID-00000001";

fn warm() -> Warm {
    Warm { prefix: "users/by-name/".to_owned(), limit: Some(10) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [client, count] = arguments.as_slice() else {
        return Err("usage: client_calls single|enum|typed COUNT".into());
    };
    let count: usize = count.parse()?;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(answer(theirs));
    match client.as_str() {
        "single" => untyped::<Report>(ours, count).await,
        "enum" => untyped::<Content>(ours, count).await,
        _ => typed(ours, count).await,
    }
}

async fn untyped<T>(stream: DuplexStream, count: usize) -> Result<(), Box<dyn Error>>
where
    T: for<'de> Deserialize<'de> + 'static,
{
    let channel = Channel::<Request<Commands>, Response<T>, Json, _>::new(stream);
    let mut connection = Connection::new(channel);
    for _ in 0..count {
        let response = connection.request(Commands::Warm(warm())).id(ID).await;
        black_box(response.map_err(|error| error.to_string())?);
    }
    Ok(())
}

async fn typed(stream: DuplexStream, count: usize) -> Result<(), Box<dyn Error>> {
    let channel = Channel::<Request<Commands>, Response<Report>, Json, _>::new(stream);
    let mut connection = Connection::new(channel);
    for _ in 0..count {
        let report = connection.call(warm()).id(ID).await;
        black_box(report.map_err(|error| error.to_string())?);
    }
    Ok(())
}

/// Sends the same answer to each request.
async fn answer(mut stream: DuplexStream) -> Result<(), std::io::Error> {
    let answer = format!(
        "{{\"id\":\"{ID}\",\"version\":0,\"status\":\"OK\",\"message\":\"\",\
         \"content\":{{\"loaded\":24,\"note\":null}}}}\0"
    );
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
