//! A runtime in paused time: its clock advances only when every task waits.

use std::{future::Future, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing");
}

/// Runs `future` to its end.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);
    RUNTIME.with(|runtime| {
        runtime.block_on(async { timeout(FOR_EVER, future).await.expect("a task never ends") })
    })
}
