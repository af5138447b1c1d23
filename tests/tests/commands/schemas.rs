//! The schemas of a description, checked by Python's `jsonschema`.

use std::{
    io::Write,
    path::Path,
    process::{Command as Process, Stdio},
};

use cache::{Change, Drain, Purge, Report, Stats, Step, Warm, Watch, daemon::Cache};
use kakehi::server::{Handle, Socket, serve};
use kakehi_tests::programs::{binary, python_with};
use serde::Serialize;
use serde_json::{Value, json};

const CHECK: &str = r#"
import json, sys
from jsonschema import Draft202012Validator

given = json.load(sys.stdin)
commands = {command["name"]: command for command in given["description"]["commands"]}
assert commands, "no commands"

def ranged(schema):
    if isinstance(schema, list):
        for item in schema:
            ranged(item)
    if isinstance(schema, dict):
        kind = schema.get("type")
        if kind == "integer" or isinstance(kind, list) and "integer" in kind:
            assert {"minimum", "maximum"} <= schema.keys(), schema
        for item in schema.values():
            ranged(item)

for command in commands.values():
    assert isinstance(command["allowed"], bool), command
    for part in ("arguments", "progress", "reply", "fault"):
        if part in command:
            assert command[part].get("$schema", "").endswith("2020-12/schema") or "type" in command[part]
            Draft202012Validator.check_schema(command[part])
            ranged(command[part])
for name, part, value, fits in given["examples"]:
    errors = list(Draft202012Validator(commands[name][part]).iter_errors(value))
    assert (not errors) == fits, (name, part, value, fits, errors)
print(len(commands), "commands,", len(given["examples"]), "examples")
"#;

/// A value of one part of a command, and whether it fits the schema.
pub(crate) type Example = (&'static str, &'static str, Value, bool);

/// Checks each schema of a description, and the examples. `false`: Python lacks `jsonschema`.
pub(crate) fn check(description: &Value, examples: &[Example]) -> bool {
    let Some(python) = python_with("jsonschema") else { return false };
    let mut process = Process::new(python);
    process.args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = process.spawn().unwrap();
    let given = json!({ "description": description, "examples": examples });
    process.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

async fn kakehi(socket: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut process = Process::new(binary("kakehi"));
    process.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fits(name: &'static str, part: &'static str, value: impl Serialize) -> Example {
    (name, part, serde_json::to_value(value).unwrap(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_daemon_describes_itself_in_valid_schemas() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let router = cache::daemon::router(Cache::new(Handle::default()));
    tokio::spawn(serve(Socket::bind(&socket).listen().unwrap(), router).into_future());
    let [description] = &kakehi(&socket, &["describe", "--json"]).await[..] else { panic!() };

    let users = || "users/".to_owned();
    let mut examples = vec![
        fits("warm", "arguments", Warm { prefix: users(), limit: Some(u32::MAX) }),
        fits("warm", "arguments", Warm { prefix: users(), limit: None }),
        fits("warm", "arguments", json!({ "prefix": "", "of_later": 1 })),
        ("warm", "arguments", json!({}), false),
        ("warm", "arguments", json!({ "prefix": 7 }), false),
        ("warm", "arguments", json!({ "prefix": "", "limit": -1 }), false),
        ("warm", "arguments", json!({ "prefix": "", "limit": 4_294_967_296_u64 }), false),
        ("warm", "arguments", json!({ "prefix": "", "limit": 0.5 }), false),
        fits("warm", "progress", Step { done: 0, total: u32::MAX }),
        ("warm", "progress", json!({ "done": 1 }), false),
        ("warm", "progress", json!({ "done": -1, "total": 1 }), false),
        fits("warm", "reply", Report { keys: 3 }),
        ("warm", "reply", json!({ "keys": 1.5 }), false),
        ("warm", "reply", json!({}), false),
        fits("watch", "arguments", Watch { prefix: users() }),
        fits("watch", "arguments", json!({})),
        fits("watch", "progress", Change::Loaded(users())),
        fits("watch", "progress", Change::Removed(users())),
        ("watch", "progress", json!({ "gone": "x" }), false),
        fits("watch", "reply", ()),
        fits("purge", "arguments", Purge { prefix: users() }),
        fits("stats", "arguments", Stats),
        ("stats", "arguments", json!("x"), false),
        fits("drain", "arguments", Drain),
        fits("drain", "reply", ()),
    ];
    // The responses of the daemon.
    for response in
        kakehi(&socket, &["--json", "call", "warm", "--prefix", "a", "--limit", "2"]).await
    {
        let part = if response["status"] == "OK" { "reply" } else { "progress" };
        examples.push(("warm", part, response["content"].clone(), true));
    }
    for response in kakehi(&socket, &["--json", "call", "stats"]).await {
        examples.push(("stats", "reply", response["content"].clone(), true));
    }
    if !check(description, &examples) {
        return;
    }
    let is_root = rustix::process::geteuid().is_root();
    for command in description["commands"].as_array().unwrap() {
        let name = command["name"].as_str().unwrap();
        let allowed = is_root || !matches!(name, "purge" | "drain");
        assert_eq!(command["allowed"], allowed, "{name}");
    }
}
