//! The feature `opentelemetry`: the span of a request belongs to the trace of its client.

use std::str::FromStr;

use kakehi_channel::TraceContext;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes the span a child of the client's, and returns the context of the span for the handler. Without
/// a client's span, the span is the root of a trace. To be called before the span is entered.
///
/// If the span is disabled, the handler gets the client's context.
pub(crate) fn join(span: &Span, client: Option<TraceContext>) -> Option<TraceContext> {
    let parent = client.as_ref().and_then(remote);
    let parent =
        parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
    // It fails if the span is disabled or no layer exports it.
    let _ = span.set_parent(parent);
    span.record("otel.kind", "server");
    of(&span.context()).or(client)
}

/// The context of the client's span.
fn remote(client: &TraceContext) -> Option<SpanContext> {
    let mut fields = client.traceparent().split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let span = SpanId::from_hex(fields.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(fields.next()?, 16).ok()?);
    let state = client.tracestate().and_then(|state| TraceState::from_str(state).ok());
    Some(SpanContext::new(trace, span, flags, true, state.unwrap_or_default()))
}

fn of(context: &Context) -> Option<TraceContext> {
    let span = context.span();
    let span = span.span_context();
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    // `None` without a span, whose ids are zero.
    let parent = format!("00-{trace}-{id}-{flags:02x}");
    TraceContext::new(&parent, Some(&span.trace_state().header()))
}
