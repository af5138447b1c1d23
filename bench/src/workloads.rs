//! The workloads, client side. Each returns named numbers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    contender::{Client, Consumer, Contender, Load, Rt},
    model::{Request, SMALL, Status},
    proc,
    report::median,
};

pub type Numbers = BTreeMap<String, f64>;

#[derive(Clone)]
pub struct Args {
    pub sock: PathBuf,
    pub server_pid: u32,
    pub rt: Rt,
    /// How long the timed workloads last.
    pub time: Duration,
    /// W1: this many calls in place of `time` (0: use `time`).
    pub calls: u64,
    /// W2: responses in the stream.
    pub responses: u64,
    /// W4: bytes echoed.
    pub bytes: usize,
    /// W5: connections.
    pub connections: usize,
}

pub const ALL: &[&str] = &["w1", "w2", "w3", "w3b", "w4", "w5", "w6"];

const IN_FLIGHT: usize = 64;
const W6_RESPONSES: u64 = 1_000_000;
const W6_PAUSE: Duration = Duration::from_millis(2000);
const W6_DRAIN: u64 = 50_000;

pub fn run<C: Contender>(workload: &str, args: Args) -> Result<Numbers> {
    let w = workload.to_string();
    args.rt.run(async move {
        match w.as_str() {
            "w1" => w1::<C>(&args).await,
            "w2" => w2::<C>(&args).await,
            "w3" => w3::<C>(&args).await,
            "w3b" => w3b::<C>(&args).await,
            "w4" => w4::<C>(&args).await,
            "w5" => w5::<C>(&args).await,
            "w6" => w6::<C>(&args).await,
            w => anyhow::bail!("no workload {w}"),
        }
    })
}

/// Wall and CPU clocks of the measured part.
struct Clocks {
    server_pid: u32,
    wall: Instant,
    server: Duration,
    client: Duration,
}

impl Clocks {
    fn start(args: &Args) -> Self {
        Clocks {
            server_pid: args.server_pid,
            server: proc::cpu_time(args.server_pid),
            client: proc::cpu_time(std::process::id()),
            wall: Instant::now(),
        }
    }

    /// Rate per second, and CPU microseconds of each side per operation.
    fn stop(self, ops: u64, out: &mut Numbers) {
        let wall = self.wall.elapsed().as_secs_f64();
        let client = proc::cpu_time(std::process::id()) - self.client;
        let server = proc::cpu_time(self.server_pid) - self.server;
        out.insert("per_s".into(), ops as f64 / wall);
        out.insert("cpu_server_us".into(), server.as_secs_f64() * 1e6 / ops as f64);
        out.insert("cpu_client_us".into(), client.as_secs_f64() * 1e6 / ops as f64);
    }
}

fn rss(args: &Args, out: &mut Numbers) {
    let mib = |k: u64| k as f64 / 1024.0;
    out.insert("rss_server_mib".into(), mib(proc::status_kib(args.server_pid, "VmHWM")));
    out.insert("rss_client_mib".into(), mib(proc::status_kib(std::process::id(), "VmHWM")));
}

async fn checked<C: Client>(client: &mut C, n: u64, payload: &str) -> Result<()> {
    let req = Request::echo(n, payload);
    let id = req.id.clone();
    let resp = client.unary(req).await?;
    ensure!(resp.id == id && resp.status == Status::Ok, "wrong response to {id}: {}", resp.id);
    ensure!(resp.message.len() == payload.len(), "wrong message");
    Ok(())
}

/// Sequential unary calls with small messages.
async fn w1<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut client = C::connect(&args.sock).await?;
    let mut lat: Vec<u32> = Vec::with_capacity(4_000_000);
    let mut n = 0;
    if args.calls == 0 {
        let warm = Instant::now();
        while warm.elapsed() < args.time / 10 {
            n += 1;
            checked(&mut client, n, SMALL).await?;
        }
    }
    let clocks = Clocks::start(args);
    let start = Instant::now();
    let mut before = start;
    loop {
        n += 1;
        checked(&mut client, n, SMALL).await?;
        let now = Instant::now();
        lat.push((now - before).as_nanos().min(u32::MAX as u128) as u32);
        before = now;
        let over = match args.calls {
            0 => now - start >= args.time,
            calls => lat.len() as u64 >= calls,
        };
        if over {
            break;
        }
    }
    let mut out = Numbers::new();
    clocks.stop(lat.len() as u64, &mut out);
    lat.sort_unstable();
    let at = |q: f64| lat[((lat.len() - 1) as f64 * q) as usize] as f64 / 1000.0;
    out.insert("p50_us".into(), at(0.50));
    out.insert("p99_us".into(), at(0.99));
    out.insert("p999_us".into(), at(0.999));
    Ok(out)
}

/// One request, many responses.
async fn w2<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut client = C::connect(&args.sock).await?;
    let mut consumer = Consumer::default();
    client.stream(Request::progress(1, 1000), &mut consumer).await?;
    ensure!(consumer.seen == 1001, "warm-up: {} responses", consumer.seen);

    // Whole streams, one after another, for a third of the time: one takes 5 ms to 2 s.
    let mut out = Numbers::new();
    let mut streams = 0;
    let clocks = Clocks::start(args);
    while clocks.wall.elapsed() < args.time / 3 {
        let mut consumer = Consumer::default();
        client.stream(Request::progress(2, args.responses), &mut consumer).await?;
        ensure!(consumer.seen == args.responses + 1, "{} responses", consumer.seen);
        ensure!(consumer.last == Some(Status::Ok), "not final");
        streams += 1;
    }
    clocks.stop(streams * args.responses, &mut out);
    rss(args, &mut out);
    Ok(out)
}

/// 64 requests in flight on one connection.
async fn w3<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut client = C::connect(&args.sock).await?;
    let load = |t| Load { in_flight: IN_FLIGHT, until: Instant::now() + t, payload: SMALL };
    client.pipelined(load(args.time / 10)).await?;
    // A pipelining client has responses of the warm-up left to read: use another connection.
    let mut client = C::connect(&args.sock).await?;
    let mut out = Numbers::new();
    let clocks = Clocks::start(args);
    let n = client.pipelined(load(args.time)).await?;
    clocks.stop(n, &mut out);
    Ok(out)
}

/// 64 connections, one request in flight on each.
async fn w3b<C: Contender>(args: &Args) -> Result<Numbers> {
    async fn one<C: Client>(mut client: C, until: Instant) -> Result<u64> {
        let mut n = 0;
        while Instant::now() < until {
            n += 1;
            checked(&mut client, n, SMALL).await?;
        }
        Ok(n)
    }
    let mut clients = Vec::new();
    for i in 0..IN_FLIGHT {
        let mut client = C::connect(&args.sock).await?;
        checked(&mut client, i as u64, SMALL).await?;
        clients.push(client);
    }
    let mut out = Numbers::new();
    let clocks = Clocks::start(args);
    let until = Instant::now() + args.time;
    let mut total = 0;
    if C::ABOUT.blocking() {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|c| thread::spawn(move || futures::executor::block_on(one(c, until))))
            .collect();
        for t in threads {
            total += t.join().expect("client thread")?;
        }
    } else {
        let mut set = tokio::task::JoinSet::new();
        for c in clients {
            set.spawn(one(c, until));
        }
        while let Some(r) = set.join_next().await {
            total += r??;
        }
    }
    clocks.stop(total, &mut out);
    Ok(out)
}

/// 1 MiB echoed.
async fn w4<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut client = C::connect(&args.sock).await?;
    let payload = "x".repeat(args.bytes);
    let mut out = Numbers::new();
    // Buffers grow in the first call.
    let first = Instant::now();
    checked(&mut client, 0, &payload).await?;
    out.insert("first_ms".into(), first.elapsed().as_secs_f64() * 1e3);
    let clocks = Clocks::start(args);
    let until = Instant::now() + args.time;
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        checked(&mut client, n, &payload).await?;
    }
    clocks.stop(n, &mut out);
    rss(args, &mut out);
    Ok(out)
}

/// 1,000 connections: opened, used once each, idle.
async fn w5<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut first = C::connect(&args.sock).await?;
    checked(&mut first, 0, SMALL).await?;
    let me = std::process::id();
    let now = || {
        (proc::status_kib(args.server_pid, "VmRSS") as f64, proc::status_kib(me, "VmRSS") as f64)
    };
    let before = now();
    let mut clients = Vec::with_capacity(args.connections);
    let tenth = args.connections.div_ceil(10).max(1);
    let mut each_ms = vec![];
    while clients.len() < args.connections {
        let (start, before) = (Instant::now(), clients.len());
        for _ in 0..tenth.min(args.connections - before) {
            clients.push(C::connect(&args.sock).await?);
        }
        each_ms.push(start.elapsed().as_secs_f64() * 1e3 / (clients.len() - before) as f64);
    }
    let start = Instant::now();
    for (i, c) in clients.iter_mut().enumerate() {
        checked(c, i as u64, SMALL).await?;
    }
    let first_calls = start.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = now();
    let mut out = Numbers::new();
    let each = args.connections as f64;
    // One shot of some 20 ms says little on a noisy machine: the median of its tenths.
    out.insert("connect_ms".into(), median(&mut each_ms) * each);
    out.insert("first_calls_ms".into(), first_calls.as_secs_f64() * 1e3);
    out.insert("server_kib_per_conn".into(), (after.0 - before.0) / each);
    out.insert("client_kib_per_conn".into(), (after.1 - before.1) / each);
    // An unrelated call while they are idle.
    let start = Instant::now();
    for i in 0..1000 {
        checked(&mut first, i, SMALL).await?;
    }
    out.insert("call_with_idle_us".into(), start.elapsed().as_secs_f64() * 1e6 / 1000.0);
    Ok(out)
}

/// The application stops consuming a stream of 1,000,000 responses for 2 s.
async fn w6<C: Contender>(args: &Args) -> Result<Numbers> {
    let mut client = C::connect(&args.sock).await?;
    checked(&mut client, 0, SMALL).await?;
    let (pid, me) = (args.server_pid, std::process::id());
    let mib = |k: u64| k as f64 / 1024.0;
    let before = (proc::status_kib(pid, "VmRSS"), proc::status_kib(me, "VmRSS"));

    // Meanwhile: is another client served, and how much memory has piled up?
    let sock = args.sock.clone();
    let probe = thread::spawn(move || {
        thread::sleep(W6_PAUSE / 2);
        let other = other_client::<C>(&sock, W6_PAUSE / 4);
        let rss = (proc::status_kib(pid, "VmRSS"), proc::status_kib(me, "VmRSS"));
        (other, rss)
    });
    let mut consumer = Consumer { pause: Some(W6_PAUSE), limit: W6_DRAIN, ..Consumer::default() };
    client.stream(Request::progress(1, W6_RESPONSES), &mut consumer).await?;
    let (other, during) = probe.join().expect("probe");

    let mut out = Numbers::new();
    out.insert("server_mib_before".into(), mib(before.0));
    out.insert("server_growth_mib".into(), mib(during.0) - mib(before.0));
    out.insert("client_growth_mib".into(), mib(during.1) - mib(before.1));
    out.insert("server_peak_mib".into(), mib(proc::status_kib(pid, "VmHWM")));
    // Microseconds of a call on another connection; -1: not answered.
    out.insert("other_call_us".into(), other);
    Ok(out)
}

fn other_client<C: Contender>(sock: &Path, patience: Duration) -> f64 {
    let sock = sock.to_owned();
    let (tx, rx) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let r = Rt::Current.build().block_on(async {
            let mut c = C::connect(&sock).await?;
            checked(&mut c, 0, SMALL).await?;
            let start = Instant::now();
            checked(&mut c, 1, SMALL).await?;
            Ok::<_, anyhow::Error>(start.elapsed())
        });
        if let Ok(t) = r {
            let _ = tx.send(t);
        }
    });
    rx.recv_timeout(patience).map_or(-1.0, |t| t.as_secs_f64() * 1e6)
}
