//! What systemd is told, where it listens.

use std::{convert::Infallible, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

/// Requests are answered from now on.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The jobs file is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell the time to the service manager"),
    }
}

/// The server drains, then ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the server is alive, for ever and twice as often as systemd wants to hear it.
pub(crate) async fn keep_alive() -> Infallible {
    let Some(every) = sd_notify::watchdog_enabled().filter(|every| !every.is_zero()) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval((every / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify the service manager");
    }
}
