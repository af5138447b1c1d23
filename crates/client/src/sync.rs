//! What threads share is guarded by these: `std`'s, or under `--cfg shuttle` those of a scheduler
//! that tries out how threads may interleave (see `model.rs`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
