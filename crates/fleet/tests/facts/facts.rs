//! The facts.

use std::{
    path::PathBuf,
    pin::Pin,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kakehi_client::Outcome;
use kakehi_fleet::{Fleet, Responses};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    brokers::{Brokers, Topology},
    processes::{Log, Process, is_reached, signal},
    proxy::Proxy,
};

type Fact = fn(PathBuf, Topology) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// More than a busy machine delays a cancellation.
const SLACK: Duration = Duration::from_secs(4);

const STREAM: u64 = 200_000;

macro_rules! facts {
    ($($fact:ident),* $(,)?) => {
        [$((stringify!($fact), (|server, topology| Box::pin($fact(server, topology))) as Fact)),*]
    };
}

/// The facts for brokers that are joined in this way.
pub(crate) fn of(topology: Topology) -> Vec<(&'static str, Fact)> {
    let everywhere = facts![
        a_request_is_answered_with_all_output,
        an_absent_node_is_known_at_once,
        a_dropped_request_is_cancelled_within_a_second,
        a_killed_client_is_found_in_time,
        a_partitioned_client_is_found_within_20_s,
    ];
    let joined = facts![
        a_stale_request_never_starts,
        a_stopped_client_is_found_within_20_s,
        a_restart_of_the_clients_broker_loses_nothing,
        a_restart_of_the_nodes_broker_loses_nothing,
        a_slow_reader_loses_nothing,
        a_stopped_node_cancels_nothing,
        two_nodes_of_one_name_run_each_request_once,
    ];
    let of_cluster = facts![
        the_death_of_the_clients_broker_cancels_nothing,
        the_death_of_the_nodes_broker_cancels_nothing,
    ];
    let mut facts = everywhere.to_vec();
    if matches!(topology, Topology::Alone | Topology::Cluster) {
        facts.extend(joined);
    }
    if topology == Topology::Cluster {
        facts.extend(of_cluster);
    }
    facts
}

/// Brokers, a node `web-1` and a client.
struct World {
    brokers: Brokers,
    log: Log,
    node: Process,
    fleet: Fleet,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(server: PathBuf, topology: Topology) -> Self {
        let brokers = Brokers::start(&server, topology).await;
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path());
        let node = Process::node(&brokers.node_url(), "web-1", &log).await;
        let fleet = Fleet::connect(brokers.client_url()).await.unwrap();
        is_reached(&fleet, "web-1").await;
        Self { brokers, log, node, fleet, _folder: folder }
    }

    async fn send(&self, command: Value) -> Responses {
        let target = self.fleet.node("web-1").unwrap();
        target.request(command).timeout(None).send().await.unwrap()
    }
}

/// Reads all progress and the final response, and checks that no response is missing.
async fn read_all(mut responses: Responses, count: u64) {
    let mut next = 0;
    while let Some(response) = responses.next().await {
        let message = response.unwrap().message;
        if next < count {
            assert_eq!(message, next.to_string());
        } else {
            assert_eq!(message, "done");
        }
        next += 1;
    }
    assert_eq!(next, count + 1);
    assert!(responses.is_complete());
}

async fn a_request_is_answered_with_all_output(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    read_all(world.send(json!({ "count": 10_000 })).await, 10_000).await;
    assert_eq!((world.log.count("start"), world.log.count("end")), (1, 1));
}

async fn an_absent_node_is_known_at_once(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let absent = world.fleet.node("nobody").unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let error = absent.request("x").await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        fastest = fastest.min(started.elapsed());
    }
    // The best of 20, because the machine is shared.
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

async fn a_dropped_request_is_cancelled_within_a_second(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let mut fastest = Duration::MAX;
    for at in 1..=3 {
        let responses = world.send(json!({ "sleep": 600_000 })).await;
        world.log.until("start", at, SLACK).await;
        drop(responses);
        fastest = fastest.min(world.log.until("cancelled", at, SLACK).await);
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

/// Across gateways no 503 comes, so that only silence counts.
async fn a_killed_client_is_found_in_time(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let url = world.brokers.client_url();
    let client = Process::client(&url, "web-1", &json!({ "sleep": 600_000 }));
    world.log.until("start", 1, Duration::from_secs(30)).await;
    sleep(Duration::from_millis(500)).await;
    client.kill().await;
    let most = if topology == Topology::Gateway { 20 } else { 12 };
    world.log.until("cancelled", 1, Duration::from_secs(most)).await;
}

async fn a_stopped_client_is_found_within_20_s(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let url = world.brokers.client_url();
    let client = Process::client(&url, "web-1", &json!({ "sleep": 600_000 }));
    world.log.until("start", 1, Duration::from_secs(30)).await;
    client.signal("-STOP").await;
    let time = world.log.until("cancelled", 1, Duration::from_secs(20)).await;
    assert!(time > Duration::from_secs(10), "a short stop cancels nothing: {time:?}");
}

async fn a_partitioned_client_is_found_within_20_s(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let proxy = Proxy::start(world.brokers.0[0].port).await;
    let fleet = Fleet::connect(proxy.url()).await.unwrap();
    is_reached(&fleet, "web-1").await;
    let target = fleet.node("web-1").unwrap();
    let responses = target.request(json!({ "sleep": 600_000 })).timeout(None).send().await.unwrap();
    world.log.until("start", 1, Duration::from_secs(30)).await;
    proxy.cut();
    world.log.until("cancelled", 1, Duration::from_secs(20)).await;
    drop(responses);
}

/// 1,000 requests that their clients gave up before the broker could deliver them.
async fn a_stale_request_never_starts(server: PathBuf, topology: Topology) {
    const ROUNDS: usize = 10;
    const TRIES: usize = 100;
    let mut world = World::new(server, topology).await;
    let raw = async_nats::connect(world.brokers.client_url()).await.unwrap();
    let target = world.fleet.node("web-1").unwrap();
    for round in 0..ROUNDS {
        // Brokers that are stopped take the requests and deliver them later; ones that are killed
        // come back to clients that have kept theirs.
        let is_stopped = round % 2 == 0;
        for broker in &mut world.brokers.0 {
            if is_stopped {
                signal(broker.pid(), "-STOP").await;
            } else {
                broker.kill();
            }
        }
        // All threads of the brokers have stopped by then.
        sleep(Duration::from_millis(300)).await;
        let requests = (0..TRIES).map(|_| {
            target.request(json!({ "sleep": 1 })).timeout(Duration::from_millis(300)).into_future()
        });
        for given_up in join_all(requests).await {
            let error = given_up.unwrap_err();
            assert_eq!(error.outcome(), Outcome::NotSent, "{error:?}");
        }
        for at in 0..TRIES {
            let text = format!("{{\"id\":\"S-{round}-{at}\",\"version\":0,\"command\":{{}}}}\0");
            let published = raw.publish_with_reply("kakehi.node.web-1", "nobody", text.into());
            let _ = tokio::time::timeout(Duration::from_millis(1), published).await;
        }
        for broker in &mut world.brokers.0 {
            if is_stopped {
                signal(broker.pid(), "-CONT").await;
            } else {
                broker.revive().await;
            }
        }
        is_reached(&world.fleet, "web-1").await;
        sleep(Duration::from_millis(500)).await;
    }
    // No accept waits any longer.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.log.count("start"), 0);
    read_all(world.send(json!({ "count": 1 })).await, 1).await;
    assert_eq!(world.log.count("start"), 1);
}

async fn a_restart_of_the_clients_broker_loses_nothing(server: PathBuf, topology: Topology) {
    restart(server, topology, 0).await;
}

async fn a_restart_of_the_nodes_broker_loses_nothing(server: PathBuf, topology: Topology) {
    let last = if topology == Topology::Cluster { 2 } else { 0 };
    restart(server, topology, last).await;
}

/// Under a stream at full speed.
async fn restart(server: PathBuf, topology: Topology, at: usize) {
    let mut world = World::new(server, topology).await;
    let reading = tokio::spawn(read_all(world.send(json!({ "count": STREAM })).await, STREAM));
    sleep(Duration::from_millis(200)).await;
    world.brokers.0[at].kill();
    world.brokers.0[at].revive().await;
    reading.await.unwrap();
    assert_eq!((world.log.count("start"), world.log.count("end")), (1, 1));
}

/// 100,000 messages, one each millisecond.
async fn a_slow_reader_loses_nothing(server: PathBuf, topology: Topology) {
    const COUNT: u64 = 100_000;
    // The behaviour of the client and the node is the same in a cluster.
    let count = if topology == Topology::Alone { COUNT } else { COUNT / 10 };
    let world = World::new(server, topology).await;
    let mut responses = world.send(json!({ "count": count })).await;
    let (mut next, started) = (0, Instant::now());
    while let Some(response) = responses.next().await {
        let message = response.unwrap().message;
        assert!(message == next.to_string() || (next == count && message == "done"));
        next += 1;
        let due = started + Duration::from_millis(next);
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    assert_eq!(next, count + 1);
}

async fn a_stopped_node_cancels_nothing(server: PathBuf, topology: Topology) {
    let world = World::new(server, topology).await;
    let reading =
        tokio::spawn(read_all(world.send(json!({ "count": 100, "pause": 50 })).await, 100));
    world.log.until("start", 1, Duration::from_secs(30)).await;
    sleep(Duration::from_secs(1)).await;
    world.node.signal("-STOP").await;
    sleep(Duration::from_secs(18)).await;
    world.node.signal("-CONT").await;
    reading.await.unwrap();
    assert_eq!((world.log.count("start"), world.log.count("cancelled")), (1, 0));
}

async fn two_nodes_of_one_name_run_each_request_once(server: PathBuf, topology: Topology) {
    const COUNT: usize = 100;
    let world = World::new(server, topology).await;
    let other = Process::node(&world.brokers.node_url(), "web-1", &world.log).await;
    let target = world.fleet.node("web-1").unwrap();
    let mut requests = vec![];
    for at in 0..COUNT {
        let request = target.request(json!({ "sleep": 10 })).timeout(Duration::from_secs(30));
        requests.push(tokio::spawn(request.into_future()));
        if at == COUNT / 2 {
            // The client asks again for each request of this node; the other node runs it.
            other.signal("-STOP").await;
        }
    }
    sleep(Duration::from_secs(3)).await;
    other.signal("-CONT").await;
    for request in requests {
        request.await.unwrap().unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.log.count("start"), COUNT);
}

async fn the_death_of_the_clients_broker_cancels_nothing(server: PathBuf, topology: Topology) {
    death(server, topology, 0).await;
}

async fn the_death_of_the_nodes_broker_cancels_nothing(server: PathBuf, topology: Topology) {
    death(server, topology, 2).await;
}

/// For good, so that the side that was connected to it goes to another broker.
async fn death(server: PathBuf, topology: Topology, at: usize) {
    let mut world = World::new(server, topology).await;
    let speaks = world.send(json!({ "count": 500, "pause": 20 })).await;
    let silent = world.send(json!({ "sleep": 20_000 })).await;
    let reading = tokio::spawn(read_all(speaks, 500));
    let waiting = tokio::spawn(read_all(silent, 0));
    world.log.until("start", 2, Duration::from_secs(30)).await;
    sleep(Duration::from_secs(1)).await;
    world.brokers.0[at].kill();
    reading.await.unwrap();
    waiting.await.unwrap();
    assert_eq!((world.log.count("start"), world.log.count("cancelled")), (2, 0));
}
