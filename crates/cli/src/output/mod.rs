//! Results go to standard output, everything else to standard error.

mod chunks;
mod closed;
mod live;
mod paint;
mod pipe;
mod queue;

use std::{future::Future, ops::Range, pin::pin, time::Duration};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::{
    chunks::{Chunks, LONG, for_job, for_json, for_terminal},
    live::Live,
    queue::{
        Queue,
        To::{Stderr, Stdout},
    },
};
pub(crate) use self::{
    live::steps,
    paint::{Paint, When, is_dumb},
    pipe::Pipe,
    queue::{To, Unwritable},
};
use super::{args::Options, escape::escape, exit, failure::Failure};

/// Both streams, and the live line. Bytes are queued in order and written by
/// [`flush`](Self::flush) or while [waiting](Self::wait): in large batches if many come, line by
/// line if few do.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub(crate) struct Output {
    queue: Queue,
    live: Option<Live>,
    is_json: bool,
    is_quiet: bool,
    /// Standard output is a pipe, and standard error a terminal.
    is_paged: bool,
    /// Shown as on a terminal, whatever it is.
    is_captured: bool,
    /// When a stream that is not read ends the request.
    deadline: Option<Instant>,
    /// The colours of standard output.
    pub(crate) paint: Paint,
    paint_stderr: Paint,
}

impl Output {
    pub(crate) fn new(options: &Options) -> Self {
        let plain = Self::plain(options.json);
        let [stdout, stderr] = [Stdout, Stderr].map(|to| plain.queue.pipe(to).is_terminal());
        // A pager shares the terminal, so nothing but errors is written beside it.
        let is_paged = stderr && plain.queue.pipe(Stdout).is_piped();
        let is_silent = options.json || options.quiet || options.verbose || is_paged;
        let deadline = options.clocks().deadline.filter(|deadline| !deadline.is_zero());
        Self {
            live: (stderr && !is_silent && !is_dumb()).then(Live::new),
            paint: Paint::new(options.color, stdout),
            paint_stderr: Paint::new(options.color, stderr),
            is_quiet: options.quiet,
            is_paged,
            deadline: deadline.and_then(|deadline| Instant::now().checked_add(deadline)),
            ..plain
        }
    }

    /// For use before the options are known.
    pub(crate) fn plain(is_json: bool) -> Self {
        Self {
            queue: Queue::new(),
            live: None,
            is_json,
            is_quiet: false,
            is_paged: false,
            is_captured: false,
            deadline: None,
            paint: Paint::NONE,
            paint_stderr: Paint::NONE,
        }
    }

    /// Keeps its bytes as if both streams were terminals, with or without a live line.
    pub(crate) fn captured(options: &Options, has_live: bool) -> Self {
        Self { live: has_live.then(Live::new), is_captured: true, ..Self::new(options) }
    }

    /// Adds what the live line shows now.
    pub(crate) fn capture_live(&mut self, columns: usize) {
        if let Some(live) = &self.live {
            let text = live.text(columns);
            self.queue.put(Stderr, text.as_bytes());
        }
    }

    /// All bytes that would have been written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.queue.into_bytes()
    }

    /// Whether a terminal shows the stream.
    pub(crate) fn is_terminal(&self, to: To) -> bool {
        self.is_captured || self.queue.pipe(to).is_terminal()
    }

    /// Whether a person reads standard error, and no pager shares the terminal.
    pub(crate) fn tells_success(&self) -> bool {
        self.is_terminal(Stderr) && !self.is_paged
    }

    /// The width of the terminal that shows standard output.
    pub(crate) fn columns(&self) -> Option<usize> {
        self.queue.pipe(Stdout).columns()
    }

    /// When the request must end.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn notes(&self) -> Notes {
        Notes { live: self.live.clone(), is_silent: self.is_json || self.is_quiet }
    }

    /// Unchanged bytes for standard output.
    pub(crate) fn result(&mut self, bytes: &[u8]) {
        self.queue.put(Stdout, bytes);
    }

    /// Unchanged bytes for standard error.
    pub(crate) fn aside(&mut self, bytes: &[u8]) {
        self.queue.put(Stderr, bytes);
    }

    /// Bytes of a job, unchanged or escaped. Tabs are never escaped.
    pub(crate) fn job(&mut self, to: To, bytes: Vec<u8>, is_raw: bool, end: &'static [u8]) {
        let escape = (!is_raw).then_some(for_job as chunks::Escape);
        self.text(to, bytes, escape, end);
    }

    /// A line of text on standard output.
    pub(crate) fn result_line(&mut self, label: &str, message: String) {
        self.line(Stdout, label, message);
    }

    /// JSON for standard output, on a line of its own.
    pub(crate) fn result_json(&mut self, json: Vec<u8>, range: Range<usize>) {
        if range.len() < LONG {
            self.queue.put(Stdout, &for_json(json.get(range).unwrap_or_default()));
            return self.queue.put(Stdout, b"\n");
        }
        self.queue.put_chunks(Stdout, Chunks::new(json, range, Some(for_json), b"\n"));
    }

    /// A part of a result: a message and JSON on one line.
    pub(crate) fn result_item(&mut self, message: String, json: Vec<u8>, content: Range<usize>) {
        if !message.is_empty() {
            self.text(Stdout, message.into_bytes(), Some(for_terminal), b" ");
        }
        self.result_json(json, content);
    }

    /// Progress on a line of standard error.
    pub(crate) fn remark(&mut self, message: String) {
        if !self.is_paged && !message.is_empty() {
            self.note("processing:", message);
        }
    }

    /// Progress: in the live line, or on a line of standard error.
    pub(crate) fn progress(&mut self, message: String, steps: Option<(u64, u64)>) {
        self.live_progress(&message, steps);
        if self.live.is_none() {
            self.remark(message);
        }
    }

    /// Progress in the live line, if there is one.
    pub(crate) fn live_progress(&self, message: &str, steps: Option<(u64, u64)>) {
        if let Some(live) = &self.live {
            live.progress(message, steps);
        }
    }

    /// A line on standard error, for a person.
    pub(crate) fn note(&mut self, label: &str, message: String) {
        if !self.is_quiet && !self.is_json {
            self.end_line();
            self.line(Stderr, label, message);
        }
    }

    /// How the job of a `run` failed, in a line on standard error.
    pub(crate) fn job_failed(&mut self, message: String) {
        self.end_line();
        let label = self.paint_stderr.bad("failed:");
        self.line(Stderr, &label, message);
    }

    /// The final error: on standard error, or the last line of `--json`.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if self.is_json {
            self.result(format!("{}\n", failure.json()).as_bytes());
        } else {
            self.end_line();
            self.aside(failure.text(&self.paint_stderr.bad("error:")).as_bytes());
        }
    }

    fn line(&mut self, to: To, label: &str, message: String) {
        if !label.is_empty() {
            self.queue.put(to, format!("{label} ").as_bytes());
        }
        self.text(to, message.into_bytes(), Some(for_terminal), b"\n");
    }

    fn text(&mut self, to: To, text: Vec<u8>, escape: Option<chunks::Escape>, end: &'static [u8]) {
        if text.len() >= LONG {
            let chunks = Chunks::new(text, 0..usize::MAX, escape, end);
            return self.queue.put_chunks(to, chunks);
        }
        match escape {
            Some(escape) => self.queue.put(to, &escape(&text)),
            None => self.queue.put(to, &text),
        }
        self.queue.put(to, end);
    }

    /// Ends a line of a job that has no newline, so that the next line starts at the left.
    fn end_line(&mut self) {
        if self.queue.is_mid_line() && self.queue.pipe(Stderr).is_terminal() {
            self.aside(b"\n");
        }
    }

    /// Removes the live line until it turns again; it then counts from now.
    pub(crate) fn pause(&mut self) {
        if let Some(live) = &mut self.live {
            live.hide();
            *live = Live::new();
        }
    }

    /// Removes the live line permanently.
    pub(crate) fn finish(&mut self) {
        if let Some(live) = self.live.take() {
            live.hide();
        }
    }

    /// Whether enough is gathered to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Writes everything before the deadline; the live line makes room. Cancel safe: bytes that are
    /// not written stay in the queue.
    pub(crate) async fn flush(&mut self) -> Result<(), Unwritable> {
        match self.deadline {
            None => self.flush_all().await,
            Some(at) => timeout_at(at, self.flush_all()).await.unwrap_or(Err(Unwritable::Late)),
        }
    }

    async fn flush_all(&mut self) -> Result<(), Unwritable> {
        let covered = self.live.as_ref().filter(|_| self.queue.has_terminal());
        covered.inspect(|live| live.hide());
        self.queue.flush().await?;
        covered.filter(|_| !self.queue.is_mid_line()).inspect(|live| live.show());
        Ok(())
    }

    /// Writes as much as is taken within `time`; then standard error alone, for as long again.
    pub(crate) async fn flush_within(&mut self, time: Duration) {
        if timeout(time, self.flush_all()).await.is_err() {
            self.queue.forget_stdout();
            let _ = timeout(time, self.flush_all()).await;
        }
    }

    /// Writes everything, and waits for `next` with the live line turning. After an error, `next`
    /// has lost nothing.
    pub(crate) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Unwritable> {
        self.flush().await?;
        let mut next = pin!(next);
        loop {
            tokio::select! {
                biased;
                next = &mut next => return Ok(next),
                () = sleep(live::TICK) => {
                    // Without a reader, the result is of no use.
                    if self.queue.pipe(Stdout).is_closed() {
                        return Err(Unwritable::Closed);
                    }
                    let live = self.live.as_ref().filter(|_| !self.queue.is_mid_line());
                    live.inspect(|live| live.turn());
                }
            }
        }
    }

    /// Prints `bytes` and nothing else. Returns the exit status.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> u8 {
        self.result(bytes);
        self.flush_now(exit::OK)
    }

    /// Ends with a failure. Returns the exit status.
    pub(crate) fn end(&mut self, failure: &Failure) -> u8 {
        self.finish();
        self.failure(failure);
        self.flush_now(failure.code)
    }

    /// Writes everything, and blocks while it must. Returns the exit status: `code`, unless
    /// standard output cannot be written.
    pub(crate) fn flush_now(&mut self, code: u8) -> u8 {
        match self.queue.flush_now() {
            Ok(()) | Err(Unwritable::Late) => code,
            Err(Unwritable::Closed) => exit::STDOUT_CLOSED,
            Err(Unwritable::Failed(error)) => {
                let text = Failure::output(&error).text(&self.paint_stderr.bad("error:"));
                let _ = self.queue.pipe(Stderr).write_all(text.as_bytes());
                exit::OUTPUT
            }
        }
    }
}

/// Writes to standard error while something else holds the [`Output`].
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    live: Option<Live>,
    is_silent: bool,
}

impl Notes {
    /// Whether there is a live line.
    pub(crate) fn has_live(&self) -> bool {
        self.live.is_some()
    }

    /// Removes the live line until it turns again.
    pub(crate) fn hide(&self) {
        self.live.as_ref().inspect(|live| live.hide());
    }

    pub(crate) fn say(&self, text: &str) {
        if !self.is_silent {
            self.live.as_ref().inspect(|live| live.hide());
            let line = format!("{}\n", escape(text));
            // Not awaited: the terminal may be stopped.
            Pipe::stderr().try_write(line.as_bytes());
            self.live.as_ref().inspect(|live| live.show());
        }
    }
}
