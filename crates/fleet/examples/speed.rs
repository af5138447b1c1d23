//! Compares calls and streams through a broker with those on a socket, side by side in one run.
//!
//! ```sh
//! cargo run --release -p kakehi-fleet --example speed
//! ```
//! It starts a `nats-server` on 127.0.0.1, and a process that answers: with the client of NATS alone,
//! as nrpc does, as a node, and on a Unix socket. The rounds of all contenders are interleaved.
//! `ONLY='fleet, unsigned'` makes only the calls of that contender, and `ONLY=fleet` only its streams,
//! for `strace` or `perf`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a program to measure with"
)]

use std::{
    env,
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use kakehi_channel::{ChannelError, Request, Response};
use kakehi_client::Client;
use kakehi_fleet::{Fleet, Keys, Node, Signer};
use kakehi_server::{Context, Socket, serve};
use serde_json::Value;
use tokio::time::sleep;

/// How many rounds of each contender are measured.
const ROUNDS: usize = 15;

/// How many calls of a round.
const CALLS: usize = 300;

/// How many responses of a stream.
const RESPONSES: u64 = 100_000;

/// The argument and the result of a call: 100 bytes of JSON, as in `bench`.
const TEXT: &str = "0123456789012345678901234567890123456789";

/// The name and the value of each contender.
type Named<T> = (&'static str, T);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // As `kakehid` and as `kakehi`.
    if let [url, socket, key] = arguments.as_slice() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(answer(url, Path::new(socket), key));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

/// The command: text is returned, a number is a count of responses.
async fn handle(request: Request<Value>, context: Context) -> Result<String, ChannelError> {
    let command = request.command.unwrap_or_default();
    for step in 0..command.as_u64().unwrap_or(0) {
        context.progress(progress(step)).await?;
    }
    Ok(command.as_str().unwrap_or("done").to_owned())
}

fn progress(step: u64) -> String {
    format!("{TEXT} {step}")
}

/// The process that answers, until its input ends.
async fn answer(url: &str, socket: &Path, key: &str) {
    let keys = Keys::default().with_key(key, "anna", ["sre"]).unwrap().unsigned(true);
    tokio::spawn(Node::connect(url, "n1").keys(keys).serve(handle));
    let socket = Socket::bind(socket).listen().unwrap();
    tokio::spawn(serve(socket, handle).into_future());
    let client = async_nats::connect(url).await.unwrap();
    tokio::spawn(echo(client.clone()));
    tokio::spawn(heartbeats(client));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut vec![]))
        .await
        .unwrap()
        .unwrap();
}

/// The least that a call over NATS takes.
async fn echo(client: async_nats::Client) {
    let mut requests = client.subscribe("speed.echo").await.unwrap();
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await.unwrap();
        }
    }
}

/// Answers as nrpc does: a message for each response, and an empty one as a heartbeat. The client does
/// not acknowledge them, and the server does not wait for the client.
async fn heartbeats(client: async_nats::Client) {
    let mut requests = client.subscribe("speed.nrpc").await.unwrap();
    while let Some(message) = requests.next().await {
        let client = client.clone();
        tokio::spawn(async move {
            let inbox = message.reply.unwrap();
            let request: Request<Value> = serde_json::from_slice(&message.payload).unwrap();
            let command = request.command.unwrap_or_default();
            let mut heartbeat = tokio::time::interval(Duration::from_secs(1));
            heartbeat.tick().await;
            for step in 0..command.as_u64().unwrap_or(0) {
                if heartbeat.tick().now_or_never().is_some() {
                    client.publish(inbox.clone(), Bytes::new()).await.unwrap();
                }
                let response = Response::<()>::processing(&request.id, progress(step));
                client.publish(inbox.clone(), encode(&response)).await.unwrap();
            }
            let response = Response::<()>::ok(&request.id, command.as_str().unwrap_or("done"));
            client.publish(inbox, encode(&response)).await.unwrap();
        });
    }
}

fn encode<T: serde::Serialize>(message: &T) -> Bytes {
    serde_json::to_vec(message).unwrap().into()
}

/// The clients of all contenders.
struct Clients {
    nats: async_nats::Client,
    fleet: Fleet,
    signed: Fleet,
    socket: Client,
}

impl Clients {
    /// Sends `command` and counts the responses.
    async fn nrpc(&self, command: Value) -> u64 {
        let inbox = self.nats.new_inbox();
        let mut responses = self.nats.subscribe(inbox.clone()).await.unwrap();
        let request = encode(&Request::with_command("ID", command));
        self.nats.publish_with_reply("speed.nrpc", inbox, request).await.unwrap();
        let mut count = 0;
        // Lost messages are not noticed; 2 s without one are the end.
        while let Ok(Some(message)) =
            tokio::time::timeout(Duration::from_secs(2), responses.next()).await
        {
            if message.payload.is_empty() {
                continue;
            }
            let response: Response = serde_json::from_slice(&message.payload).unwrap();
            count += 1;
            if response.status.is_final() {
                break;
            }
        }
        count
    }

    async fn node(fleet: &Fleet, command: Value) -> u64 {
        let mut responses = fleet.node("n1").unwrap().request(command).send().await.unwrap();
        let mut count = 0;
        while let Some(response) = responses.next().await {
            response.unwrap();
            count += 1;
        }
        count
    }

    async fn socket(&self, command: Value) -> u64 {
        let mut responses = self.socket.request(command).send().await.unwrap();
        let mut count = 0;
        while let Some(response) = responses.next().await {
            response.unwrap();
            count += 1;
        }
        count
    }

    async fn plain(&self) -> u64 {
        self.nats.request("speed.echo", TEXT.into()).await.unwrap();
        1
    }

    /// The messages of a call of the fleet: two round trips, and an acknowledgement.
    async fn messages(&self) -> u64 {
        self.nats.request("speed.echo", TEXT.into()).await.unwrap();
        self.nats.request("speed.echo", TEXT.into()).await.unwrap();
        self.nats.publish("speed.echo", Bytes::new()).await.unwrap();
        1
    }

    /// A call of nrpc is a plain request and reply, as the first.
    fn calls(&self) -> [Named<BoxFuture<'_, u64>>; 5] {
        let text = || Value::from(TEXT);
        [
            ("`async-nats` alone", self.plain().boxed()),
            ("`async-nats`, the messages of the fleet", self.messages().boxed()),
            ("fleet, unsigned", Self::node(&self.fleet, text()).boxed()),
            ("fleet, signed", Self::node(&self.signed, text()).boxed()),
            ("socket", self.socket(text()).boxed()),
        ]
    }

    fn streams(&self) -> [Named<BoxFuture<'_, u64>>; 3] {
        [
            ("socket", self.socket(RESPONSES.into()).boxed()),
            ("fleet", Self::node(&self.fleet, RESPONSES.into()).boxed()),
            ("as nrpc", self.nrpc(RESPONSES.into()).boxed()),
        ]
    }
}

/// Ended when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure() {
    let program = env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("nats://127.0.0.1:{port}");
    let mut broker = Command::new(program);
    broker.args(["-a", "127.0.0.1", "-p", &port.to_string()]).stderr(Stdio::null());
    let _broker = Program(broker.spawn().expect("nats-server is installed"));
    sleep(Duration::from_secs(1)).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("speed.sock");
    let signer = Signer::generate();
    let mut server = Command::new(env::current_exe().unwrap());
    server.arg(&url).arg(&socket).arg(signer.public_key()).stdin(Stdio::piped());
    let _server = Program(server.spawn().unwrap());
    sleep(Duration::from_secs(1)).await;
    let fleet = Fleet::connect(&*url).await.unwrap();
    let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
    let clients = Clients {
        nats: options.connect(&url).await.unwrap(),
        signed: Fleet::connect(&*url).await.unwrap().signed_by(signer),
        fleet,
        socket: Client::connect(&socket).await.unwrap(),
    };
    if let Ok(name) = env::var("ONLY") {
        return only(&clients, &name).await;
    }
    calls(&clients).await;
    streams(&clients).await;
}

/// Calls or streams of one contender, for a profile.
async fn only(clients: &Clients, name: &str) {
    let is_it = |(found, _): &(&str, BoxFuture<'_, u64>)| *found == name;
    let (calls, streams) = (clients.calls(), clients.streams());
    let (is_call, at) = match calls.iter().position(is_it) {
        Some(at) => (true, at),
        None => (false, streams.iter().position(is_it).expect("a contender")),
    };
    let count = if is_call { ROUNDS * CALLS } else { ROUNDS };
    let begun = Instant::now();
    for _ in 0..count {
        let next = if is_call {
            clients.calls().into_iter().nth(at)
        } else {
            clients.streams().into_iter().nth(at)
        };
        next.unwrap().1.await;
    }
    println!("{:.2?} each", begun.elapsed() / u32::try_from(count).unwrap());
}

/// One call after the other; in each round, the calls of each contender in turn.
async fn calls(clients: &Clients) {
    let names = clients.calls().map(|(name, _)| name);
    let mut rounds = vec![];
    for round in 0..=ROUNDS {
        let mut times = names.map(|_| vec![]);
        for at in 0..names.len() * CALLS {
            let at = at / CALLS;
            let (name, call) = clients.calls().into_iter().nth(at).unwrap();
            let begun = Instant::now();
            assert_eq!(call.await, 1, "{name}");
            times[at].push(begun.elapsed().as_secs_f64() * 1e6);
        }
        // The first one warms up.
        if round > 0 {
            rounds.push(times.map(|times| [percentile(&times, 50), percentile(&times, 99)]));
        }
    }
    println!("| a call | p50 | ratio | p99 | ratio |\n|---|---|---|---|---|");
    for (at, name) in names.iter().enumerate() {
        let [p50, p99] = [0, 1].map(|which| {
            let figures = rounds.iter().map(|round| round[at][which]);
            let ratios = rounds.iter().map(|round| round[at][which] / round[0][which]);
            format!("{:.0} µs | {:.2}", median(figures), median(ratios))
        });
        println!("| {name} | {p50} | {p99} |");
    }
    println!();
}

async fn streams(clients: &Clients) {
    let names = clients.streams().map(|(name, _)| name);
    let mut rounds = vec![];
    let mut arrived = names.map(|_| u64::MAX);
    for round in 0..=ROUNDS {
        let mut rates = names.map(|_| 0.0);
        for (at, (_, stream)) in clients.streams().into_iter().enumerate() {
            let begun = Instant::now();
            let count = stream.await;
            rates[at] = count as f64 / begun.elapsed().as_secs_f64();
            arrived[at] = arrived[at].min(count);
        }
        if round > 0 {
            rounds.push(rates);
        }
    }
    println!("| a stream, decoded | responses a second | ratio | fewest of {} |", RESPONSES + 1);
    println!("|---|---|---|---|");
    for (at, name) in names.iter().enumerate() {
        let rate = median(rounds.iter().map(|round| round[at]));
        let ratio = median(rounds.iter().map(|round| round[at] / round[0]));
        println!("| {name} | {rate:.0} | {ratio:.2} | {} |", arrived[at]);
    }
}

fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * percent / 100).min(figures.len() - 1)]
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    percentile(&figures.collect::<Vec<_>>(), 50)
}
