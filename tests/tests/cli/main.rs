//! The `kakehi` binary, as people and scripts see it: real processes, and a real terminal.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod commands;
mod completions;
mod contexts;
mod control;
mod demo;
mod ends;
mod hostile;
mod interrupts;
mod json;
mod limits;
mod pages;
mod runs;
#[path = "../ssh/sshd.rs"]
mod sshd;
mod statuses;
mod streaming;
mod support;
mod terminal;
mod top;
