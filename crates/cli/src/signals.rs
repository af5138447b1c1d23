//! SIGINT and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{exit, suspend};

/// Receives the signals. Once it exists, they no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Ctrl-\, where it leaves a run that goes on.
    quit: Option<Signal>,
    /// The signals that would leave a live line on the terminal.
    live: Option<(Signal, Signal)>,
}

impl Signals {
    pub(crate) fn new(can_leave: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: can_leave.then(|| signal(SignalKind::quit())).transpose()?,
            live: None,
        })
    }

    /// Also handles SIGHUP and SIGTSTP, so that a live line can be removed first.
    pub(crate) fn with_live(self) -> io::Result<Self> {
        let stop = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        Ok(Self { live: Some((signal(SignalKind::hangup())?, signal(stop)?)), ..self })
    }

    /// Waits for the next signal, and returns its exit status. Calls `hide` before the process
    /// stops. Cancel safe.
    pub(crate) async fn next_with(&mut self, mut hide: impl FnMut()) -> u8 {
        loop {
            let (hang_up, stop) = match &mut self.live {
                Some((hang_up, stop)) => (Some(hang_up), Some(stop)),
                None => (None, None),
            };
            let ends =
                [Some(&mut self.interrupt), Some(&mut self.terminate), self.quit.as_mut(), hang_up];
            let [interrupt, terminate, quit, hang_up] = ends;
            tokio::select! {
                () = received(quit) => return exit::LEFT,
                () = received(interrupt) => return exit::INTERRUPTED,
                () = received(terminate) => return exit::TERMINATED,
                () = received(hang_up) => return exit::TERMINATED,
                () = received(stop) => {
                    hide();
                    suspend::stop();
                }
            }
        }
    }

    /// Waits for the next signal, and returns its exit status. Cancel safe.
    pub(crate) async fn next(&mut self) -> u8 {
        let quit = async {
            match &mut self.quit {
                Some(quit) => quit.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = quit => exit::LEFT,
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
