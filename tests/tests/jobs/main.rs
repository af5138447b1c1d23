//! Named jobs, through the real `kakehid` binary.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod callers;
mod cgroups;
mod checking;
mod control;
mod descendants;
mod ends;
mod kills;
mod logging;
mod memory;
mod output;
mod reloading;
mod runs;
mod signals;
mod store;
mod support;
mod systemd;
mod waiting;
