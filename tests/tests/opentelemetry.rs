//! One trace, from the span of a client through servers and jobs to their children.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

use std::{fs, path::Path};

use kakehi::{
    Client, Command, Router, TraceContext,
    server::{Context, Failure, Socket, serve},
};
use kakehi_tests::programs::{Server, binary};
use opentelemetry::trace::{SpanId, SpanKind, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{Instrument, Level, info_span, level_filters::LevelFilter};
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt};

/// Runs `body` with spans of this level, and returns its result and the exported spans.
fn exported<T>(level: Level, body: impl Future<Output = T>) -> (T, Vec<SpanData>) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let subscriber = Registry::default().with(layer.with_filter(LevelFilter::from_level(level)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = tracing::subscriber::with_default(subscriber, || runtime.block_on(body));
    drop(runtime);
    provider.force_flush().unwrap();
    (done, exporter.get_finished_spans().unwrap())
}

/// The only span of this name and kind.
fn only<'s>(spans: &'s [SpanData], name: &str, kind: &SpanKind) -> &'s SpanData {
    let mut found = spans.iter().filter(|span| span.name == name && span.span_kind == *kind);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert!(found.next().is_none(), "several {name} in {spans:#?}");
    span
}

/// The ids in a `traceparent`.
fn ids(traceparent: &str) -> (String, String) {
    let fields: Vec<_> = traceparent.split('-').collect();
    (fields[1].to_owned(), fields[2].to_owned())
}

/// Answers with the trace context of the request.
#[derive(Serialize, Deserialize, Command)]
#[command(reply = String)]
struct Trace;

async fn trace((): (), _: Trace, context: Context<()>) -> Result<String, Failure> {
    Ok(context.trace().map(|trace| trace.traceparent().to_owned()).unwrap_or_default())
}

fn start(path: &Path) {
    let server = serve(Socket::bind(path).listen().unwrap(), Router::new(()).command(trace));
    tokio::spawn(server.into_future());
}

#[test]
fn the_servers_span_is_a_child_of_the_clients_and_the_handler_has_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (traceparent, spans) = exported(Level::DEBUG, async {
        start(&path);
        let client = Client::connect(&path).await.unwrap();
        async { client.call(Trace).await.unwrap() }.instrument(info_span!("caller")).await
    });
    let caller = only(&spans, "caller", &SpanKind::Internal);
    let client = only(&spans, "request", &SpanKind::Client);
    let server = only(&spans, "request", &SpanKind::Server);
    assert_eq!(client.parent_span_id, caller.span_context.span_id());
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert!(server.parent_span_is_remote);
    let (trace, span) = ids(&traceparent);
    assert_eq!(trace, client.span_context.trace_id().to_string());
    assert_eq!(span, server.span_context.span_id().to_string());
    let command = server.attributes.iter().find(|field| field.key.as_str() == "command").unwrap();
    assert_eq!(command.value.as_str(), "\"trace\"");
}

#[test]
fn a_request_without_a_span_of_its_own_belongs_to_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let ((), spans) = exported(Level::INFO, async {
        start(&path);
        let client = Client::connect(&path).await.unwrap();
        async { client.call(Trace).await.map(drop).unwrap() }
            .instrument(info_span!("caller"))
            .await;
    });
    let caller = only(&spans, "caller", &SpanKind::Internal);
    let server = only(&spans, "request", &SpanKind::Server);
    assert_eq!(server.parent_span_id, caller.span_context.span_id());
    assert_eq!(server.span_context.trace_id(), caller.span_context.trace_id());
}

#[test]
fn each_request_without_a_trace_is_the_root_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let ((), spans) = exported(Level::INFO, async {
        start(&path);
        let client = Client::connect(&path).await.unwrap();
        for _ in 0..2 {
            client.call(Trace).await.unwrap();
        }
    });
    let requests: Vec<_> = spans.iter().filter(|span| span.name == "request").collect();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|span| span.parent_span_id == SpanId::INVALID), "{requests:#?}");
    assert_ne!(requests[0].span_context.trace_id(), requests[1].span_context.trace_id());
}

#[test]
fn a_given_trace_context_is_sent_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (traceparent, spans) = exported(Level::DEBUG, async {
        start(&path);
        let client = Client::connect(&path).await.unwrap();
        let request = client.call(Trace).trace(TraceContext::new(parent, Some("vendor=1")));
        request.await.unwrap()
    });
    let server = only(&spans, "request", &SpanKind::Server);
    assert_eq!(server.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(server.span_context.trace_state().header(), "vendor=1");
    assert_eq!(ids(&traceparent).0, "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn a_trace_goes_through_the_daemon_and_a_jobs_child_to_another_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, other) = (folder.path().join("jobs.toml"), folder.path().join("other"));
    // The child of the job is a script that asks another daemon.
    let script = format!(
        "echo \"$TRACEPARENT\"\nsh -c '{} --socket {} call trace'",
        binary("kakehi").display(),
        other.display()
    );
    let text = format!("[job.relay]\nrun = ['sh', '-c', '''{script}''']\n");
    fs::write(&jobs, text).unwrap();
    let daemon = Server::start(&["--jobs", jobs.to_str().unwrap()]);
    let (job, spans) = exported(Level::DEBUG, async {
        start(&other);
        let client = Client::connect(daemon.socket()).await.unwrap();
        let run = client.request(json!({ "run": { "job": "relay" } }));
        let mut responses = run.send().await.unwrap();
        let job = responses.next().await.unwrap().unwrap().message;
        let mut last = responses.next().await.unwrap().unwrap();
        while let Some(response) = responses.next().await {
            last = response.unwrap();
        }
        assert_eq!(last.status, kakehi::Status::Ok, "{last:?}");
        job
    });
    let client = only(&spans, "request", &SpanKind::Client);
    let (trace, parent) = (client.span_context.trace_id(), client.span_context.span_id());
    assert_eq!(ids(&job), (trace.to_string(), parent.to_string()), "the job's environment");
    // `kakehi call` asks for a description first.
    let servers: Vec<_> = spans.iter().filter(|span| span.span_kind == SpanKind::Server).collect();
    assert_eq!(servers.len(), 2, "{servers:#?}");
    for server in servers {
        assert_eq!((server.span_context.trace_id(), server.parent_span_id), (trace, parent));
    }
}
