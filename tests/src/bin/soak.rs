//! `soak ROUND_TRIPS CONNECTS FAULTED_SESSIONS`: a long run against a server in a process of its
//! own. Measures the server's memory, descriptors and tasks. `tests/soak` builds and runs it.

use std::{
    env,
    error::Error,
    fs,
    io::{ErrorKind, Write, stdout},
    ops::RangeInclusive,
    path::Path,
    pin::Pin,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::StreamExt;
use kakehi_channel::Request;
use kakehi_client::Connection;
use kakehi_server::{Answer, Context, Handle, Limits, Socket, serve};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Handle as Runtime,
    time::{sleep, timeout},
};

/// The allocator of `kakehid` with its feature `jemalloc`, here configured by [`PLAIN`].
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One arena, no thread caches, and free pages are returned at once, so that the figures show the
/// memory that the server holds, without the allocator's reserves.
const PLAIN: (&str, &str) = ("_RJEM_MALLOC_CONF", "narenas:1,tcache:false,dirty_decay_ms:0");

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The number of concurrent clients.
const CLIENTS: u64 = 8;
/// The number of requests that each client pipelines.
const AT_ONCE: u64 = 64;
/// The largest allowed growth after the first tenth of each kind, in KiB.
const MOST_GROWTH: u64 = 64;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", path] => serve_until_killed(path).await,
        [trips, connects, sessions] => {
            soak(trips.parse()?, connects.parse()?, sessions.parse()?).await
        }
        _ => Err("usage: soak ROUND_TRIPS CONNECTS FAULTED_SESSIONS".into()),
    }
}

async fn serve_until_killed(path: &str) -> Outcome {
    let handle = Handle::default();
    let known = handle.clone();
    let handler = move |request: Request<Value>, context: Context| {
        let handle = known.clone();
        async move {
            match request.command.as_ref().and_then(Value::as_str) {
                Some("flood") => {
                    for _ in 0..10_000 {
                        context.progress("x".repeat(100)).await?;
                    }
                }
                // `resume_unwind` does not call the panic hook, which would print each panic.
                Some("panic") => std::panic::resume_unwind(Box::new("as asked")),
                Some("hang") => std::future::pending().await,
                _ => {}
            }
            let tasks = Runtime::current().metrics().num_alive_tasks();
            let here = json!({ "tasks": tasks, "connections": handle.stats().connections });
            Ok::<_, kakehi_channel::ChannelError>(Answer::new("done").with_content(here))
        }
    };
    let limits = Limits { request_time: Duration::from_millis(200), ..Limits::default() };
    serve(Socket::bind(path).listen()?, handler).limits(limits).handle(&handle).await;
    Ok(())
}

async fn soak(trips: u64, connects: u64, sessions: u64) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path: Arc<Path> = folder.path().join("socket").into();
    let program = env::current_exe()?;
    let (name, value) = PLAIN;
    let server = Command::new(program).arg("serve").arg(&*path).env(name, value).spawn()?;
    let server = Server(server);
    while UnixStream::connect(&path).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    say("phase            done      seconds  RssAnon KiB  descriptors  tasks")?;
    let start = server.look(&path).await?;
    start.say("start", 0, Duration::ZERO)?;
    let kinds: [(_, _, Kind); 3] = [
        ("round trips", trips, |path, count, seed| Box::pin(round_trips(path, count, seed))),
        ("connects", connects, |path, count, seed| Box::pin(reconnects(path, count, seed))),
        ("faulted sessions", sessions, |path, count, seed| Box::pin(faulted(path, count, seed))),
    ];
    // The first tenth allocates memory that is reused later, so growth is measured after it.
    let mut settled = None;
    for parts in [1..=1, 2..=10] {
        let mut memory = 0;
        for (name, count, work) in kinds {
            let phase = Phase { name, step: count / 10, server: &server, path: &path, work };
            memory = phase.run(parts.clone(), settled).await?;
        }
        settled = Some(memory);
    }
    let end = server.look(&path).await?;
    if (end.descriptors, end.tasks) != (start.descriptors, start.tasks) {
        return Err("descriptors or tasks are left".into());
    }
    say("memory, descriptors and tasks are within their limits")
}

/// The work of one kind, in ten parts.
struct Phase<'a> {
    name: &'a str,
    step: u64,
    server: &'a Server,
    path: &'a Arc<Path>,
    work: Kind,
}

/// The path of the socket, the number of repetitions, and a seed.
type Kind = fn(Arc<Path>, u64, u64) -> Work;
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Phase<'_> {
    /// Does some parts, and looks at the server after each. `settled` is what it may hold, but
    /// for a little more.
    async fn run(&self, parts: RangeInclusive<u64>, settled: Option<u64>) -> Outcome<u64> {
        let Self { name, step, server, path, work } = self;
        let mut memory = 0;
        for part in parts {
            let begun = Instant::now();
            let clients = (0..CLIENTS).map(|client| {
                tokio::spawn(work(Arc::clone(path), step / CLIENTS, part * CLIENTS + client))
            });
            for client in clients.collect::<Vec<_>>() {
                client.await??;
            }
            let seen = server.look(path).await?;
            seen.say(name, part * step, begun.elapsed())?;
            memory = seen.memory;
            if settled.is_some_and(|settled| memory > settled + MOST_GROWTH) {
                return Err(format!("{memory} KiB, over {settled:?} and {MOST_GROWTH}").into());
            }
        }
        Ok(memory)
    }
}

async fn round_trips(path: Arc<Path>, count: u64, _: u64) -> Outcome {
    let mut connection = Connection::connect(&*path).await?;
    let mut left = count;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let mut answers = connection.pipeline((0..now).map(|number| json!(number)));
        while let Some(answer) = answers.next().await {
            answer?;
        }
        left -= now;
    }
    Ok(())
}

async fn reconnects(path: Arc<Path>, count: u64, _: u64) -> Outcome {
    for number in 0..count {
        Connection::connect(&*path).await?.request(number).await?;
    }
    Ok(())
}

/// Clients that disconnect early, send malformed or oversized requests, or do not read.
async fn faulted(path: Arc<Path>, count: u64, seed: u64) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    for _ in 0..count {
        let mut stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                // The queue of the socket is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sleep(Duration::from_millis(1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let frames: &[u8] = match rng.u32(..8) {
            0 => b"{\"id\":\"a\",\"vers",
            1 => b"nonsense\0[]\0{}\0",
            2 => b"{\"id\":\"a\",\"version\":0,\"command\":\"flood\"}\0",
            3 => b"{\"id\":\"a\",\"version\":0,\"command\":\"panic\"}\0",
            4 => b"{\"id\":\"a\",\"version\":0,\"command\":\"hang\",\"timeout_ms\":20}\0",
            5 => &[b' '; 10_000],
            6 => b"{\"id\":\"a\",\"version\":0,\"command\":\"hang\",\"deadline_ms\":5}\0",
            _ => b"",
        };
        // The server can refuse the client or close the connection at any point.
        let _ = stream.write_all(frames).await;
        if rng.bool() {
            let _ = stream.shutdown().await;
        }
        if rng.bool() {
            let patience = Duration::from_millis(rng.u64(0..5));
            let _ = timeout(patience, stream.read(&mut [0; 1000])).await;
        }
    }
    Ok(())
}

struct Server(Child);

/// The resources that the server holds.
struct Seen {
    memory: u64,
    descriptors: usize,
    tasks: u64,
}

impl Server {
    /// Measures once only the measuring client is connected.
    async fn look(&self, path: &Path) -> Outcome<Seen> {
        let mut connection = Connection::connect(path).await?;
        let tasks = loop {
            let here = connection.request("look").await?.content.unwrap_or_default();
            let count = |name| here.get(name).and_then(Value::as_u64);
            if count("connections") == Some(1) {
                break count("tasks").ok_or("no tasks")?;
            }
            sleep(Duration::from_millis(20)).await;
        };
        // The server's threads need a moment to clean up after a connection.
        sleep(Duration::from_millis(200)).await;
        let process = format!("/proc/{}", self.0.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let memory = memory.and_then(|line| line.trim().strip_suffix(" kB"));
        let descriptors = fs::read_dir(format!("{process}/fd"))?.count();
        Ok(Seen { memory: memory.ok_or("no RssAnon")?.parse()?, descriptors, tasks })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Seen {
    fn say(&self, phase: &str, done: u64, time: Duration) -> Outcome {
        let Self { memory, descriptors, tasks } = self;
        let seconds = time.as_secs_f64();
        say(&format!(
            "{phase:<16} {done:>9} {seconds:>8.1} {memory:>12} {descriptors:>12} {tasks:>6}"
        ))
    }
}

fn say(line: &str) -> Outcome {
    Ok(writeln!(stdout(), "{line}")?)
}
