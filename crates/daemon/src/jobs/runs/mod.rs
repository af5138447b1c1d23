//! Runs: their records and output, while they go on and afterwards.

mod behind;
mod live;
mod reader;
mod record;
mod spool;
mod store;

pub(crate) use live::{Live, Progress, Writer};
pub(crate) use reader::{Next, Reader};
pub(crate) use record::{Outcome, Record, Stored, now_ms};
pub(crate) use store::Store;
