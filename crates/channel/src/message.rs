//! The messages of Kakehi's own wire, and what a client needs of any response.

mod request;
mod response;
mod version;

pub use request::Request;
pub use response::{Refusal, Reply, Response, Status};
pub use version::VERSION;
