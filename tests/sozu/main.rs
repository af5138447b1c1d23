//! The client of Sōzu, and the stand-in for one, against the real programs: the proxy and its own
//! command line, in each version that is on this machine.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

mod batch;
mod canonical;
mod config;
mod control;
mod events;
mod fleet;
mod load;
mod metrics;
mod probe;
mod restarts;
mod silence;
mod stand_in;
mod support;
mod verbs;
mod wire;
