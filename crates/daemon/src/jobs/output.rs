//! Reads the pipes of a run and writes its output.

use std::{future::pending, io, os::fd::AsFd, sync::Arc, time::Duration};

use tokio::{
    io::AsyncRead,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    child::Output,
    chunk::Stream,
    lines::{Cut, Lines},
    progress::Rule,
    runs::{Live, Writer},
};

/// How long an unfinished line waits for its end before it is sent.
const PAUSE: Duration = Duration::from_millis(50);

/// How many lines a run wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

/// Copies the output of a run to `live`, each line as it appears. If the run belongs to a client,
/// reads no faster than the client does. Returns when both pipes are closed. Once `over`, reads only
/// what is in them.
pub(crate) async fn pump(
    live: &Arc<Live>,
    writer: Writer,
    pipes: Output,
    rule: Option<&Rule>,
    over: &CancellationToken,
) -> Counts {
    let mut stdout = Source::new(Stream::Stdout, pipes.stdout);
    let mut stderr = Source::new(Stream::Stderr, pipes.stderr);
    let mut sink = Sink { live, writer, rule };
    let mut finishing = false;
    // The streams take turns, so that neither starves the other.
    let mut stderr_first = false;
    while stdout.lines.is_open() || stderr.lines.is_open() {
        let flush_at = [stdout.flush_at, stderr.flush_at].into_iter().flatten().min();
        let reading = async {
            if !finishing {
                tokio::select! {
                    () = over.cancelled() => return Event::Over,
                    () = live.room(sink.writer.written) => {}
                }
            }
            let reading = async {
                let (out, err) = (stdout.read(), stderr.read());
                if stderr_first {
                    tokio::select! { biased; event = err => event, event = out => event }
                } else {
                    tokio::select! { biased; event = out => event, event = err => event }
                }
            };
            tokio::select! {
                event = reading => event,
                () = over.cancelled(), if !finishing => Event::Over,
            }
        };
        let event = tokio::select! {
            biased;
            event = reading => event,
            () = passed(flush_at) => Event::Pause,
        };
        match event {
            Event::Pause => {}
            Event::Read(stream, read) => {
                stderr_first = stream == Stream::Stdout;
                if let Err(error) = read {
                    warn!(%error, "cannot read the output of a run");
                }
            }
            Event::Over => {
                finishing = true;
                stdout.lines.finish();
                stderr.lines.finish();
            }
        }
        stdout.send(&mut sink).await;
        stderr.send(&mut sink).await;
    }
    sink.writer.finish().await;
    Counts { stdout: stdout.lines.count(), stderr: stderr.lines.count() }
}

/// An event that `pump` waits for.
enum Event {
    Read(Stream, io::Result<()>),
    /// The run has ended.
    Over,
    /// An unfinished line has waited long enough.
    Pause,
}

async fn passed(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// One stream of a run.
struct Source<R> {
    stream: Stream,
    lines: Lines<R>,
    /// When to send the unfinished line.
    flush_at: Option<Instant>,
}

impl<R: AsyncRead + AsFd + Unpin> Source<R> {
    fn new(stream: Stream, pipe: R) -> Self {
        Self { stream, lines: Lines::new(pipe), flush_at: None }
    }

    /// Waits for output and reads it. Never ready once the pipe is closed. Cancel safe.
    async fn read(&mut self) -> Event {
        if !self.lines.is_open() {
            return pending().await;
        }
        Event::Read(self.stream, self.lines.fill().await)
    }

    /// Sends what was read: whole lines, and the unfinished line if its time has come.
    async fn send(&mut self, sink: &mut Sink<'_>) {
        let before = sink.writer.written;
        while let Some(cut) = self.lines.next() {
            sink.push(self.stream, cut).await;
        }
        let is_due = self.flush_at.is_some_and(|at| at <= Instant::now());
        // If bytes wait in the pipe, the pause is that of the client, and not of the run.
        let is_pause = is_due && self.lines.is_drained();
        if (is_pause || self.lines.returns())
            && let Some(cut) = self.lines.flush()
        {
            sink.push(self.stream, cut).await;
        }
        let is_new = sink.writer.written != before || self.flush_at.is_none() || is_due;
        if self.lines.unfinished() == 0 {
            self.flush_at = None;
        } else if is_new {
            self.flush_at = Some(Instant::now() + PAUSE);
        }
    }
}

/// Where the output goes.
struct Sink<'a> {
    live: &'a Live,
    writer: Writer,
    rule: Option<&'a Rule>,
}

impl Sink<'_> {
    async fn push(&mut self, stream: Stream, Cut { bytes, line, part, end }: Cut<'_>) {
        if let Some(progress) = self.rule.and_then(|rule| rule.last(bytes)) {
            self.live.set_progress(progress);
        }
        self.writer.push(stream, (line, part), end, bytes).await;
    }
}
