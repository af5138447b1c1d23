//! Nodes and clients as processes of their own, and the log of a node.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use kakehi_channel::Request;
use kakehi_fleet::{Fleet, Keys, Node};
use kakehi_server::{Context, Handler};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// The timeout of each step of a test. It allows for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log of a node: a line for each start, cancellation and end.
#[derive(Clone, Debug)]
pub(crate) struct Log(PathBuf);

impl Log {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.join("log"))
    }

    fn add(&self, word: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0).unwrap();
        // One write: lines of two processes must not mix.
        file.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    /// How many lines have this word.
    pub(crate) fn count(&self, word: &str) -> usize {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter(|line| *line == word).count()
    }

    /// Waits until `count` lines have this word, and returns after which time.
    pub(crate) async fn until(&self, word: &str, count: usize, most: Duration) -> Duration {
        let started = Instant::now();
        while self.count(word) < count {
            assert!(started.elapsed() < most, "not {count} {word:?} after {most:?}");
            sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    }
}

/// A process of this program, killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) async fn node(url: &str, name: &str, log: &Log) -> Self {
        let node = Self::start(&["node", url, name, log.0.to_str().unwrap()]);
        let started = Instant::now();
        while !is_listed(url, name).await {
            assert!(started.elapsed() < PATIENCE, "the node did not come");
        }
        node
    }

    pub(crate) fn client(url: &str, node: &str, command: &Value) -> Self {
        Self::start(&["client", url, node, &command.to_string()])
    }

    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    pub(crate) async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }

    pub(crate) async fn signal(&self, name: &str) {
        signal(self.0.id().unwrap(), name).await;
    }
}

/// Sends a signal to a process that this test started.
pub(crate) async fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().await;
    assert!(sent.unwrap().success());
}

async fn is_listed(url: &str, name: &str) -> bool {
    let Ok(fleet) = Fleet::connect(url).await else { return false };
    let nodes = fleet.nodes(Duration::from_millis(100)).await.unwrap();
    nodes.iter().any(|node| node.name.as_str() == name)
}

/// Waits until a node can be reached from a broker.
pub(crate) async fn is_reached(fleet: &Fleet, name: &str) {
    let started = Instant::now();
    loop {
        let nodes = fleet.nodes(Duration::from_millis(100)).await.unwrap();
        if nodes.iter().any(|node| node.name.as_str() == name) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the node cannot be reached");
    }
}

pub(crate) async fn be_node(url: &str, name: &str, log: &Path) {
    let keys = Keys::default().unsigned(true);
    let worker = Worker(Log(log.to_owned()));
    Node::connect(url, name).keys(keys).serve(worker).await.unwrap();
}

pub(crate) async fn be_client(url: &str, name: &str, command: &str) {
    let fleet = Fleet::connect(url).await.unwrap();
    let command: Value = serde_json::from_str(command).unwrap();
    let _ = fleet.node(name).unwrap().request(command).timeout(None).await;
}

struct Worker(Log);

struct Guard<'a>(&'a Log, bool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.add(if self.1 { "end" } else { "cancelled" });
    }
}

impl Handler<Value> for Worker {
    type Answer = String;
    type Error = String;

    async fn handle(&self, request: Request<Value>, context: Context) -> Result<String, String> {
        let command = request.command.unwrap_or_default();
        let number = |name: &str| command.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.0.add("start");
        let mut guard = Guard(&self.0, false);
        let pause = Duration::from_millis(number("pause"));
        for at in 0..number("count") {
            context.progress(at.to_string()).await.map_err(|error| error.to_string())?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        sleep(Duration::from_millis(number("sleep"))).await;
        guard.1 = true;
        Ok("done".to_owned())
    }
}
