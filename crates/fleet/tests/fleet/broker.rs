//! Nodes and clients of this crate.

use std::time::{Duration, Instant};

use crate::common::{Broker, Worker, anna, fleet, node, node_with, servers};
use futures::StreamExt;
use kakehi::{command::Invocation, server::Context};
use kakehi_channel::{ErrorKind, Refusal, Status};
use kakehi_client::{ClientSettings, Outcome};
use kakehi_fleet::{Ended, Event, Keys, Node, Responses, Settled, Signer, Summary};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

async fn messages(mut responses: Responses) -> Vec<String> {
    let mut seen = vec![];
    while let Some(response) = timeout(PATIENCE, responses.next()).await.unwrap() {
        seen.push(response.unwrap().message);
    }
    seen
}

fn counted(count: u64) -> Vec<String> {
    (0..count).map(|at| at.to_string()).chain(["counted".to_owned()]).collect()
}

#[tokio::test]
async fn an_absent_node_is_known_at_once_and_nothing_is_sent() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let fleet = fleet(&broker).await;
        let mut fastest = PATIENCE;
        for _ in 0..5 {
            let started = Instant::now();
            let error = fleet.node("nobody").unwrap().request("x").await.unwrap_err();
            fastest = fastest.min(started.elapsed());
            assert!(
                error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Unconnected,
                "{error:?}"
            );
        }
        // The best of five: the machine is shared.
        assert!(fastest < Duration::from_millis(50), "{fastest:?}");
    }
}

#[tokio::test]
async fn a_request_is_answered_by_the_handler_of_a_socket() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (signer, keys) = anna();
        let worker = Worker::default();
        let node = node_with(&broker, "web-1", "role=web", keys, worker.clone()).await;
        let fleet = fleet(&broker).await.signed_by(signer);
        let web = fleet.node("web-1").unwrap();
        assert_eq!(web.request("hello").await.unwrap().message, "hello");
        assert_eq!(web.request("who").await.unwrap().message, "anna [\"sre\"] 4294967295");
        let any = fleet.any("role", "web").unwrap();
        assert_eq!(any.request("hello").await.unwrap().message, "hello");
        let error = web.request("fail").await.unwrap_err();
        assert!(error.outcome() == Outcome::Failed, "{error:?}");
        assert_eq!(error.response().unwrap().message, "it failed");
        let error = web.request("panic").await.unwrap_err();
        assert_eq!(error.response().unwrap().message, "the handler panicked");
        let stats = node.handle.stats();
        assert_eq!((stats.ok, stats.error, stats.panicked), (3, 1, 1));
    }
}

#[derive(Serialize, Deserialize, kakehi::Command)]
#[command(reply = u32)]
struct Add {
    number: u32,
}

async fn add(sum: u32, add: Add, _: Context<()>) -> Result<u32, String> {
    Ok(sum + add.number)
}

#[tokio::test]
async fn a_router_answers_typed_commands() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let node = Node::connect(broker.url(), "web-1").keys(Keys::default().unsigned(true));
        let router = kakehi::Router::new(40).command(add);
        let _node = tokio::spawn(node.serve(router));
        let fleet = fleet(&broker).await;
        while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {}
        let web = fleet.node("web-1").unwrap();
        let sum = web.request(Invocation(Add { number: 2 })).typed::<u32>().await.unwrap();
        assert_eq!(sum.content, Some(42));
        let error = web.request("other").await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Unsupported), "{error:?}");
    }
}

#[tokio::test]
async fn progress_comes_in_order_and_then_one_final_response() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let _node = node(&broker, "web-1", "", Worker::default()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        let responses = web.request(json!({"count": 5_000})).send().await.unwrap();
        assert_eq!(messages(responses).await, counted(5_000));
        let silent = web.request(json!({"sleep": 1_500})).timeout(Duration::from_millis(600));
        assert_eq!(silent.await.unwrap().message, "slept", "keep-alives restart the timeout");
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let _node = node(&broker, "web-1", "", Worker::default()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        let mut responses = web.request(json!({"count": 10_000})).send().await.unwrap();
        let mut seen = vec![];
        while let Some(response) = responses.next().await {
            seen.push(response.unwrap().message);
            if seen.len() % 10 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(seen, counted(10_000));
    }
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_within_a_second() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        // One that speaks, and one that is silent.
        for command in [json!({"count": 100_000, "pause": 1}), json!({"sleep": 600_000})] {
            let before = worker.cancelled();
            let mut responses = web.request(command).send().await.unwrap();
            let _ = timeout(Duration::from_millis(300), responses.next()).await;
            assert_eq!(worker.cancelled(), before);
            drop(responses);
            let dropped = Instant::now();
            while worker.cancelled() == before {
                assert!(dropped.elapsed() < PATIENCE);
                sleep(Duration::from_millis(5)).await;
            }
            assert!(dropped.elapsed() < Duration::from_secs(1), "{:?}", dropped.elapsed());
        }
    }
}

#[tokio::test]
async fn a_deadline_cancels_and_is_told() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        let request = web.request(json!({"sleep": 600_000})).deadline(Duration::from_millis(300));
        let error = request.await.unwrap_err();
        // The node's word may come first.
        assert!(
            error.kind() == ErrorKind::Deadline || error.outcome() == Outcome::Failed,
            "{error:?}"
        );
        while worker.cancelled() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_broker_that_restarts_in_mid_stream_loses_nothing() {
    for server in servers() {
        let mut broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        for command in [json!({"count": 200_000}), json!({"count": 300, "pause": 10})] {
            let count = command["count"].as_u64().unwrap();
            let starts = worker.starts();
            let responses = web.request(command).send().await.unwrap();
            let reading = tokio::spawn(messages(responses));
            sleep(Duration::from_millis(100)).await;
            broker.restart().await;
            assert_eq!(reading.await.unwrap(), counted(count));
            assert_eq!((worker.starts(), worker.cancelled()), (starts + 1, 0));
        }
    }
}

#[tokio::test]
async fn two_nodes_of_one_name_never_run_a_request_twice() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _one = node(&broker, "web-1", "role=web", worker.clone()).await;
        let _two = node(&broker, "web-1", "role=web", worker.clone()).await;
        let fleet = fleet(&broker).await;
        let (web, any) = (fleet.node("web-1").unwrap(), fleet.any("role", "web").unwrap());
        for at in 0..50 {
            let target = if at % 2 == 0 { &web } else { &any };
            target.request("hello").await.unwrap();
        }
        assert_eq!(worker.starts(), 50);
    }
}

#[tokio::test]
async fn an_id_runs_once() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        web.request("hello").id("ID-1").await.unwrap();
        let error = web.request("hello").id("ID-1").await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Malformed), "{error:?}");
        assert_eq!(worker.starts(), 1);
    }
}

#[tokio::test]
async fn unsigned_and_unknown_callers_are_refused_and_nothing_starts() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (_, keys) = anna();
        let worker = Worker::default();
        let _node = node_with(&broker, "web-1", "", keys, worker.clone()).await;
        let unsigned = fleet(&broker).await;
        let eve = unsigned.clone().signed_by(Signer::generate());
        for (fleet, why) in
            [(unsigned, "the request is not signed"), (eve, "the signer's key is not known")]
        {
            let error = fleet.node("web-1").unwrap().request("x").await.unwrap_err();
            assert_eq!(error.refusal(), Some(Refusal::Denied), "{error:?}");
            assert_eq!(error.response().unwrap().message, why);
        }
        assert_eq!(worker.starts(), 0);
    }
}

#[tokio::test]
async fn all_nodes_are_asked_and_a_silent_one_is_a_row() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let mut nodes = vec![];
        for (name, labels) in [("web-1", "role=web"), ("web-2", "role=web"), ("db-1", "role=db")] {
            nodes.push(node(&broker, name, labels, worker.clone()).await);
        }
        let fleet = fleet(&broker).await;
        let all = fleet.all("role=web".parse().unwrap()).expect(["web-9".parse().unwrap()]);
        let mut events = all.send(json!({"count": 3})).await.unwrap();
        let (mut summary, mut ends, mut progress) = (Summary::default(), vec![], 0);
        while let Some((name, event)) = events.next().await {
            match event {
                Event::Progress(response) => {
                    assert_eq!(response.status, Status::Processing);
                    progress += 1;
                }
                Event::Ended(ended, receipt) => {
                    assert_eq!(receipt.unwrap().accept.is_some(), matches!(ended, Ended::Ok(_)));
                    summary.add(&ended);
                    ends.push((name.to_string(), matches!(ended, Ended::Ok(_))));
                }
                Event::Started(_) => {}
            }
        }
        ends.sort();
        let expected = [("web-1", true), ("web-2", true), ("web-9", false)];
        assert_eq!(ends, expected.map(|(name, is_ok)| (name.to_owned(), is_ok)));
        assert_eq!((summary.ok, summary.not_sent, progress), (2, 1, 6));
        assert_eq!(summary.exit_status(), 1);
    }
}

#[tokio::test]
async fn a_bridge_forwards_to_a_socket() {
    for server in servers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let worker = Worker::default();
        let socket = kakehi_server::Socket::bind(&path).listen().unwrap();
        let daemon = tokio::spawn(kakehi_server::serve(socket, worker.clone()).into_future());
        let broker = Broker::start(&server).await;
        let client = kakehi_client::Client::new(&path, ClientSettings::default());
        let bridge = Node::connect(broker.url(), "web-1")
            .keys(Keys::default().unsigned(true))
            .bridge(client);
        let bridge = tokio::spawn(bridge);
        let fleet = fleet(&broker).await;
        while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {}
        let web = fleet.node("web-1").unwrap();
        let responses = web.request(json!({"count": 3})).send().await.unwrap();
        assert_eq!(messages(responses).await, counted(3));
        let error = web.request("fail").await.unwrap_err();
        assert_eq!(error.response().unwrap().message, "it failed");
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = kakehi_channel::TraceContext::new(parent, None);
        assert_eq!(web.request("trace").trace(trace).await.unwrap().message, parent);
        // A dropped request is cancelled behind the bridge, too.
        let mut responses = web.request(json!({"sleep": 600_000})).send().await.unwrap();
        assert!(timeout(Duration::from_millis(300), responses.next()).await.is_err());
        drop(responses);
        timeout(PATIENCE, async {
            while worker.cancelled() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        daemon.abort();
        let _ = daemon.await;
        let error = web.request("hello").await.unwrap_err();
        assert!(error.outcome() == Outcome::Refused, "{error:?}");
        bridge.abort();
    }
}

#[tokio::test]
async fn a_settled_request_tells_its_end_or_is_barred() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (signer, keys) = anna();
        let worker = Worker::default();
        let _node = node_with(&broker, "web-1", "", keys, worker.clone()).await;
        let fleet = fleet(&broker).await.signed_by(signer);
        let web = fleet.node("web-1").unwrap();
        let mut responses = web.request("hello").id("ID-1").send().await.unwrap();
        responses.next().await.unwrap().unwrap();
        let accept = responses.accept().unwrap().to_owned();
        let Settled::Final(response) = fleet.settle(&accept, "ID-1").await.unwrap() else {
            panic!("not final");
        };
        assert_eq!(response.message, "hello");
        let running = web.request(json!({"count": 1_000, "pause": 10})).id("ID-2");
        let mut running = running.send().await.unwrap();
        running.next().await.unwrap().unwrap();
        let settled = fleet.settle(running.accept().unwrap(), "ID-2").await.unwrap();
        assert_eq!(settled, Settled::Running);
        assert_eq!(fleet.settle(&accept, "ID-3").await.unwrap(), Settled::Never);
        let error = web.request("hello").id("ID-3").await.unwrap_err();
        assert!(error.outcome() == Outcome::Refused, "{error:?}");
        let other = accept.replace("web-1.", "web-1.x");
        assert_eq!(fleet.settle(&other, "ID-1").await.unwrap(), Settled::Forgotten);
        let eve = fleet.clone().signed_by(Signer::generate());
        assert_eq!(eve.settle(&accept, "ID-1").await.unwrap(), Settled::NoAnswer);
        assert_eq!(worker.starts(), 2);
    }
}

#[tokio::test]
async fn what_is_over_the_largest_message_is_refused_and_told() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let _node = node(&broker, "web-1", "", Worker::default()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        let error = web.request("x".repeat(2_000_000)).await.unwrap_err();
        assert!(error.outcome() == Outcome::NotSent, "{error:?}");
        assert!(error.to_string().contains("over 1047552"), "{error}");
        let response = web.request(json!({"large": 900_000})).await.unwrap();
        assert_eq!(response.message.len(), 900_000);
        let error = web.request(json!({"large": 2_000_000})).await.unwrap_err();
        assert!(
            error.outcome() == Outcome::Failed && error.to_string().contains("1047552"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_node_that_leaves_its_groups_takes_requests_by_its_name_only() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (stays, leaves) = (Worker::default(), Worker::default());
        let _stays = node(&broker, "web-1", "role=web", stays.clone()).await;
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        let leaving = Node::connect(broker.url(), "web-2")
            .labels("role=web".parse().unwrap())
            .keys(Keys::default().unsigned(true))
            .leave(left)
            .serve(leaves.clone());
        let leaving = tokio::spawn(leaving);
        let fleet = fleet(&broker).await;
        let (any, web) = (fleet.any("role", "web").unwrap(), fleet.node("web-2").unwrap());
        timeout(PATIENCE, async {
            while leaves.starts() == 0 {
                any.request("x").await.unwrap();
            }
            leave.send(()).unwrap();
            sleep(Duration::from_millis(300)).await;
            let before = (stays.starts(), leaves.starts());
            for _ in 0..20 {
                any.request("x").await.unwrap();
            }
            assert_eq!((stays.starts(), leaves.starts()), (before.0 + 20, before.1));
            assert_eq!(web.request("hello").await.unwrap().message, "hello");
        })
        .await
        .unwrap();
        leaving.abort();
    }
}

#[tokio::test]
async fn a_node_that_shuts_down_ends_its_requests_first() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let node = node(&broker, "web-1", "", Worker::default()).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        let responses = web.request(json!({"count": 20, "pause": 20})).send().await.unwrap();
        let reading = tokio::spawn(messages(responses));
        sleep(Duration::from_millis(100)).await;
        node.handle.shutdown();
        assert_eq!(reading.await.unwrap(), counted(20));
        let error = web.request("x").await.unwrap_err();
        assert!(
            error.outcome() == Outcome::NotSent || error.outcome() == Outcome::Refused,
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_broker_that_denies_a_subject_ends_the_request_as_denied() {
    for server in servers() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        let text = "authorization { users = [\
            { user: ops, password: x, permissions: { publish: \"kakehi.node.web-2\", \
              subscribe: \"_INBOX.>\" } } ] }";
        std::fs::write(&config, text).unwrap();
        let broker = Broker::with_config(&server, Some(config)).await;
        let url = broker.url().replace("nats://", "nats://ops:x@");
        let fleet = kakehi_fleet::Fleet::connect(url).await.unwrap();
        let started = Instant::now();
        let error = fleet.node("web-1").unwrap().request("x").await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Denied), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(3));
        let error = fleet.node("web-2").unwrap().request("x").await.unwrap_err();
        assert!(error.outcome() == Outcome::NotSent, "{error:?}");
    }
}

#[tokio::test]
async fn a_flood_of_requests_without_go_starts_nothing() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let keys = Keys::default().unsigned(true);
        let _node = node_with(&broker, "web-1", "", keys, worker.clone()).await;
        let client = async_nats::connect(broker.url()).await.unwrap();
        let mut inbox = client.subscribe("flood").await.unwrap();
        for at in 0..2_000 {
            let payload = format!("{{\"id\":\"F-{at}\",\"version\":0,\"command\":\"x\"}}\0");
            let subject = "kakehi.node.web-1";
            client.publish_with_reply(subject, "flood", payload.into()).await.unwrap();
        }
        let (mut accepts, mut refusals) = (0, 0);
        for _ in 0..2_000 {
            let message = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let is_accept =
                message.headers.is_some_and(|headers| headers.get("Kakehi-Kind").is_some());
            *if is_accept { &mut accepts } else { &mut refusals } += 1;
        }
        assert_eq!((accepts, refusals), (256, 1_744));
        // The places are free again after 5 s.
        sleep(Duration::from_millis(5_500)).await;
        let web = fleet(&broker).await.node("web-1").unwrap();
        assert_eq!(web.request("hello").await.unwrap().message, "hello");
        assert_eq!(worker.starts(), 1);
    }
}

#[tokio::test]
async fn the_permissions_of_the_guide_suffice() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/fleet.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("<!-- permissions.conf -->\n```text\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    for server in servers() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, text).unwrap();
        let broker = Broker::with_config(&server, Some(config)).await;
        let url = |user: &str| broker.url().replace("nats://", &format!("nats://{user}@"));
        let node = Node::connect(url("web-1:node-secret"), "web-1")
            .labels("role=web".parse().unwrap())
            .keys(Keys::default().unsigned(true));
        let node = tokio::spawn(node.serve(Worker::default()));
        let anna = kakehi_fleet::Broker::new(url("anna:anna-secret")).inbox_prefix("_INBOX_anna");
        let fleet = kakehi_fleet::Fleet::connect(anna).await.unwrap();
        let listed =
            async { while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {} };
        timeout(PATIENCE, listed).await.unwrap();
        for target in [fleet.node("web-1").unwrap(), fleet.any("role", "web").unwrap()] {
            let responses = target.request(json!({"count": 100, "pause": 2})).send().await;
            assert_eq!(messages(responses.unwrap()).await, counted(100));
        }
        node.abort();
    }
}

#[tokio::test]
async fn a_replayed_or_forged_go_starts_nothing() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (signer, keys) = anna();
        let worker = Worker::default();
        let _node = node_with(&broker, "web-1", "", keys, worker.clone()).await;
        let eve = async_nats::connect(broker.url()).await.unwrap();
        let mut requests = eve.subscribe("kakehi.node.*").await.unwrap();
        let mut control = eve.subscribe("kakehi.ctl.>").await.unwrap();
        eve.flush().await.unwrap();
        let web = fleet(&broker).await.signed_by(signer).node("web-1").unwrap();
        assert_eq!(web.request("hello").await.unwrap().message, "hello");
        let request = requests.next().await.unwrap();
        let go = control.next().await.unwrap();
        assert_eq!(go.headers.as_ref().unwrap().get("Kakehi-Kind").unwrap().as_str(), "go");
        let headers = go.headers.unwrap();

        // To the same accept, which is used.
        eve.publish_with_headers(go.subject, headers.clone(), "".into()).await.unwrap();
        // To a new accept of the same request, and of an altered one.
        let text = String::from_utf8(request.payload.to_vec()).unwrap();
        let altered = text.replace("hello", "stop!");
        for payload in [request.payload.clone(), altered.into()] {
            let mut inbox = eve.subscribe("eve").await.unwrap();
            eve.publish_with_reply("kakehi.node.web-1", "eve", payload).await.unwrap();
            let accept = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let subject = accept.reply.unwrap();
            eve.publish_with_headers(subject, headers.clone(), "".into()).await.unwrap();
            let answer = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let text = String::from_utf8(answer.payload.to_vec()).unwrap();
            assert!(text.contains("the signature does not match the request"), "{text}");
            assert!(text.contains("\"refused\":\"denied\""), "{text}");
        }
        assert_eq!(worker.starts(), 1);
    }
}

/// The signature of docs/protocol.md, made by hand.
fn signed(key: &nkeys::KeyPair, lines: [&str; 6]) -> String {
    let signature = key.sign(lines.join("\n").as_bytes()).unwrap();
    data_encoding::BASE64.encode(&signature)
}

#[tokio::test]
async fn a_go_for_anything_else_is_refused_and_starts_nothing() {
    use sha2::{Digest, Sha256};
    for server in servers() {
        let broker = Broker::start(&server).await;
        let (signer, keys) = anna();
        let key = nkeys::KeyPair::from_seed(&signer.seed().unwrap()).unwrap();
        let stranger = nkeys::KeyPair::new_user();
        let worker = Worker::default();
        let _node = node_with(&broker, "web-1", "role=web", keys, worker.clone()).await;
        let eve = async_nats::connect(broker.url()).await.unwrap();
        let public = signer.public_key();
        let other = stranger.public_key();
        // Replaces a line of the signed text, or the headers.
        let cases = [
            ("another purpose", 0, "kakehi-settle-0"),
            ("another prefix", 1, "kakehj"),
            ("another node", 3, "node.web-2"),
            ("another label", 3, "any.role.web"),
            ("another accept", 4, "web-1.E.1"),
            ("another request", 5, "00"),
            ("another key", 9, ""),
            ("an unknown signer", 10, ""),
            ("no signature", 11, ""),
            ("no base64", 12, ""),
            ("nothing else", 13, ""),
        ];
        for (what, line, text) in cases {
            let mut inbox = eve.subscribe("eve").await.unwrap();
            let payload =
                format!("{{\"id\":\"G-{line}-{text}\",\"version\":0,\"command\":\"hello\"}}\0");
            let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&payload));
            let subject = "kakehi.node.web-1";
            eve.publish_with_reply(subject, "eve", payload.into()).await.unwrap();
            let accept = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let named = accept.headers.as_ref().unwrap().get("Kakehi-Accept").unwrap().to_string();
            let name = if line == 10 { other.as_str() } else { public };
            let mut lines = ["kakehi-go-0", "kakehi", name, "node.web-1", &named, &digest];
            if let Some(replaced) = lines.get_mut(line) {
                *replaced = text;
            }
            let by = if matches!(line, 9 | 10) { &stranger } else { &key };
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Kakehi-Kind", "go");
            headers.insert("Kakehi-Credit", "16");
            headers.insert("Kakehi-Signer", name);
            match line {
                11 => {}
                12 => headers.insert("Kakehi-Signature", "no base64!"),
                _ => headers.insert("Kakehi-Signature", signed(by, lines)),
            }
            eve.publish_with_headers(accept.reply.unwrap(), headers, "".into()).await.unwrap();
            let answer = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let answer = String::from_utf8(answer.payload.to_vec()).unwrap();
            if line == 13 {
                assert!(answer.contains("\"status\":\"OK\""), "{what}: {answer}");
            } else {
                assert!(answer.contains("\"refused\":\"denied\""), "{what}: {answer}");
                assert_eq!(worker.starts(), 0, "{what}");
            }
        }
        assert_eq!(worker.starts(), 1);
    }
}

#[tokio::test]
async fn a_flood_of_large_requests_without_go_is_bounded() {
    for server in servers() {
        let broker = Broker::start(&server).await;
        let worker = Worker::default();
        let _node = node(&broker, "web-1", "", worker.clone()).await;
        let client = async_nats::connect(broker.url()).await.unwrap();
        let mut inbox = client.subscribe("flood").await.unwrap();
        let large = "x".repeat(1_000_000);
        for at in 0..100 {
            let payload = format!("{{\"id\":\"F-{at}\",\"version\":0,\"command\":\"{large}\"}}\0");
            let subject = "kakehi.node.web-1";
            client.publish_with_reply(subject, "flood", payload.into()).await.unwrap();
        }
        let mut accepts = 0;
        for _ in 0..100 {
            let message = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            let headers = message.headers.unwrap_or_default();
            accepts += usize::from(headers.get("Kakehi-Kind").is_some());
        }
        // 32 MiB of them; places that are free again after 5 s may be taken.
        assert!((33..=70).contains(&accepts), "{accepts}");
        assert_eq!(worker.starts(), 0);
    }
}

#[tokio::test]
async fn a_user_of_the_guides_broker_cannot_take_anothers_subjects() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/fleet.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("<!-- permissions.conf -->\n```text\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    for server in servers() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, text).unwrap();
        let broker = Broker::with_config(&server, Some(config)).await;
        let url = |user: &str| broker.url().replace("nats://", &format!("nats://{user}@"));
        let connect = async |user: &str, password: &str| {
            let options = async_nats::ConnectOptions::new();
            let options = options.user_and_password(user.to_owned(), password.to_owned());
            options.connect(broker.url()).await.unwrap()
        };
        let node = connect("web-1", "node-secret").await;
        // Neither another node's requests, nor the responses to a person, nor control of others.
        let mut taken = vec![];
        for subject in ["kakehi.node.web-2", "kakehi.any.role.db", "_INBOX_anna.>", "kakehi.ctl.>"]
        {
            taken.push(node.subscribe(subject).await.unwrap());
        }
        node.flush().await.unwrap();
        let anna = kakehi_fleet::Broker::new(url("anna:anna-secret")).inbox_prefix("_INBOX_anna");
        let fleet = kakehi_fleet::Fleet::connect(anna).await.unwrap();
        for target in [fleet.node("web-2").unwrap(), fleet.any("role", "db").unwrap()] {
            let error = target.request("x").await.unwrap_err();
            assert!(error.outcome() == Outcome::NotSent, "{error:?}");
        }
        // A node cannot make requests, and a person cannot answer them.
        node.publish("kakehi.node.web-1", "x".into()).await.unwrap();
        let person = connect("anna", "anna-secret").await;
        person.publish("_INBOX_anna.x", "x".into()).await.unwrap();
        person.flush().await.unwrap();
        node.flush().await.unwrap();
        for subscription in &mut taken {
            let message = timeout(Duration::from_millis(200), subscription.next()).await;
            assert!(!matches!(message, Ok(Some(_))), "{message:?}");
        }
    }
}
