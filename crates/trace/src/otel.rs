//! The feature `opentelemetry`: conversions from and to the context of a span.

use std::str::FromStr;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState},
};

use crate::TraceContext;

impl TraceContext {
    /// The trace context of the span in `context`; `None` without a span.
    ///
    /// ```
    /// use kakehi_trace::TraceContext;
    ///
    /// assert_eq!(TraceContext::of(&opentelemetry::Context::new()), None);
    /// ```
    #[must_use]
    pub fn of(context: &Context) -> Option<Self> {
        let span = context.span();
        let span = span.span_context();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        // `None` without a span, whose ids are zero.
        let parent = format!("00-{trace}-{id}-{flags:02x}");
        Self::new(&parent, Some(&span.trace_state().header()))
    }

    /// The context of the span on the other side of the connection.
    #[must_use]
    pub fn to_remote(&self) -> Context {
        let context = Context::new();
        match self.span() {
            Some(span) => context.with_remote_span_context(span),
            None => context,
        }
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
