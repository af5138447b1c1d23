//! Typed commands: a router, its clients, and its description, in memory and in paused time.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod asking;
mod calling;
mod control;
mod describing;
mod evolution;
mod results;
mod routing;
mod schemas;
mod support;
