//! The memory of a node in a flood of requests without GO.

use std::{process::Stdio, time::Duration};

use futures::StreamExt;
use kakehi_fleet::{Keys, Node};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use crate::common::{Broker, Worker, fleet, servers};

const PATIENCE: Duration = Duration::from_secs(60);

/// The URL of the broker, for the process that is the node.
const URL: &str = "KAKEHI_TEST_FLOODED_NODE";

/// The node of the test below, in a process of its own. Does nothing when it runs as a test.
#[tokio::test]
async fn flooded_node() {
    let Ok(url) = std::env::var(URL) else { return };
    let node = Node::connect(url, "web-1").keys(Keys::default().unsigned(true));
    node.serve(Worker::default()).await.unwrap();
}

/// A figure of `/proc/PID/status`, in KiB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_flood_of_requests_without_go_takes_bounded_memory() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let mut node = Command::new(std::env::current_exe().unwrap());
        node.args(["--exact", "flood::flooded_node"]).env(URL, broker.url());
        node.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let node = node.spawn().unwrap();
        let pid = node.id().unwrap();
        let fleet = fleet(&broker).await;
        let listed =
            async { while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {} };
        timeout(PATIENCE, listed).await.unwrap();
        let web = fleet.node("web-1").unwrap();
        web.request("hello").await.unwrap();
        let before = memory(pid, "VmRSS:");

        // 600 MB in large requests, then many small ones, as fast as the broker takes them.
        let client = async_nats::connect(broker.url()).await.unwrap();
        let mut inbox = client.subscribe("flood").await.unwrap();
        tokio::spawn(async move { while inbox.next().await.is_some() {} });
        let large = "x".repeat(1_000_000);
        for (count, command) in [(600, large.as_str()), (50_000, "x")] {
            for at in 0..count {
                let id = format!("F-{count}-{at}");
                let payload =
                    format!("{{\"id\":\"{id}\",\"version\":0,\"command\":\"{command}\"}}\0");
                let subject = "kakehi.node.web-1";
                client.publish_with_reply(subject, "flood", payload.into()).await.unwrap();
            }
            timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
        }
        // The node has answered the flood once it answers this.
        let _ = web.request("hello").await;
        let grown = memory(pid, "VmHWM:") - before;
        // 32 MiB of requests wait for GO; the others are refused as they arrive. The
        // process grows by about 110 MiB: buffers of the connection, and what the allocator keeps.
        assert!(grown < 256 * 1024, "{grown} KiB");
        // The accepted ones are forgotten after 5 s.
        sleep(Duration::from_millis(5_500)).await;
        assert_eq!(web.request("hello").await.unwrap().message, "hello");
    }
}
