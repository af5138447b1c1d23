//! The program `kakehi` against a server that it knows by its description alone.

use std::process::{Command as Process, Output, Stdio};

use kakehi::{
    Command, Router,
    server::{Answer, Context, Failure, Handle, Socket, serve},
};
use kakehi_tests::programs::binary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Step, Warm};

/// Copies files.
///
/// The copy is compressed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Command)]
#[command(progress = Step, reply = Backup)]
struct Backup {
    /// The file to copy.
    source: String,
    /// How hard to compress.
    #[serde(default = "six")]
    level: u8,
    #[serde(default)]
    mode: Option<Mode>,
    /// A label; may be given several times.
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    #[schemars(length(max = 2))]
    ports: Vec<u16>,
    /// The user of the copy.
    #[serde(default = "default_owner")]
    #[schemars(regex(pattern = "^[a-z]+$"))]
    owner: String,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    since: Option<i64>,
    #[serde(default)]
    retain: Option<Retain>,
    #[serde(default)]
    ratio: Option<f64>,
}

fn six() -> u8 {
    6
}

fn default_owner() -> String {
    "root".to_owned()
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// As fast as possible.
    Fast,
    /// Without a trace of it.
    Quiet,
}

/// How long to keep it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Retain {
    days: u16,
    #[serde(default)]
    weeks: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Command)]
#[command(reply = Limit, read_only)]
#[serde(rename_all = "snake_case")]
enum Limit {
    None,
    Bytes(u32),
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Command)]
struct Reload;

#[derive(Clone, Debug, Serialize, Deserialize, Command)]
#[command(reply = Opaque)]
struct Opaque {
    anything: Value,
}

async fn backup((): (), backup: Backup, context: Context<Step>) -> Result<Answer<Backup>, Failure> {
    context.progress_with("copying", &Step { done: 1, total: 2 }).await?;
    Ok(Answer::new(format!("{} is copied", backup.source)).with_content(backup))
}

async fn limit((): (), limit: Limit, _: Context<()>) -> Result<Limit, Failure> {
    Ok(limit)
}

async fn reload((): (), _: Reload, _: Context<()>) -> Result<&'static str, Failure> {
    Ok("reloaded")
}

async fn opaque((): (), opaque: Opaque, _: Context<()>) -> Result<Opaque, Failure> {
    Ok(opaque)
}

async fn never((): (), _: Warm, _: Context<Step>) -> Result<crate::support::Report, String> {
    Err("it is cold".to_owned())
}

fn closed(_: kakehi::server::Peer) -> Result<(), &'static str> {
    Err("warming is switched off")
}

pub(super) struct Daemon {
    folder: TempDir,
    handle: Handle,
}

impl Daemon {
    fn start() -> Self {
        let router = Router::new(())
            .command(backup)
            .command(limit)
            .command(reload)
            .command(opaque)
            .command_if(closed, never)
            .describe("backupd", "2.0");
        Self::serving(router)
    }

    pub(super) fn serving(router: Router<()>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind(folder.path().join("s")).listen().unwrap();
        let handle = Handle::default();
        tokio::spawn(serve(socket, router).handle(&handle).into_future());
        Self { folder, handle }
    }

    pub(super) async fn kakehi(&self, arguments: &[&str]) -> Said {
        let mut process = Process::new(binary("kakehi"));
        process.arg("--socket").arg(self.folder.path().join("s")).args(arguments);
        process.env("NO_COLOR", "1").stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
        Said::of(output)
    }

    /// The content of the OK of `kakehi --json call …`.
    async fn call(&self, arguments: &[&str]) -> Value {
        let said = self.kakehi(&[&["--json", "call"], arguments].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        let last = said.stdout.lines().last().unwrap();
        let answer: Value = serde_json::from_str(last).unwrap();
        assert_eq!(answer["status"], "OK", "{answer}");
        answer["content"].clone()
    }
}

#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_become_arguments() {
    let daemon = Daemon::start();
    let plain = daemon.call(&["backup", "--source", "-dashed"]).await;
    let expected = json!({ "source": "-dashed", "level": 6, "mode": null, "tags": [], "ports": [],
        "owner": "root", "dry_run": false, "since": null, "retain": null, "ratio": null });
    assert_eq!(plain, expected);
    let all = [
        "backup",
        "--source=/etc",
        "--level",
        "9",
        "--mode",
        "quiet",
        "--tags",
        "a b",
        "--tags",
        "c",
        "--dry-run",
        "--since",
        "-5",
        "--retain",
        r#"{"days":7,"weeks":[1]}"#,
        "--ratio",
        "0.5",
    ];
    let expected = json!({ "source": "/etc", "level": 9, "mode": "quiet", "tags": ["a b", "c"],
        "ports": [], "owner": "root", "dry_run": true, "since": -5, "retain": { "days": 7, "weeks": [1] }, "ratio": 0.5 });
    assert_eq!(daemon.call(&all).await, expected);
    let array = ["backup", "--source", "x", "--tags", r#"["a","b"]"#, "--ports", "[1,2]"];
    let arrays = daemon.call(&array).await;
    assert_eq!((&arrays["tags"], &arrays["ports"]), (&json!(["a", "b"]), &json!([1, 2])));
    let single = daemon.call(&["backup", "--source", "x", "--ports", "7", "--tags", "8"]).await;
    assert_eq!((&single["tags"], &single["ports"]), (&json!(["8"]), &json!([7])));
    let underscore = ["backup", "--source", "x", "--dry_run=false"];
    assert_eq!(daemon.call(&underscore).await["dry_run"], false);
    assert_eq!(daemon.call(&["limit", r#"{"bytes":7}"#]).await, json!({ "bytes": 7 }));
    assert_eq!(daemon.call(&["limit", r#""none""#]).await, json!("none"));
    assert_eq!(daemon.call(&["limit", "none"]).await, json!("none"), "the bare variant");
    let object = r#"{"source":"x","level":3,"mode":"fast","retain":{"days":1}}"#;
    let whole = daemon.call(&["backup", object]).await;
    assert_eq!((&whole["level"], &whole["mode"]), (&json!(3), &json!("fast")));
    assert_eq!(whole["retain"], json!({ "days": 1, "weeks": [] }));
    assert_eq!(daemon.call(&["reload"]).await, Value::Null);
    let opaque = json!({ "anything": [1] });
    assert_eq!(daemon.call(&["opaque", &opaque.to_string()]).await, opaque);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_told_what_is_wrong_and_nothing_is_sent() {
    let daemon = Daemon::start();
    let source = ["backup", "--source", "x"];
    let cases: [(&[&str], &[&str]); 27] = [
        (&["backup"], &["required", "--source"]),
        (&[&source[..], &["--sorce", "y"]].concat(), &["unexpected argument '--sorce'"]),
        (&[&source[..], &["stray"]].concat(), &["unexpected argument 'stray'"]),
        (&[&source[..], &["--source", "y"]].concat(), &["cannot be used multiple times"]),
        (&[&source[..], &["--level", "256"]].concat(), &["256 is more than 255"]),
        (&[&source[..], &["--level", "-1"]].concat(), &["-1 is less than 0"]),
        (&[&source[..], &["--level", "six"]].concat(), &["not an integer"]),
        (&[&source[..], &["--level", "1.5"]].concat(), &["not of the type integer"]),
        (&[&source[..], &["--mode", "loud"]].concat(), &["fast, quiet"]),
        (&[&source[..], &["--dry-run=maybe"]].concat(), &["true, false"]),
        (&[&source[..], &["--ratio", "half"]].concat(), &["not a number"]),
        (&[&source[..], &["--retain", "{"]].concat(), &["not JSON"]),
        (&[&source[..], &["--retain", "{}"]].concat(), &["the field `days` is missing"]),
        (
            &[&source[..], &["--retain", r#"{"days":1,"weeks":[300]}"#]].concat(),
            &["`weeks[0]`: 300 is more than 255"],
        ),
        (
            &[&source[..], &["--tags", r#"["a",7]"#]].concat(),
            &["--tags", "`[1]`: 7 is not of the type"],
        ),
        (&[&source[..], &["--owner", "R2"]].concat(), &["not match the pattern ^[a-z]+$"]),
        (&[&source[..], &["--ports", "[1,2,3]"]].concat(), &["3 items are more than 2"]),
        (&[&source[..], &["--ports", "[1,65536]"]].concat(), &["65536 is more than 65535"]),
        (&[&source[..], &["--timeout", "1s"]].concat(), &["before the command", "kakehi call"]),
        (&["backup", r#"{"source":7}"#], &["`source`: 7 is not of the type string"]),
        (&["backup", r#"{"source":"x","sorce":7}"#], &["no field `sorce`", "\"source\": \"TEXT\""]),
        (&["backup", r#"{"source"}"#], &["not JSON"]),
        (&["limit", "all"], &["\"all\" is not one of \"none\" | {\"bytes\": 0..}"]),
        (&["limit", r#"{"bytes":-1}"#], &["-1 is less than 0"]),
        (&["limit"], &["required", "ARGUMENTS"]),
        (&["reload", "now"], &["unexpected argument 'now'"]),
        (&["restore"], &["no command `restore`", "backup, limit, opaque, reload, warm"]),
    ];
    for (count, (arguments, words)) in cases.into_iter().enumerate() {
        let said = daemon.kakehi(&[&["call"], arguments].concat()).await;
        assert_eq!((said.code, &*said.stdout), (2, ""), "{arguments:?}: {said:?}");
        for word in words {
            assert!(said.stderr.contains(word), "{arguments:?}: {word:?} is not in {said:?}");
        }
        // The request for the description alone.
        assert_eq!(daemon.handle.stats().ok, count as u64 + 1, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_shows_texts_ranges_choices_and_defaults() {
    let said = Daemon::start().kakehi(&["call", "backup", "--help"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for word in [
        "The copy is compressed.",
        "The file to copy.",
        "--level <0..255>",
        "How hard to compress. [default: 6]",
        "The user of the copy. [pattern: ^[a-z]+$] [default: root]",
        "[at most 2 values]",
        "[form: {\"days\": 0..65535, \"weeks\"?: [0..255, ...]}]",
        "kakehi call backup '{...}'",
        "- fast:  As fast as possible.",
        "(repeat for each value, or give a JSON",
        "--dry-run",
        "kakehi call backup",
    ] {
        assert!(said.stdout.contains(word), "{word:?} is not in {}", said.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_is_for_people_and_for_programs() {
    let daemon = Daemon::start();
    let said = daemon.kakehi(&["describe"]).await;
    let expected = "backupd 2.0\n\nCOMMAND  ACCESS  ABOUT ";
    assert!(said.stdout.starts_with(expected), "{said:?}");
    for words in [
        "\nbackup   change  Copies files. ",
        "  --source TEXT [--dry-run] [--level 0..255] [-...\n",
        "  \"none\" | {\"bytes\": 0..}\n",
        "\nwarm     denied  Loads every key",
        "  --prefix TEXT [--limit 0..]\n",
        "\n\n`kakehi describe COMMAND` shows one in full; `kakehi call COMMAND ARGUMENTS` calls it.\n",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    let wide = daemon.kakehi(&["describe", "-o", "wide"]).await;
    assert!(wide.stdout.contains("[--tags TEXT]\n"), "{}", wide.stdout);
    let said = daemon.kakehi(&["describe", "warm"]).await;
    assert!(said.stdout.contains("You may not call it."), "{said:?}");
    assert!(said.stdout.contains("\nProgress: {\"done\": 0.., \"total\": 0..}\n"), "{said:?}");
    let said = daemon.kakehi(&["describe", "limit"]).await;
    assert!(said.stdout.contains("\nChanges nothing.\n"), "{said:?}");
    assert!(said.stdout.contains("\nReturns: \"none\" | {\"bytes\": 0..}\n"), "{said:?}");
    let said = daemon.kakehi(&["--json", "describe"]).await;
    let all: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(all["commands"][0]["arguments"]["properties"]["level"]["maximum"], 255);
    let json = daemon.kakehi(&["describe", "-o", "json"]).await;
    assert_eq!(json.stdout, said.stdout);
    let names = daemon.kakehi(&["describe", "-o", "name"]).await;
    assert_eq!(names.stdout, "backup\nlimit\nopaque\nreload\nwarm\n");
    let yaml = daemon.kakehi(&["describe", "reload", "-o", "yaml"]).await;
    assert!(yaml.stdout.contains("name: reload\n"), "{yaml:?}");
    let said = daemon.kakehi(&["describe", "reload", "--json"]).await;
    let one: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&one["name"], &one["allowed"]), (&json!("reload"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_text_and_refusals_have_their_exit_status() {
    let daemon = Daemon::start();
    let said = daemon.kakehi(&["call", "backup", "--source", "x"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("x is copied\n"), "{said:?}");
    assert!(said.stderr.contains("copying"), "{said:?}");
    let said = daemon.kakehi(&["call", "warm", "--prefix", "x"]).await;
    assert_eq!(said.code, 77, "{said:?}");
    assert!(said.stderr.contains("warming is switched off"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_says_where_the_command_belongs_and_names_no_command_of_kakehid() {
    let daemon = Daemon::start();
    let bare = daemon.kakehi(&["send", r#"{"backup":{"source":"x"}}"#]).await;
    assert_eq!(bare.code, 76, "{bare:?}");
    assert!(bare.stderr.contains("put the command under \"command\""), "{bare:?}");
    let incomplete = daemon.kakehi(&["send", r#"{"command":{"backup":{"level":0}}}"#]).await;
    assert_eq!(incomplete.code, 76, "{incomplete:?}");
    for word in ["arguments are malformed", "missing field `source`", "kakehi describe COMMAND"] {
        assert!(incomplete.stderr.contains(word), "{word}: {incomplete:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_schemas_are_valid_and_what_is_written_fits() {
    let daemon = Daemon::start();
    let said = daemon.kakehi(&["describe", "--json"]).await;
    let description: Value = serde_json::from_str(&said.stdout).unwrap();
    let whole = [
        "backup",
        "--source=/etc",
        "--level=255",
        "--mode=quiet",
        "--tags=a",
        "--since=-9223372036854775808",
        r#"--retain={"days":65535,"weeks":[0,255]}"#,
        "--ratio=0.5",
    ];
    let (plain, whole) =
        (daemon.call(&["backup", "--source", "x"]).await, daemon.call(&whole).await);
    let with = |field: &str, value: Value| {
        let mut wrong = plain.clone();
        wrong[field] = value;
        wrong
    };
    let examples = [
        ("backup", "arguments", json!({ "source": "x" }), true),
        ("backup", "arguments", plain.clone(), true),
        ("backup", "arguments", whole.clone(), true),
        ("backup", "arguments", with("level", json!(256)), false),
        ("backup", "arguments", with("since", json!(9_223_372_036_854_775_808_u64)), false),
        ("backup", "arguments", with("retain", json!({ "days": 65536 })), false),
        ("backup", "arguments", with("retain", json!({ "days": 1, "weeks": [256] })), false),
        ("backup", "arguments", with("mode", json!("slow")), false),
        ("backup", "reply", json!({ "source": "x" }), false),
        ("backup", "reply", plain, true),
        ("backup", "reply", whole, true),
        ("backup", "progress", json!({ "done": 1, "total": 2 }), true),
        ("limit", "arguments", json!({ "bytes": u32::MAX }), true),
        ("limit", "arguments", json!({ "bytes": -1 }), false),
        ("limit", "reply", json!("none"), true),
        ("reload", "arguments", Value::Null, true),
    ];
    crate::schemas::check(&description, &examples);
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Command)]
struct Wait;

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_of_any_daemon_are_listed_and_cancelled() {
    async fn wait((): (), _: Wait, context: Context<()>) -> Result<(), Failure> {
        context.progress("waiting").await?;
        std::future::pending().await
    }
    let nobody = |_: kakehi::server::Peer| Err("you may see only your own requests");
    let router = Router::new(()).command(wait).control(nobody);
    let daemon = Daemon::serving(router);
    let client = kakehi::Client::connect(daemon.folder.path().join("s")).await.unwrap();
    let mut events = client.call(Wait).id("wait-1").timeout(None).send().await.unwrap();
    events.next().await.unwrap().unwrap();

    let said = daemon.kakehi(&["status"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let [run] = &daemon.handle.running()[..] else { panic!() };
    for word in ["RUN", "REQUEST", "wait", &run.run] {
        assert!(said.stdout.contains(word), "{word}: {said:?}");
    }
    let said = daemon.kakehi(&["cancel", "absent"]).await;
    assert_eq!(said.code, 125, "{said:?}");
    let said = daemon.kakehi(&["cancel", "wait-1"]).await;
    assert_eq!((said.code, &*said.stdout), (0, "cancelled \"wait-1\"\n"), "{said:?}");
    let error = events.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("cancelled by uid"), "{error}");
    let said = daemon.kakehi(&["status", "-o", "name"]).await;
    assert_eq!((said.code, &*said.stdout), (0, ""), "{said:?}");
}
