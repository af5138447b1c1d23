//! What is written where: results on standard output, everything else on standard error.

mod captured;
mod live;
mod notes;
mod paint;
mod pipe;
mod queue;

use std::{future::Future, pin::pin, time::Duration};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use self::{
    live::Live,
    queue::{
        Queue,
        To::{Stderr, Stdout},
    },
};
pub(crate) use self::{
    notes::Notes,
    paint::{Paint, When},
    queue::Unwritable,
};
use super::{args::Options, escape::escape, exit, failure::Failure};

/// Both streams, and the live line. What is put into it is kept in order, and is written by
/// [`flush`](Self::flush), or while [waiting](Self::wait): whole batches at once if much comes, and
/// each line at once if little does.
#[derive(Debug)]
pub(crate) struct Output {
    queue: Queue,
    live: Option<Live>,
    is_json: bool,
    is_quiet: bool,
    /// Of standard output.
    pub(crate) paint: Paint,
    paint_stderr: Paint,
}

impl Output {
    pub(crate) fn new(options: &Options) -> Self {
        let plain = Self::plain(options.json);
        let [stdout, stderr] = [Stdout, Stderr].map(|to| plain.queue.pipe(to).is_terminal());
        let is_silent = options.json || options.quiet || options.verbose;
        Self {
            live: (stderr && !is_silent && !paint::is_dumb()).then(Live::new),
            paint: Paint::new(options.color, stdout),
            paint_stderr: Paint::new(options.color, stderr),
            is_quiet: options.quiet,
            ..plain
        }
    }

    /// Without anything that depends on options that may not be known.
    pub(crate) fn plain(is_json: bool) -> Self {
        Self {
            queue: Queue::new(),
            live: None,
            is_json,
            is_quiet: false,
            paint: Paint::NONE,
            paint_stderr: Paint::NONE,
        }
    }

    /// Whether a person sees standard error.
    pub(crate) fn is_terminal(&self) -> bool {
        self.queue.pipe(Stderr).is_terminal()
    }

    pub(crate) fn notes(&self) -> Notes {
        Notes { live: self.live.clone(), is_silent: self.is_json || self.is_quiet }
    }

    /// To standard output, as it is.
    pub(crate) fn result(&mut self, bytes: &[u8]) {
        self.queue.put(Stdout, bytes);
    }

    /// To standard error, as it is: what a job writes there.
    pub(crate) fn aside(&mut self, bytes: &[u8]) {
        self.queue.put(Stderr, bytes);
    }

    /// Progress: in the live line, or on a line of standard error.
    pub(crate) fn progress(&mut self, message: &str, content: Option<&Value>) {
        self.live_progress(message, content);
        if self.live.is_none() && !message.is_empty() {
            self.note("processing:", message);
        }
    }

    /// Progress in the live line, if there is one.
    pub(crate) fn live_progress(&self, message: &str, content: Option<&Value>) {
        if let Some(live) = &self.live {
            live.progress(&escape(message), content);
        }
    }

    /// A line on standard error, for a person.
    pub(crate) fn note(&mut self, label: &str, message: &str) {
        if !self.is_quiet && !self.is_json {
            self.say(&format!("{label} {}\n", escape(message)));
        }
    }

    /// How the job of a `run` failed, in a line on standard error.
    pub(crate) fn job_failed(&mut self, message: &str) {
        self.say(&format!("{} {}\n", self.paint_stderr.bad("failed:"), escape(message)));
    }

    /// The last word: on standard error, or the terminal line of `--json`.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if self.is_json {
            self.result(format!("{}\n", failure.json()).as_bytes());
        } else {
            self.say(&failure.text(&self.paint_stderr.bad("error:")));
        }
    }

    /// Whole lines of our own on standard error: not behind a line of a job that has no end.
    fn say(&mut self, lines: &str) {
        if self.queue.is_mid_line() && self.is_terminal() {
            self.aside(b"\n");
        }
        self.aside(lines.as_bytes());
    }

    /// Takes the live line away for good.
    pub(crate) fn finish(&mut self) {
        if let Some(live) = self.live.take() {
            live.hide();
        }
    }

    /// Enough is gathered to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Writes everything; the live line makes room. Cancel safe: what is not written is kept.
    pub(crate) async fn flush(&mut self) -> Result<(), Unwritable> {
        let covered = self.live.as_ref().filter(|_| self.queue.has_terminal());
        covered.inspect(|live| live.hide());
        self.queue.flush().await?;
        covered.filter(|_| !self.queue.is_mid_line()).inspect(|live| live.show());
        Ok(())
    }

    /// Writes everything that can be written within `time` each, standard error at least.
    pub(crate) async fn flush_within(&mut self, time: Duration) {
        if timeout(time, self.flush()).await.is_err() {
            self.queue.forget_stdout();
            let _ = timeout(time, self.flush()).await;
        }
    }

    /// Writes everything, and waits for `next` with the live line turning. Nothing is lost by an
    /// error here that has come of `next`.
    pub(crate) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Unwritable> {
        self.flush().await?;
        let mut next = pin!(next);
        loop {
            tokio::select! {
                biased;
                next = &mut next => return Ok(next),
                () = sleep(live::TICK) => {
                    // Nobody is to wait for what nobody reads.
                    if self.queue.pipe(Stdout).is_closed() {
                        return Err(Unwritable::Closed);
                    }
                    let live = self.live.as_ref().filter(|_| !self.queue.is_mid_line());
                    live.inspect(|live| live.turn());
                }
            }
        }
    }

    /// Prints `bytes` and nothing else. Gives the exit status.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> u8 {
        self.result(bytes);
        self.flush_now(exit::OK)
    }

    /// Ends with a failure. Gives the exit status.
    pub(crate) fn end(&mut self, failure: &Failure) -> u8 {
        self.finish();
        self.failure(failure);
        self.flush_now(failure.code)
    }

    /// Writes everything, and blocks while it must. Gives the exit status: `code`, if all is well.
    pub(crate) fn flush_now(&mut self, code: u8) -> u8 {
        match self.queue.flush_now() {
            Ok(()) => code,
            Err(Unwritable::Closed) => exit::STDOUT_CLOSED,
            Err(Unwritable::Failed(error)) => {
                let text = Failure::output(&error).text(&self.paint_stderr.bad("error:"));
                let _ = self.queue.pipe(Stderr).write_all(text.as_bytes());
                exit::OUTPUT
            }
        }
    }
}
