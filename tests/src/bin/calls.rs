//! A server and a client without busy polling, whose system calls `calls.rs` counts:
//! `calls serve SOCKET` serves until a client stops it, or for two minutes;
//! `calls ask SOCKET one COUNT` sends one request at a time;
//! `calls ask SOCKET stream COUNT` sends one request with COUNT progress responses.

use std::{env, error::Error, time::Duration};

use kakehi_channel::{Request, Response};
use kakehi_client::{Client, ClientSettings};
use kakehi_server::{Context, Failure, Handle, Limits, Socket, serve};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", path] => answer(path).await,
        ["ask", path, "one", count] => ask_one_by_one(path, count.parse()?).await,
        ["ask", path, "stream", count] => ask_for_a_stream(path, count.parse()?).await,
        _ => Err("usage: calls serve SOCKET | calls ask SOCKET one|stream COUNT".into()),
    }
}

async fn answer(path: &str) -> Result<(), Box<dyn Error>> {
    let handle = Handle::default();
    let stop = handle.clone();
    let handler = move |request: Request<u32>, context: Context| {
        let stop = stop.clone();
        async move {
            for number in 0..request.command.unwrap_or_default() {
                context.progress(&format!("number {number}")).await?;
            }
            if request.command.is_none() {
                stop.shutdown();
            }
            Ok::<_, Failure>("done")
        }
    };
    serve(Socket::bind(path).listen()?, handler)
        .handle(&handle)
        .limits(Limits { busy_poll: Duration::ZERO, ..Limits::default() })
        // The client can fail before it stops the server.
        .shutdown(sleep(Duration::from_secs(120)))
        .await;
    Ok(())
}

fn client(path: &str) -> Client<Request<u32>, Response<()>> {
    let settings = ClientSettings {
        busy_poll: Duration::ZERO,
        timeout: Some(Duration::from_secs(20)),
        ..ClientSettings::default()
    };
    Client::typed(path, settings)
}

async fn ask_one_by_one(path: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let client = client(path);
    for _ in 0..count {
        client.request(0_u32).await?;
    }
    client.message(Request::new("stop")).await?;
    Ok(())
}

async fn ask_for_a_stream(path: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let client = client(path);
    let mut responses = client.request(count).send().await?;
    let mut seen = 0;
    while responses.next().await.transpose()?.is_some() {
        seen += 1;
    }
    drop(responses);
    client.message(Request::new("stop")).await?;
    if seen == count + 1 { Ok(()) } else { Err(format!("{seen} responses to {count}").into()) }
}
