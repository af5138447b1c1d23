//! Measures many nodes on one broker: time and memory for each node.
//!
//! ```sh
//! cargo run --release -p kakehi-fleet --example scale -- 10 100 1000
//! ```
//! It starts a `nats-server` on 127.0.0.1, and four processes that share the nodes. The memory of a node
//! is that of a further one: the memory of four processes with one node each is not counted.
//!
//! With `KAKEHI=target/release/kakehi`, it also runs that program on all nodes, and prints a second
//! table: the time from the start of the program to its end.

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
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use async_nats::ConnectOptions;
use futures::StreamExt;
use kakehi_channel::Request;
use kakehi_fleet::{Event, Fleet, Keys, Node, Selector, Summary};
use kakehi_server::Context;
use serde_json::Value;

/// How many processes share the nodes.
const PROCESSES: usize = 4;

/// How many requests are under way at once.
const UNDER_WAY: usize = 100;

/// How many subscriptions a node with one label has.
const SUBSCRIPTIONS: usize = 6;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    if let Some(role @ ("nodes" | "connections" | "subscriptions")) =
        arguments.first().map(String::as_str)
    {
        return part(role, &arguments[1], number(2), number(3)).await;
    }
    let counts: Vec<usize> = (0..arguments.len()).map(number).collect();
    measure(if counts.is_empty() { &[10, 100, 1000] } else { &counts }).await;
}

/// One of the processes: so many nodes, plain connections, or plain connections with subscriptions,
/// until its input ends.
async fn part(role: &str, url: &str, first: usize, count: usize) {
    let mut others = vec![];
    for number in first..first + count {
        if role == "nodes" {
            let node = Node::connect(url, format!("n{number}"))
                .labels("role=web".parse().unwrap())
                .keys(Keys::default().unsigned(true));
            tokio::spawn(node.serve(async |request: Request<Value>, _: Context| {
                Ok::<_, String>(request.command.unwrap_or_default().to_string())
            }));
            continue;
        }
        // The settings of a node.
        let options = ConnectOptions::new().name(format!("n{number}")).retry_on_initial_connect();
        let client = options.connect(url).await.unwrap();
        let wanted = if role == "subscriptions" { SUBSCRIPTIONS } else { 0 };
        let mut subscriptions = vec![];
        for at in 0..wanted {
            subscriptions.push(client.subscribe(format!("scale.{number}.{at}")).await.unwrap());
        }
        others.push((client, subscriptions));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    println!("{}", resident());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut vec![]))
        .await
        .unwrap()
        .unwrap();
}

/// The resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A process that ends with its input.
struct Part {
    child: Child,
    _input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(role: &str, url: &str, first: usize, count: usize) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([role, url, &first.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, _input: input, output: BufReader::new(output) }
    }

    /// Waits until it is ready, and returns its memory in KiB.
    fn ready(&mut self) -> u64 {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `count` nodes or connections in all processes together, and returns their memory in KiB.
async fn parts(role: &'static str, url: &str, count: usize) -> (Vec<Part>, u64) {
    let share = |at: usize| count * at / PROCESSES;
    let parts: Vec<_> = (0..PROCESSES)
        .map(|at| Part::start(role, url, share(at), share(at + 1) - share(at)))
        .collect();
    tokio::task::spawn_blocking(move || {
        let mut parts = parts;
        let memory = parts.iter_mut().map(Part::ready).sum();
        (parts, memory)
    })
    .await
    .unwrap()
}

struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(counts: &[usize]) {
    let program = env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is installed");
    let _broker = Broker(broker);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let url = format!("nats://127.0.0.1:{port}");
    let (_, node) = memory("nodes", &url, PROCESSES, 0).await;
    let (_, connection) = memory("connections", &url, PROCESSES, 0).await;
    let (_, subscribed) = memory("subscriptions", &url, PROCESSES, 0).await;
    println!(
        "| nodes | list | status of all | echo on all | echo, for a node | memory of a node | of its connection | of that with subscriptions |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut programs = vec![];
    for &count in counts {
        let (_, subscribed) = memory("subscriptions", &url, count, subscribed).await;
        let (_, connection) = memory("connections", &url, count, connection).await;
        let (nodes, memory) = memory("nodes", &url, count, node).await;
        let fleet = Fleet::connect(&*url).await.unwrap();
        let begun = Instant::now();
        let found = fleet.nodes(Duration::from_secs(1)).await.unwrap().len();
        let listed = begun.elapsed();
        assert_eq!(found, count, "all nodes are listed");
        let status = all(&fleet, "status", 256, count).await;
        let echo = all(&fleet, "echo", UNDER_WAY, count).await;
        let further = |memory: u64| memory as f64 / (count - PROCESSES) as f64;
        println!(
            "| {count} | {listed:.2?} | {status:.2?} | {echo:.2?} | {:.2?} | {:.1} KiB | {:.1} KiB | {:.1} KiB |",
            echo / u32::try_from(count).unwrap(),
            further(memory),
            further(connection),
            further(subscribed),
        );
        if let Ok(program) = env::var("KAKEHI") {
            let status = ["status", "--batch", "256"];
            let run = ["run", "echo", "--batch", &UNDER_WAY.to_string()];
            let times = [time(&program, &url, &status, count), time(&program, &url, &run, count)];
            programs.push((count, times));
        }
        drop(nodes);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if !programs.is_empty() {
        println!("\n| nodes | `kakehi fleet status` | `kakehi fleet run` |\n|---|---|---|");
    }
    for (count, [status, run]) in programs {
        println!("| {count} | {status:.2?} | {run:.2?} |");
    }
}

/// Runs `kakehi fleet` on all nodes 5 times, and returns the median of the times.
fn time(program: &str, url: &str, arguments: &[&str], count: usize) -> Duration {
    let state = tempfile::tempdir().unwrap();
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(["--json", "fleet", "--nats", url]).args(arguments).arg("--yes");
        let output = command.env("XDG_STATE_HOME", state.path()).output().unwrap();
        *time = begun.elapsed();
        let text = String::from_utf8(output.stdout).unwrap();
        let summary = text.lines().last().unwrap_or_default();
        let summary: Value = serde_json::from_str(summary).unwrap();
        assert_eq!(summary["summary"]["ok"], count, "{summary}");
    }
    times.sort();
    times[times.len() / 2]
}

/// Starts `count` of a role, and returns their memory in KiB over `base`.
async fn memory(role: &'static str, url: &str, count: usize, base: u64) -> (Vec<Part>, u64) {
    let (parts, memory) = parts(role, url, count).await;
    (parts, memory.saturating_sub(base))
}

/// Sends `command` to all nodes, whose names are known, and returns how long that took.
async fn all(fleet: &Fleet, command: &str, under_way: usize, count: usize) -> Duration {
    let names = (0..count).map(|number| format!("n{number}").parse().unwrap()).collect();
    let begun = Instant::now();
    let all = fleet.all("role=web".parse::<Selector>().unwrap()).under_way(under_way);
    let mut events = all.send_to(names, command).unwrap();
    let mut summary = Summary::default();
    while let Some((_, event)) = events.next().await {
        if let Event::Ended(ended, _) = event {
            summary.add(&ended);
        }
    }
    assert_eq!(summary.ok, count, "{summary:?}");
    begun.elapsed()
}
