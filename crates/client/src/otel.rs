//! The feature `opentelemetry`: requests belong to the trace of the current span.

use kakehi_channel::TraceContext;
use opentelemetry::{Context, trace::TraceContextExt};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace context for a request with this span. If the request's span is disabled, its parent is the
/// current one.
pub(crate) fn context(span: &Span) -> Option<TraceContext> {
    span.record("otel.kind", "client");
    of(&span.context())
        .or_else(|| of(&Span::current().context()))
        .or_else(|| of(&Context::current()))
}

fn of(context: &Context) -> Option<TraceContext> {
    let span = context.span();
    let span = span.span_context();
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    // `None` without a span, whose ids are zero.
    let parent = format!("00-{trace}-{id}-{flags:02x}");
    TraceContext::new(&parent, Some(&span.trace_state().header()))
}
