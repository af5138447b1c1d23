//! The signals that `top` handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;

/// Receives the signals. Once it exists, they no longer end or stop the process by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    stop: Signal,
    resume: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Interrupt,
    /// The exit status.
    End(u8),
    Stop,
    Continue,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // tokio has no name for these two.
        let number = |signal: rustix::process::Signal| SignalKind::from_raw(signal.as_raw());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(number(rustix::process::Signal::TSTP))?,
            resume: signal(number(rustix::process::Signal::CONT))?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::End(exit::TERMINATED),
            _ = self.hang_up.recv() => Event::End(exit::TERMINATED),
            _ = self.stop.recv() => Event::Stop,
            _ = self.resume.recv() => Event::Continue,
            _ = self.interrupt.recv() => Event::Interrupt,
            // On a terminal, Ctrl-\ leaves an attached run.
            _ = self.quit.recv() => Event::Interrupt,
        }
    }

    /// Waits for the process to be continued.
    pub(super) async fn continued(&mut self) {
        self.resume.recv().await;
    }
}
