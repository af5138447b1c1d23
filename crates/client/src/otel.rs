//! The feature `opentelemetry`: requests belong to the trace of the current span.

use kakehi_channel::TraceContext;
use opentelemetry::Context;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace context for a request with this span. If the request's span is disabled, its parent is the
/// current one.
pub(crate) fn context(span: &Span) -> Option<TraceContext> {
    span.record("otel.kind", "client");
    TraceContext::of(&span.context())
        .or_else(|| TraceContext::of(&Span::current().context()))
        .or_else(|| TraceContext::of(&Context::current()))
}
