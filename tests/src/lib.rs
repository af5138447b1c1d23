//! What the tests share.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "this serves tests")]

pub mod fuzz;
pub mod programs;
pub mod raw;
pub mod wire;

/// The README's programs, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
