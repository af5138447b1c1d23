//! The trace context of a request, through the programs.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    fs,
    process::{Command, Stdio},
};

use kakehi_client::{Client, TraceContext};
use kakehi_tests::programs::{Server, binary};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const STATE: &str = "vendor=1,other=2";

/// A server whose job `env` runs a script that prints the trace context of a child. `relay` asks the
/// same server to run `env`, as a script does.
fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.toml");
    let show = r#"sh -c 'echo "$TRACEPARENT $TRACESTATE"; true'"#;
    let relay = format!("'{}' --socket \"$0\" run env", binary("kakehi").display());
    let jobs = format!(
        "[job.env]\nrun = ['sh', '-c', '''{show}''']\n\
         [job.own]\nrun = ['sh', '-c', '''{show}''']\nenv = {{ TRACEPARENT = 'its own' }}\n\
         [job.relay]\nrun = ['sh', '-c', '''{relay}''']\nargs = ['.*']\n"
    );
    fs::write(&file, jobs).unwrap();
    let server = Server::start(&["--jobs", file.to_str().unwrap()]);
    (folder, server)
}

/// The output of `kakehi run`, in an environment with these variables.
fn output(server: &Server, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(binary("kakehi"));
    command.arg("--socket").arg(server.socket()).arg("run").args(arguments).stdin(Stdio::null());
    for name in ["TRACEPARENT", "TRACESTATE"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_trace_goes_from_the_environment_of_a_script_to_the_child_of_a_job() {
    let (_folder, server) = server();
    let socket = server.socket();
    let traced = [("TRACEPARENT", PARENT), ("TRACESTATE", STATE)];
    let both = format!("{PARENT} {STATE}\n");
    assert_eq!(output(&server, &["env"], &traced), both);
    assert_eq!(output(&server, &["relay", socket.to_str().unwrap()], &traced), both);
    assert_eq!(output(&server, &["own"], &traced), format!("its own {STATE}\n"));
    assert_eq!(output(&server, &["env"], &traced[..1]), format!("{PARENT} \n"));
}

#[test]
fn a_malformed_trace_is_not_sent() {
    let (_folder, server) = server();
    for parent in ["", "x", "00-0-0-0", &PARENT.to_uppercase(), &format!("{PARENT}\n")] {
        let variables = [("TRACEPARENT", parent), ("TRACESTATE", STATE)];
        assert_eq!(output(&server, &["env"], &variables), " \n", "{parent:?}");
    }
    let variables = [("TRACEPARENT", PARENT), ("TRACESTATE", "a\nb=1")];
    assert_eq!(output(&server, &["env"], &variables), format!("{PARENT} \n"));
}

#[tokio::test]
async fn a_detached_run_has_the_trace_of_its_request() {
    let (_folder, server) = server();
    let client = Client::connect(server.socket()).await.unwrap();
    let command = serde_json::json!({ "run": { "job": "env", "detach": true } });
    let request = client.request(command).trace(TraceContext::new(PARENT, Some(STATE)));
    let detached = request.await.unwrap().content.unwrap();
    let attach = serde_json::json!({ "attach": { "run": detached["run"] } });
    let mut output = client.request(attach).send().await.unwrap();
    let line = output.next().await.unwrap().unwrap();
    assert_eq!(line.message, format!("{PARENT} {STATE}"));
}

#[tokio::test]
async fn a_hostile_trace_does_not_affect_the_request() {
    let (_folder, server) = server();
    let hostile = ["null", "7", "[[]]", "{\"a\":1}", "\"\\u0000\"", "\"LD_PRELOAD=x\\n\""];
    for parent in
        hostile.into_iter().map(str::to_owned).chain([format!("\"{}\"", "0".repeat(500_000))])
    {
        let text = format!(
            "{{\"id\":\"a\",\"version\":0,\"traceparent\":{parent},\"tracestate\":{parent},\
             \"command\":{{\"run\":{{\"job\":\"env\"}}}}}}\0"
        );
        let lines = raw(&server, text).await;
        assert!(lines.contains("\"message\":\" \"") && lines.contains("\"OK\""), "{lines}");
    }
}

/// The responses to one request.
async fn raw(server: &Server, text: String) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(server.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    all
}
