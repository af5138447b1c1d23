//! Code that the tests share.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a panic here fails a test")]

pub mod fuzz;
pub mod programs;
pub mod raw;
pub mod wire;

/// Compiles the README's programs as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
