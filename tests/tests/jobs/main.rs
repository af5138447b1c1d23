//! Named jobs, through the real `server` binary.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod callers;
mod checking;
mod ends;
mod kills;
mod logging;
mod output;
mod reloading;
mod signals;
mod strays;
mod support;
mod systemd;
mod waiting;
