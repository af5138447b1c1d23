//! `kakehi mcp` with the Python client of the Model Context Protocol.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    reason = "this is a test"
)]

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kakehi::{
    Command, Refusal, Router,
    server::{Context, Failure, Handle, Peer, Socket, serve},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::sleep};

const PATIENCE: Duration = Duration::from_secs(120);

/// Loads every key under a prefix.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(progress = Step, reply = Report)]
struct Warm {
    /// Keys that start with this.
    prefix: String,
    #[serde(default)]
    limit: Option<u8>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Step {
    done: u32,
    total: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Report {
    loaded: u32,
    below: Option<Box<Report>>,
}

/// Counts the calls of `watch` that were cancelled.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(reply = u32, read_only)]
struct Count;

#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(reply = Option<Report>, read_only)]
struct Last;

#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[serde(rename_all = "snake_case")]
enum Limit {
    None,
    Bytes(u32),
}

#[derive(Serialize, Deserialize, JsonSchema, Command)]
struct Purge {
    #[serde(default)]
    all: bool,
}

/// Is offered, and refused when it is called.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
struct Sweep;

/// Streams its result.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(progress = Fault, read_only)]
struct Disks;

/// Says nothing for a while.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
struct Quiet {
    ms: u64,
}

/// Ends with its caller.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
struct Watch;

/// Breaks.
#[derive(Serialize, Deserialize, JsonSchema, Command)]
#[command(fault = Fault)]
struct Break;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Fault {
    disk: String,
}

type Counter = Arc<AtomicUsize>;

/// Counts its drop.
struct Guard(Counter);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn warm(_: Counter, warm: Warm, context: Context<Step>) -> Result<Report, Failure> {
    let total = u32::from(warm.limit.unwrap_or(3));
    for done in 0..total {
        context.progress_with(format!("loading {}", warm.prefix), &Step { done, total }).await?;
    }
    let below = Some(Box::new(Report { loaded: 0, below: None }));
    Ok(Report { loaded: total, below })
}

async fn watch(cancelled: Counter, _: Watch, context: Context<()>) -> Result<(), Failure> {
    let _guard = Guard(cancelled);
    loop {
        context.progress("watching").await?;
        sleep(Duration::from_millis(20)).await;
    }
}

async fn count(cancelled: Counter, _: Count, _: Context<()>) -> Result<u32, Failure> {
    Ok(u32::try_from(cancelled.load(Ordering::SeqCst))?)
}

async fn quiet(_: Counter, Quiet { ms }: Quiet, _: Context<()>) -> Result<&'static str, Failure> {
    sleep(Duration::from_millis(ms)).await;
    Ok("slept")
}

async fn disks(_: Counter, _: Disks, context: Context<Fault>) -> Result<(), Failure> {
    context.progress_with("first", &Fault { disk: "sda".to_owned() }).await?;
    context.progress_with("", &Fault { disk: "sdb".to_owned() }).await?;
    Ok(())
}

async fn broken(_: Counter, _: Break, _: Context<()>) -> Result<(), Failure<Fault>> {
    Err(Failure::new("the disk is full").with_content(Fault { disk: "sda".to_owned() }))
}

fn nobody(_: Peer) -> Result<(), &'static str> {
    Err("purging is switched off")
}

struct Daemon {
    folder: TempDir,
    handle: Handle,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let router = Router::new(Counter::default())
            .command(warm)
            .command(count)
            .command(async |_: Counter, _: Last, _: Context<()>| Ok::<_, Failure>(None))
            .command(async |_: Counter, limit: Limit, _: Context<()>| {
                Ok::<_, Failure>(if matches!(limit, Limit::Bytes(7)) { "seven" } else { "other" })
            })
            .command(watch)
            .command(quiet)
            .command(disks)
            .command(broken)
            .command(async |_: Counter, _: Sweep, _: Context<()>| {
                let message = "sweeping is switched off".to_owned();
                Err::<(), _>(Failure { message, content: None, refused: Some(Refusal::Denied) })
            })
            .command_if(nobody, async |_: Counter, _: Purge, _: Context<()>| Ok::<_, Failure>(()))
            .describe("cachectld", "1.0");
        let socket = Socket::bind(folder.path().join("s")).listen().unwrap();
        let handle = Handle::default();
        tokio::spawn(serve(socket, router).handle(&handle).into_future());
        Self { folder, handle }
    }

    /// How many requests were answered.
    fn answered(&self) -> u64 {
        let stats = self.handle.stats();
        stats.ok + stats.error + stats.refused_requests
    }

    async fn session(&self, arguments: &[&str], steps: Value) -> Option<Vec<Value>> {
        session(self.folder.path().join("s"), arguments, steps).await
    }
}

/// A Python that has the package `mcp`; `None`: there is none.
fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("KAKEHI_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let imports = Process::new(&python).args(["-c", "import mcp, jsonschema"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let why = "no Python package mcp: `pip install mcp jsonschema`";
    assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "{why}");
    // The test runner captures the output of `eprintln!` and shows it only for failed tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    None
}

/// Runs a session with these steps, and returns the result of each.
async fn session(socket: PathBuf, arguments: &[&str], steps: Value) -> Option<Vec<Value>> {
    let mut client = Process::new(python()?);
    client
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp_client.py"))
        .arg(steps.to_string());
    client.arg(env!("CARGO_BIN_EXE_kakehi")).arg("--socket").arg(socket).arg("mcp").args(arguments);
    let output = spawn_blocking(move || client.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}{}", text(output.stdout), text(output.stderr));
    let stderr = text(output.stderr);
    assert_eq!(stderr, "", "nothing but the protocol");
    Some(text(output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn tool<'t>(tools: &'t Value, name: &str) -> &'t Value {
    let found = tools.as_array().unwrap().iter().find(|tool| tool["name"] == name);
    found.unwrap_or_else(|| panic!("no tool {name}: {tools}"))
}

fn names(tools: &Value) -> Vec<&str> {
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn described_commands_are_tools_with_an_object_at_the_root() {
    let daemon = Daemon::start();
    let Some(said) = daemon.session(&[], json!([{ "list": true }])).await else { return };
    let tools = &said[0];
    let all = ["break", "count", "disks", "last", "limit", "quiet", "sweep", "warm", "watch"];
    assert_eq!(names(tools), all, "without `purge`, which the caller may not run");
    for tool in tools.as_array().unwrap() {
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
    }
    let warm = tool(tools, "warm");
    assert_eq!(warm["description"], "Loads every key under a prefix.");
    assert_eq!(warm["inputSchema"]["required"], json!(["prefix"]));
    assert_eq!(warm["inputSchema"]["properties"]["limit"]["maximum"], 255);
    assert_eq!(warm["outputSchema"]["required"], json!(["loaded", "below"]));
    assert_eq!(warm["annotations"]["readOnlyHint"], false);
    let count = tool(tools, "count");
    assert_eq!(count["inputSchema"]["properties"], json!({}));
    assert_eq!(count["outputSchema"]["properties"]["result"]["maximum"], u32::MAX);
    assert_eq!(count["annotations"]["readOnlyHint"], true);
    assert_eq!(tool(tools, "limit")["inputSchema"]["required"], json!(["arguments"]));
    assert!(tool(tools, "watch").get("outputSchema").is_none(), "it has no reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_progress_and_a_reply_that_fits_its_schema() {
    let daemon = Daemon::start();
    let steps = json!([
        { "list": true },
        { "call": "warm", "arguments": { "prefix": "a", "limit": 2 }, "progress": true },
        { "call": "warm", "arguments": { "prefix": "a" } },
        { "call": "count" },
        { "call": "last" },
        { "call": "limit", "arguments": { "arguments": { "bytes": 7 } } },
        { "call": "limit", "arguments": { "arguments": "none" } },
    ]);
    // The client checks each reply against its schema.
    let Some(said) = daemon.session(&[], steps).await else { return };
    let progress = json!([[0.0, 2.0, "loading a"], [1.0, 2.0, "loading a"]]);
    assert_eq!(said[1]["progress"], progress);
    assert_eq!(said[1]["structured"]["loaded"], 2);
    assert_eq!(said[1]["is_error"], false);
    assert_eq!((&said[2]["progress"], &said[2]["structured"]["loaded"]), (&json!([]), &json!(3)));
    assert_eq!(said[3]["structured"], json!({ "result": 0 }));
    assert_eq!(said[4]["structured"], json!({ "result": null }));
    assert_eq!(said[5]["text"], "seven");
    assert_eq!(said[6]["text"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_result_is_in_the_progress_and_in_the_result() {
    let daemon = Daemon::start();
    let steps = json!([{ "call": "disks", "progress": true }]);
    let Some(said) = daemon.session(&[], steps).await else { return };
    let progress = json!([[1.0, null, "first"], [2.0, null, "{\"disk\":\"sdb\"}"]]);
    assert_eq!(said[0]["progress"], progress);
    assert_eq!(said[0]["text"], "first {\"disk\":\"sda\"}\n{\"disk\":\"sdb\"}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_cancelled_in_the_daemon() {
    let daemon = Daemon::start();
    let steps = json!([
        { "call": "watch", "progress": true, "leave": 2 },
        { "sleep": 2 },
        { "call": "count" },
    ]);
    let Some(said) = daemon.session(&[], steps).await else { return };
    assert_eq!(said[0]["cancelled"], true);
    assert_eq!(said[0]["progress"], json!([[1.0, null, "watching"], [2.0, null, "watching"]]));
    assert_eq!(said[1]["structured"], json!({ "result": 1 }), "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_whether_the_command_may_have_run() {
    let daemon = Daemon::start();
    let steps = json!([
        { "call": "sweep" },
        { "call": "break" },
        { "call": "warm", "arguments": { "limit": 1 } },
        { "call": "warm", "arguments": { "prefix": "a", "limit": 256 } },
        { "call": "warm", "arguments": { "prefix": "a", "limits": 2 } },
        { "call": "limit", "arguments": { "arguments": { "bytes": -1 } } },
        { "call": "nothing" },
        { "call": "purge" },
    ]);
    let Some(said) = daemon.session(&[], steps).await else { return };
    let cases = [
        ("refused", false, "Refused: the server denies the request: sweeping is switched off"),
        ("failed", true, "Failed: the request failed: the disk is full"),
        ("not_sent", false, "the field `prefix` is missing"),
        ("not_sent", false, "`limit`: 256 is more than 255"),
        ("not_sent", false, "there is no field `limits`"),
        ("not_sent", false, "-1 is less than 0"),
        ("refused", false, "`nothing` is not offered"),
        ("refused", false, "`purge` is not offered"),
    ];
    for (said, (outcome, may_have_run, words)) in said.iter().zip(cases) {
        assert_eq!(said["is_error"], true, "{said}");
        assert_eq!(said["structured"]["outcome"], outcome, "{said}");
        assert_eq!(said["structured"]["may_have_run"], may_have_run, "{said}");
        assert!(said["text"].as_str().unwrap().contains(words), "{words}: {said}");
    }
    assert_eq!(said[1]["structured"]["content"], json!({ "disk": "sda" }));
    assert!(said[0]["text"].as_str().unwrap().contains("it has not run"), "{}", said[0]);
    assert!(!said[1]["text"].as_str().unwrap().contains("Hint"), "{}", said[1]);
    assert_eq!(daemon.answered(), 3, "the description and two commands");
}

/// A server that answers each request with responses; none closes the connection.
fn fake(answer: impl Fn(&Value) -> Vec<Value> + Send + Sync + 'static) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (listener, answer) = (UnixListener::bind(&path).unwrap(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut frame = vec![];
                    if stream.read_until(0, &mut frame).unwrap_or(0) == 0 || frame.pop() != Some(0)
                    {
                        return;
                    }
                    let request: Value = serde_json::from_slice(&frame).unwrap();
                    let responses = answer(&request);
                    if responses.is_empty() {
                        return;
                    }
                    for mut response in responses {
                        (response["id"], response["version"]) = (request["id"].clone(), 0.into());
                        let frame = format!("{response}\0");
                        if stream.get_mut().write_all(frame.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (folder, path)
}

fn ok(content: Value) -> Value {
    json!({ "status": "OK", "message": "", "content": content })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_told_as_such() {
    let (folder, path) = fake(|request| {
        let go = json!({ "name": "go", "arguments": { "type": "null" } });
        let description = json!({ "name": "x", "version": "", "commands": [go] });
        if request["command"] == "go" { vec![] } else { vec![ok(description)] }
    });
    let steps = json!([{ "call": "go" }]);
    let Some(said) = session(path, &[], steps).await else { return };
    assert_eq!(said[0]["structured"]["outcome"], "unknown", "{}", said[0]);
    assert_eq!(said[0]["structured"]["may_have_run"], true);
    let text = said[0]["text"].as_str().unwrap();
    assert!(text.starts_with("Outcome unknown: ") && text.contains("may have run"), "{text}");
    // Without a server, nothing is sent.
    let nothing = folder.path().join("nothing");
    let said = session(nothing, &[], json!([{ "call": "go" }])).await.unwrap();
    assert_eq!(said[0]["structured"]["outcome"], "not_sent", "{}", said[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_does_not_fit_its_schema_is_told_as_done() {
    let (_folder, path) = fake(|request| {
        let reply = json!({ "type": "object", "required": ["a"] });
        let go = json!({ "name": "go", "arguments": { "type": "null" }, "reply": reply });
        let description = json!({ "name": "x", "version": "", "commands": [go] });
        vec![ok(if request["command"] == "go" { json!({ "b": 1 }) } else { description })]
    });
    let Some(said) = session(path, &[], json!([{ "call": "go" }])).await else { return };
    assert_eq!(said[0]["structured"]["outcome"], "done", "{}", said[0]);
    assert_eq!(said[0]["structured"]["content"], json!({ "b": 1 }));
    assert!(said[0]["text"].as_str().unwrap().contains("has run to its end"), "{}", said[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_kakehid_are_tools_with_their_arguments_and_their_output() {
    let received = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&received);
    let (_folder, path) = fake(move |request| {
        let command = &request["command"];
        seen.lock().unwrap().push(command.clone());
        let line = |text: &str| {
            let content = json!({ "stream": "stdout", "line": 1 });
            json!({ "status": "PROCESSING", "message": text, "content": content })
        };
        if command == "kakehi.describe" {
            let run = json!({ "name": "run", "arguments": { "type": "object" } });
            return vec![ok(json!({ "name": "kakehid", "version": "", "commands": [run] }))];
        }
        if command == "list" {
            return vec![ok(json!([
                { "job": "backup", "about": "archive", "arguments":
                    [{ "name": "folder", "pattern": "[a-z]+", "required": true }] },
                { "job": "forever", "arguments": [] },
            ]))];
        }
        if command["run"]["job"] == "forever" {
            return vec![line("begun"); 2];
        }
        vec![line("a\tb"), line("\u{1b}[31m"), ok(json!({ "exit_code": 0 }))]
    });
    let steps = json!([
        { "list": true },
        { "call": "run_backup", "arguments": { "folder": "photos" } },
        { "call": "run_backup", "arguments": {} },
        { "call": "run_forever", "progress": true, "leave": 2 },
        { "sleep": 1 },
    ]);
    let Some(said) = session(path, &[], steps).await else { return };
    assert_eq!(names(&said[0]), ["run", "run_backup", "run_forever"]);
    let backup = tool(&said[0], "run_backup");
    assert_eq!(backup["inputSchema"]["required"], json!(["folder"]));
    assert!(backup["description"].as_str().unwrap().contains("archive"), "{backup}");
    assert_eq!(said[1]["text"], "a\tb\n\\x1b[31m\n\n{\"exit_code\":0}");
    assert_eq!(said[2]["structured"]["outcome"], "not_sent", "{}", said[2]);
    let received = received.lock().unwrap();
    let run = json!({ "run": { "job": "backup", "args": ["photos"] } });
    assert_eq!(received[2], run);
    assert_eq!(received[3], json!({ "run": { "job": "forever", "args": [] } }));
    let cancelled = received[4]["cancel"]["id"].as_str();
    assert!(cancelled.is_some_and(|id| !id.is_empty()), "a run may be meant to outlive its caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_is_refused_without_the_daemon() {
    let daemon = Daemon::start();
    let steps = json!([{ "list": true }, { "call": "warm", "arguments": { "prefix": "a" } }]);
    let Some(said) = daemon.session(&["--read-only"], steps.clone()).await else { return };
    assert_eq!(names(&said[0]), ["count", "disks", "last"]);
    assert_eq!(said[1]["structured"]["outcome"], "refused", "{}", said[1]);
    assert_eq!(daemon.answered(), 1, "the description");
    let said = daemon.session(&["--allow", "sweep", "count", "--allow=last"], steps).await.unwrap();
    assert_eq!(names(&said[0]), ["count", "last", "sweep"]);
    assert_eq!(said[1]["structured"]["error"], "not_offered", "{}", said[1]);
    assert_eq!(daemon.answered(), 2, "the description");
    let both = ["--read-only", "--allow=sweep,count"];
    let said = daemon.session(&both, json!([{ "list": true }])).await.unwrap();
    assert_eq!(names(&said[0]), ["count"]);
    // The session did not list the tools. The call is refused without a request to the daemon.
    let said = daemon.session(&["--allow=count"], json!([{ "call": "sweep" }])).await.unwrap();
    assert_eq!(said[0]["structured"]["outcome"], "refused", "{}", said[0]);
    assert_eq!(daemon.answered(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_is_kept_alive_if_the_caller_wants_progress() {
    let daemon = Daemon::start();
    let call = |progress: bool| json!({ "call": "quiet", "arguments": { "ms": 2500 }, "progress": progress });
    let steps = json!([call(true), call(false)]);
    let Some(said) = daemon.session(&["--keep-alive", "200ms"], steps).await else { return };
    let progress = said[0]["progress"].as_array().unwrap();
    assert!(progress.len() >= 3, "{progress:?}");
    let values: Vec<_> = progress.iter().map(|progress| progress[0].as_f64().unwrap()).collect();
    assert!(values.is_sorted_by(|a, b| a < b) && values.iter().all(|at| *at < 0.1), "{values:?}");
    assert!(progress.iter().all(|said| said[1].is_null() && said[2].is_null()), "{progress:?}");
    assert_eq!((&said[0]["text"], &said[0]["is_error"]), (&json!("slept"), &json!(false)));
    assert_eq!((&said[1]["text"], &said[1]["progress"]), (&json!("slept"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_limit_are_refused() {
    let daemon = Daemon::start();
    let step = json!({ "call": "quiet", "arguments": { "ms": 3000 }, "at_once": 20 });
    let Some(said) = daemon.session(&[], json!([{ "call": "count" }, step])).await else { return };
    let all = said[1]["all"].as_array().unwrap();
    let busy = all.iter().filter(|said| said["structured"]["error"] == "busy").count();
    let slept = all.iter().filter(|said| said["text"] == "slept").count();
    assert_eq!((busy, slept), (4, 16), "{all:?}");
}

#[test]
fn the_help_fits_on_a_screen_with_this_feature_too() {
    let output = Process::new(env!("CARGO_BIN_EXE_kakehi")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("\n  mcp "), "{help}");
    let widest = help.lines().map(str::len).max().unwrap();
    assert!(help.lines().count() <= 40 && widest <= 80, "{widest} columns: {help}");
}

#[tokio::test]
async fn nothing_but_messages_is_written_also_after_malformed_input() {
    let daemon = Daemon::start();
    let mut program = Process::new(env!("CARGO_BIN_EXE_kakehi"));
    program.args(["-v", "--socket"]).arg(daemon.folder.path().join("s")).arg("mcp");
    let mut program =
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } } });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let huge = "x".repeat(2 * 1024 * 1024);
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let mut stdin = program.stdin.take().unwrap();
    let writing = spawn_blocking(move || {
        for line in [
            initialize.to_string(),
            initialized.to_string(),
            "{".to_owned(),
            huge,
            list.to_string(),
        ] {
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        stdin
    });
    let mut stdout = BufReader::new(program.stdout.take().unwrap());
    let reading = spawn_blocking(move || {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            let is_last = message["id"] == 2;
            lines.push(message);
            if is_last {
                return lines;
            }
        }
    });
    let lines = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(lines.iter().all(|line| line["jsonrpc"] == "2.0"), "{lines:?}");
    assert_eq!(names(&lines.last().unwrap()["result"]["tools"]).len(), 9);
    drop(writing.await.unwrap());
    let ended = spawn_blocking(move || program.wait().unwrap());
    let status = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert!(status.success(), "the end of standard input ends the session: {status}");
}

/// Writes these requests to `kakehi mcp`, and returns the answer to the last one, which has the
/// given id.
async fn asked(socket: &Path, requests: Vec<Value>, last: u32) -> Value {
    // A read without an answer must end.
    let mut program = Process::new("timeout");
    program
        .args(["60", env!("CARGO_BIN_EXE_kakehi")])
        .args(["--timeout", "300ms", "--socket"])
        .arg(socket)
        .arg("mcp");
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = program.spawn().unwrap();
    let asking = spawn_blocking(move || {
        let mut stdin = program.stdin.take().unwrap();
        let first = [
            json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
                "protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": { "name": "x", "version": "1" } } }),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        ];
        for request in first.into_iter().chain(requests) {
            stdin.write_all(format!("{request}\n").as_bytes()).unwrap();
        }
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut messages = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let answer = messages.find(|message| message["id"] == last).unwrap();
        drop(stdin);
        program.wait().unwrap();
        answer
    });
    tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_parameters_are_told_from_an_unknown_method() {
    let daemon = Daemon::start();
    let socket = daemon.folder.path().join("s");
    for (method, params, code) in [
        ("tools/call", json!({}), -32602),
        ("tools/call", json!({ "name": "warm", "arguments": [] }), -32602),
        ("tools/none", json!({}), -32601),
    ] {
        let request = json!({ "jsonrpc": "2.0", "id": 2, "method": method, "params": params });
        let answer = asked(&socket, vec![request], 2).await;
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_has_not_run_if_the_server_did_not_describe_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let _silent = UnixListener::bind(&socket).unwrap();
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "warm", "arguments": {} } });
    let said = &asked(&socket, vec![call], 2).await["result"];
    assert_eq!(said["structuredContent"]["may_have_run"], false, "{said}");
    assert_eq!(said["structuredContent"]["outcome"], "not_sent", "{said}");
    assert!(!said.to_string().contains("may have done"), "{said}");
}
