//! What one response says about its request: what every follower of responses goes by.

use kakehi_channel::{Reply, Status};

use crate::{Outcome, kind::Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More will follow.
    Progress,
    /// It is the final one: OK, or the outcome that an ERROR means.
    Final(Option<Outcome>),
}

impl Verdict {
    /// Of a response to the request with the id `expected`, if its wire has ids.
    #[inline]
    pub(crate) fn of<Rx: Reply>(reply: &Rx, expected: Option<&str>) -> Result<Self, Kind> {
        let status = reply.status();
        if let (Some(expected), Some(found)) = (expected, reply.id())
            && found != expected
            // A server that did not read the request, or could not, does not know its id.
            && !(found.is_empty() && status == Some(Status::Error))
        {
            return Err(Kind::OtherId { expected: expected.to_owned(), found: found.to_owned() });
        }
        Ok(match status.ok_or(Kind::UnknownStatus)? {
            Status::Processing => Self::Progress,
            Status::Ok => Self::Final(None),
            Status::Error if reply.refusal().is_some() => Self::Final(Some(Outcome::Refused)),
            Status::Error => Self::Final(Some(Outcome::Failed)),
        })
    }
}
