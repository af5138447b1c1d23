//! The feature `opentelemetry`: the trace context of a span, and a span in its trace.

use std::str::FromStr;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::TraceContext;

impl TraceContext {
    /// The trace context for a client's request with this span. If the span is disabled, the parent of
    /// the request is the current one. `None` without a span.
    ///
    /// ```
    /// assert_eq!(kakehi_trace::TraceContext::of(&tracing::Span::none()), None);
    /// ```
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        span.record("otel.kind", "client");
        Self::read(&span.context())
            .or_else(|| Self::read(&Span::current().context()))
            .or_else(|| Self::read(&Context::current()))
    }

    /// Makes the span of a server's request a child of the client's, and returns the context of the
    /// span for the handler. Without a client's span, the span is the root of a trace. To be called
    /// before the span is entered.
    ///
    /// If the span is disabled, the handler gets the client's context.
    pub fn join(span: &Span, client: Option<Self>) -> Option<Self> {
        let mut parent = Context::new();
        if let Some(remote) = client.as_ref().and_then(Self::span) {
            parent = parent.with_remote_span_context(remote);
        }
        // It fails if the span is disabled or no layer exports it.
        let _ = span.set_parent(parent);
        span.record("otel.kind", "server");
        Self::read(&span.context()).or(client)
    }

    fn read(context: &Context) -> Option<Self> {
        let span = context.span();
        let span = span.span_context();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        // `None` without a span, whose ids are zero.
        let parent = format!("00-{trace}-{id}-{flags:02x}");
        Self::new(&parent, Some(&span.trace_state().header()))
    }

    fn span(&self) -> Option<SpanContext> {
        let mut fields = self.traceparent().split('-').skip(1);
        let trace = TraceId::from_hex(fields.next()?).ok()?;
        let span = SpanId::from_hex(fields.next()?).ok()?;
        let flags = TraceFlags::new(u8::from_str_radix(fields.next()?, 16).ok()?);
        let state = self.tracestate().and_then(|state| TraceState::from_str(state).ok());
        Some(SpanContext::new(trace, span, flags, true, state.unwrap_or_default()))
    }
}
