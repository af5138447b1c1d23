//! The metrics of a server, compared with a journal of its clients' requests.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use kakehi::{
    Command, Refusal, Router,
    client::{Error, ErrorKind, Outcome},
    server::{Context, Failure, Limits, serve},
    testing::{self, TestClient, TestServer},
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Ends as it says.
#[derive(Debug, Serialize, Deserialize, Command)]
struct End {
    how: How,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Ok,
    Error,
    Busy,
    Other,
    Panic,
    Hang,
}

/// The same under another name.
#[derive(Debug, Serialize, Deserialize, Command)]
struct Twin {
    how: How,
}

async fn end(how: How, context: Context<()>) -> Result<(), Failure> {
    match how {
        How::Ok => Ok(()),
        How::Error => Err(Failure::new("on purpose")),
        How::Busy => Err(Failure::refused(Refusal::Busy, "busy")),
        How::Other => Err(Failure::refused(Refusal::Other, "other")),
        How::Panic => panic!("on purpose"),
        How::Hang => {
            context.progress("hanging").await?;
            futures::future::pending().await
        }
    }
}

fn server() -> TestServer {
    let router = Router::new(())
        .command(async |(), command: End, context| end(command.how, context).await)
        .command(async |(), command: Twin, context| end(command.how, context).await);
    testing::connect(router)
}

/// The series of a recorder, as `name{label="value"}`. Those of histograms are the number of values.
type Series = BTreeMap<String, u64>;

fn record<T>(run: impl Future<Output = T>) -> (T, Series) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let done = metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    let series = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let (_, key) = key.into_parts();
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count,
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            DebugValue::Gauge(count) => count.0 as u64,
            DebugValue::Histogram(values) => values.len() as u64,
        };
        (format!("{}{{{}}}", key.name(), labels.join(",")), value)
    });
    (done, series.filter(|(_, value)| *value > 0).collect())
}

/// Adds one to the series that a request must be counted in.
fn note(journal: &mut Series, command: &str, outcome: &str, reason: Option<&str>, started: bool) {
    let mut add = |name: &str, labels: String| {
        *journal.entry(format!("kakehi_server_{name}{{{labels}}}")).or_default() += 1;
    };
    add("requests_total", format!("command={command:?},outcome={outcome:?}"));
    if let Some(reason) = reason {
        add(&format!("{outcome}_requests_total"), format!("command={command:?},reason={reason:?}"));
    }
    if started {
        add("request_duration_seconds", format!("command={command:?}"));
    }
}

/// Makes one request of a random kind, and records its expected outcome.
async fn act(rng: &mut Rng, server: &TestServer, client: &mut TestClient, journal: &mut Series) {
    let command = if rng.bool() { "end" } else { "twin" };
    let ask = |how: How| json!({ command: { "how": how } });
    let kinds = [How::Ok, How::Error, How::Busy, How::Other, How::Panic, How::Hang];
    let (text, outcome, reason) = match rng.usize(..100) {
        0..50 => (ask(kinds[0]), "ok", None),
        50..65 => (ask(kinds[1]), "error", None),
        65..75 => (ask(kinds[2]), "refused", Some("busy")),
        75..78 => (ask(kinds[3]), "refused", Some("other")),
        78..80 => (ask(kinds[4]), "panicked", None),
        80..85 => (json!(7), "refused", Some("malformed")),
        85..90 => (json!(format!("unknown-{}", rng.u32(..))), "refused", Some("unsupported")),
        90..95 => (json!({ command: { "how": "Nonsense" } }), "refused", Some("malformed")),
        95..98 => {
            let error =
                client.connection().request(ask(How::Hang)).deadline(Duration::from_secs(1));
            let error = error.await.unwrap_err();
            assert!(
                error.kind() == ErrorKind::Deadline || error.outcome() == Outcome::Failed,
                "{error:?}"
            );
            return note(journal, command, "cancelled", Some("deadline"), true);
        }
        _ => {
            let mut leaving = server.as_uid(1000);
            let mut responses = leaving.connection().request(ask(How::Hang)).send().await.unwrap();
            assert_eq!(responses.next().await.unwrap().unwrap().message, "hanging");
            return note(journal, command, "cancelled", Some("disconnected"), true);
        }
    };
    let answer: Result<_, Error> = client.connection().request(text).await;
    let refused = answer.as_ref().err().and_then(Error::refusal);
    assert_eq!((answer.is_ok(), refused.is_some()), (outcome == "ok", outcome == "refused"));
    let is_known = !matches!(reason, Some("malformed" | "unsupported"));
    let started = reason != Some("malformed");
    note(journal, if is_known { command } else { "other" }, outcome, reason, started);
}

#[test]
fn the_counters_agree_with_a_journal_of_100_000_requests() {
    std::panic::set_hook(Box::new(|_| {}));
    let ((journal, stats), mut series) = record(async {
        let (mut rng, server, mut journal) = (Rng::with_seed(7), server(), Series::new());
        let mut client = server.as_uid(1000);
        for _ in 0..100_000 {
            act(&mut rng, &server, &mut client, &mut journal).await;
        }
        drop(client);
        let handle = server.handle().clone();
        while handle.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (journal, handle.stats())
    });
    let sum = |name: &str, label: &str| -> u64 {
        let named = |key: &str| key.starts_with(name) && key.contains(label);
        series.iter().filter(|(key, _)| named(key)).map(|(_, count)| count).sum()
    };
    assert_eq!(sum("kakehi_server_requests_total", ""), 100_000);
    for (outcome, count) in [
        ("ok", stats.ok),
        ("error", stats.error),
        ("refused", stats.refused_requests),
        ("cancelled", stats.cancelled),
        ("panicked", stats.panicked),
    ] {
        assert_eq!(
            sum("kakehi_server_requests_total", &format!("{outcome:?}")),
            count,
            "{outcome}"
        );
        assert!(count > 1000, "{outcome}: {count}");
    }
    assert_eq!(sum("kakehi_server_received_bytes_total", ""), stats.bytes_received);
    assert_eq!(sum("kakehi_server_sent_bytes_total", ""), stats.bytes_sent);
    series.retain(|key, _| !key.contains("_bytes_total"));
    assert_eq!(series, journal);
}

#[test]
fn a_request_that_runs_is_counted_as_running() {
    let (_server, series) = record(async {
        let server = server();
        let mut client = server.as_uid(0);
        let mut responses =
            client.connection().request(json!({ "end": { "how": "Hang" } })).send().await.unwrap();
        responses.next().await.unwrap().unwrap();
        server
    });
    let running = "kakehi_server_requests_running{command=\"end\"}";
    assert_eq!(series.get(running), Some(&1), "{series:?}");
    assert!(!series.keys().any(|key| key.contains("requests_total")), "{series:?}");
}

#[test]
fn the_names_of_commands_are_bounded() {
    let ((), series) = record(async {
        // A handler that takes any command: its clients choose the names.
        let server =
            testing::connect(async |_: kakehi::Request<Value>, _: Context| Ok::<_, String>(()));
        let mut client = server.as_uid(0);
        for number in 0..1000 {
            client.connection().request(json!(format!("name-{number}"))).await.unwrap();
        }
        client.connection().request(json!("x".repeat(100_000))).await.unwrap();
        client.connection().request(json!("a\u{7f}b\n")).await.unwrap();
        let message = kakehi::Request::new("a");
        client.connection().message(message).await.unwrap();
    });
    let names: std::collections::BTreeSet<_> = series
        .keys()
        .filter_map(|key| key.split_once("command=\""))
        .filter_map(|(_, rest)| rest.split_once('"'))
        .map(|(name, _)| name)
        .collect();
    assert!(names.len() <= 129 && names.contains("other"), "{names:?}");
    let other = series["kakehi_server_requests_total{command=\"other\",outcome=\"ok\"}"];
    assert!(other >= 1003 - 128, "{other}");
}

#[test]
fn refused_connections_are_counted_by_reason() {
    let ((), series) = record(async {
        let router =
            Router::new(()).command(async |(), End { how }, context| end(how, context).await);
        let server = testing::connect_with(|listener| {
            serve(listener, router).limits(Limits { connections: 1, ..Limits::default() })
        });
        let own = kakehi::server::Peer::own().uid;
        server.as_uid(own + 1).connection().request("x").await.unwrap_err();
        let mut first = server.as_uid(own);
        let hang = json!({ "end": { "how": "Hang" } });
        let mut responses = first.connection().request(hang).send().await.unwrap();
        responses.next().await.unwrap().unwrap();
        server.as_uid(own).connection().request("x").await.unwrap_err();
    });
    let count = |reason: &str| {
        series[&format!("kakehi_server_refused_connections_total{{reason={reason:?}}}")]
    };
    assert_eq!((count("busy"), count("denied")), (1, 1));
}
