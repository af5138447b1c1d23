//! The fleet with real brokers: each version of nats-server that is installed.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is a test")]

mod broker;
mod common;
mod flood;
mod python;
#[cfg(feature = "tls")]
mod tls;
