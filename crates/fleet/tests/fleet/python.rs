//! The client in Python of docs/protocol.md, against a node.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use crate::common::{Broker, Worker, node, servers};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// The code block of docs/protocol.md that follows a marker.
fn example(marker: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n")).unwrap();
    let block = rest.split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

/// Whether `nats-py` is installed.
async fn has_nats() -> bool {
    let import = Command::new("python3").args(["-c", "import nats"]).output().await;
    let is_there = import.is_ok_and(|output| output.status.success());
    if !is_there {
        assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "no nats-py");
        eprintln!("\n*** SKIPPED: no nats-py: pip install nats-py ***\n");
    }
    is_there
}

fn start(broker: &Broker, node: &str, command: &str) -> Child {
    let mut python = Command::new("python3");
    python.args(["-c", &example("fleet-client.py"), &broker.url(), node, command]);
    python.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn run(broker: &Broker, node: &str, command: &str) -> (Option<i32>, String) {
    let Output { status, stdout, .. } =
        start(broker, node, command).wait_with_output().await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[tokio::test]
async fn the_python_client_asks_reads_and_cancels() {
    if !has_nats().await {
        return;
    }
    assert!(example("fleet-client.py").lines().count() <= 80);
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        assert_eq!(run(&broker, "web-1", "\"hello\"").await, (Some(0), "OK hello\n".to_owned()));
        let failed = run(&broker, "web-1", "\"fail\"").await;
        assert_eq!(failed, (Some(1), "ERROR it failed\n".to_owned()));
        let absent = run(&broker, "web-2", "\"hello\"").await;
        assert_eq!(absent, (Some(3), "not sent: web-2 is not connected\n".to_owned()));

        // More batches than one window has.
        let (code, output) = run(&broker, "web-1", r#"{"count":200,"pause":3}"#).await;
        let progress = (0..200).map(|at| format!("PROCESSING {at}\n"));
        let expected: String = progress.chain(["OK counted\n".to_owned()]).collect();
        assert_eq!((code, output), (Some(0), expected));

        let starts = worker.starts();
        let mut child = start(&broker, "web-1", r#"{"sleep":600000}"#);
        while worker.starts() == starts {
            sleep(Duration::from_millis(5)).await;
        }
        // Python must have seen the accept by now: the request has GO.
        let pid = child.id().unwrap().to_string();
        Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
        let interrupted = Instant::now();
        while worker.cancelled() == 0 {
            assert!(interrupted.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(5)).await;
        }
        assert!(interrupted.elapsed() < Duration::from_secs(1), "{:?}", interrupted.elapsed());
        assert_eq!(child.wait().await.unwrap().code(), Some(130));
    }
}
