//! The `client` binary, as people and scripts see it: real processes, and a real terminal.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod commands;
mod demo;
mod hostile;
mod interrupts;
mod json;
mod pages;
mod statuses;
mod streaming;
mod support;
mod terminal;
