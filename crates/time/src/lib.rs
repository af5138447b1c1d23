//! Timers for poll functions, and durations as text.

mod durations;
mod timer;

pub use durations::{duration, elapsed};
pub use timer::Timer;
