//! What `-v` tells: spans and events, a line each, on standard error.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use super::escape::escape;

/// Small, since this process asks one question and ends: spans are never forgotten. What servers
/// say is in there too, so every line is made harmless.
#[derive(Debug)]
pub(crate) struct Log {
    since: Instant,
    spans: Mutex<Spans>,
}

#[derive(Debug, Default)]
struct Spans {
    /// Each as it is shown. The id of one is its place, from 1 on.
    known: Vec<String>,
    entered: Vec<u64>,
}

impl Log {
    /// From here on, everything is told.
    pub(crate) fn start() {
        let log = Self { since: Instant::now(), spans: Mutex::default() };
        // It fails only where there is one already.
        let _ = tracing::subscriber::set_global_default(log);
    }

    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, event: &Event<'_>) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans = self.spans();
        let current = event.parent().map(span::Id::into_u64);
        let current =
            current.or_else(|| spans.entered.last().copied().filter(|_| event.is_contextual()));
        let span = current.and_then(|id| spans.show(id)).unwrap_or_default();
        let seconds = self.since.elapsed().as_secs_f64();
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let Fields { message, others } = fields;
        format!("{seconds:9.6} {level:5} {target}{span}: {message}{others}")
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("kakehi")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let spans = &mut *self.spans();
        spans.known.push(format!(" {}{}", span.metadata().name(), fields.others));
        span::Id::from_u64(spans.known.len() as u64)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(known) = self.spans().find(span.into_u64()) {
            known.push_str(&fields.others);
        }
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let line = format!("{}\n", escape(&self.line(event)));
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn enter(&self, span: &span::Id) {
        self.spans().entered.push(span.into_u64());
    }

    fn exit(&self, span: &span::Id) {
        let entered = &mut self.spans().entered;
        if let Some(place) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(place);
        }
    }
}

impl Spans {
    fn find(&mut self, id: u64) -> Option<&mut String> {
        self.known.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    fn show(&self, id: u64) -> Option<&str> {
        Some(self.known.get(usize::try_from(id).ok()?.checked_sub(1)?)?.as_str())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }
}
