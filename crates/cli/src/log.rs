//! The log of `-v`: spans and events, one line each, on standard error.

use std::{
    fmt,
    io::{self, Write},
    time::Instant,
};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    fmt::{format::Writer, layer, time::FormatTime},
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use super::escape::escape_bytes;

/// Starts the log.
pub(crate) fn start() {
    let lines = layer().with_writer(|| Escaped).with_timer(Elapsed(Instant::now()));
    let lines = lines.with_ansi(false).with_filter(filter_fn(is_ours));
    // Fails only if a log was started before.
    let _ = registry().with(lines).try_init();
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::DEBUG && metadata.target().starts_with("kakehi")
}

/// The seconds since the start of the program.
struct Elapsed(Instant);

impl FormatTime for Elapsed {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{:.6}", self.0.elapsed().as_secs_f64())
    }
}

/// Standard error, for one line a call. Lines contain what servers send, so each is escaped.
struct Escaped;

impl Write for Escaped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = format!("{}\n", escape_bytes(line.trim_ascii()));
        io::stderr().write_all(text.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
