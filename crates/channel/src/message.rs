//! The messages of Kakehi's protocol, and the trait for responses of any protocol.

mod request;
mod response;
mod version;

pub use request::Request;
pub use response::{Refusal, Response, ResponseMessage, Status};
pub use version::{VERSION, Word, read_version};
