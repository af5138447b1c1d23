//! The feature `opentelemetry`: the span of a request belongs to the trace of its client.

use kakehi_channel::TraceContext;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes the span a child of the client's, and returns the context of the span for the handler. Without
/// a client's span, the span is the root of a trace. To be called before the span is entered.
///
/// If the span is disabled, the handler gets the client's context.
pub(crate) fn join(span: &Span, client: Option<TraceContext>) -> Option<TraceContext> {
    let parent = client.as_ref().map(TraceContext::to_remote).unwrap_or_default();
    // It fails if the span is disabled or no layer exports it.
    let _ = span.set_parent(parent);
    span.record("otel.kind", "server");
    TraceContext::of(&span.context()).or(client)
}
