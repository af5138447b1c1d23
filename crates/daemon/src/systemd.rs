//! Notifications for systemd.

use std::{convert::Infallible, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

/// Reports that requests are answered.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that a reload has started; [`ready`] reports its end.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock for the service manager"),
    }
}

/// Reports that the daemon shuts down.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Notifies the watchdog at half of its interval. Never returns.
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
