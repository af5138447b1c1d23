//! The message schema and the application logic, shared by every contender.
//!
//! The logic is the same that a user of the library would write, without code for the measurement.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: String,
    pub version: u8,
    pub worker_id: Option<u32>,
    pub payload: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Ok,
    Processing,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub id: String,
    pub version: u8,
    pub status: Status,
    pub message: String,
}

/// The server's plan for a request.
pub enum Plan {
    /// One final response that carries the payload back.
    Echo,
    /// This many PROCESSING responses, then the final one.
    Progress(u64),
}

const PROGRESS: &str = "progress:";

impl Request {
    pub fn echo(id: u64, payload: impl Into<String>) -> Self {
        Request {
            id: format!("ID-{id:08}"),
            version: 1,
            worker_id: Some(3),
            payload: payload.into(),
        }
    }

    pub fn progress(id: u64, responses: u64) -> Self {
        Request::echo(id, format!("{PROGRESS}{responses}"))
    }

    pub fn plan(&self) -> Plan {
        plan(&self.payload)
    }
}

pub fn plan(payload: &str) -> Plan {
    match payload.strip_prefix(PROGRESS) {
        Some(n) => Plan::Progress(n.parse().unwrap_or(0)),
        None => Plan::Echo,
    }
}

/// The text of a PROCESSING response.
pub fn step(step: u64) -> String {
    format!("step {step:08} ...................")
}

impl Response {
    pub fn echo(req: Request) -> Self {
        Response { id: req.id, version: req.version, status: Status::Ok, message: req.payload }
    }

    pub fn processing(id: &str, step: u64) -> Self {
        Response {
            id: id.to_string(),
            version: 1,
            status: Status::Processing,
            message: self::step(step),
        }
    }

    pub fn done(id: &str) -> Self {
        Response { id: id.to_string(), version: 1, status: Status::Ok, message: "done".to_string() }
    }

    pub fn is_final(&self) -> bool {
        self.status != Status::Processing
    }
}

/// Payload that makes the JSON request of [`Request::echo`] 100 bytes long.
pub const SMALL: &str = ".........................................";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_are_100_bytes_of_json() {
        let json = |x: serde_json::Result<Vec<u8>>| x.unwrap().len();
        let req = Request::echo(7, SMALL);
        assert_eq!(json(serde_json::to_vec(&req)), 100);
        assert_eq!(json(serde_json::to_vec(&Response::echo(req))), 100);
        assert_eq!(json(serde_json::to_vec(&Response::processing("ID-00000007", 9))), 100);
    }
}
