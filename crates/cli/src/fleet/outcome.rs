//! The outcomes of a request to one node, in words.

use kakehi_channel::Status;
use kakehi_client::Response;
use kakehi_fleet::{Ended, Settled};

pub(super) use super::record::Outcome;

pub(super) fn of(ended: &Ended) -> Outcome {
    match ended {
        Ended::Ok(_) => Outcome::Ok,
        Ended::Skipped => Outcome::Skipped,
        Ended::Failed(error) => match error.outcome() {
            // Only typed contents can be unreadable, and these are not.
            kakehi_client::Outcome::Done => Outcome::Ok,
            kakehi_client::Outcome::Failed => Outcome::Failed,
            kakehi_client::Outcome::Refused => Outcome::Refused,
            kakehi_client::Outcome::NotSent => Outcome::NotSent,
            kakehi_client::Outcome::Unknown => Outcome::Unknown,
        },
    }
}

/// As in a row.
pub(super) fn shown(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::NotSent => "no answer",
        Outcome::Skipped => "skipped",
        Outcome::Unknown => "UNKNOWN",
        Outcome::Cancelled => "cancelled",
    }
}

/// As in JSON.
pub(super) fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::NotSent => "not_sent",
        Outcome::Skipped => "skipped",
        Outcome::Unknown => "unknown",
        Outcome::Cancelled => "cancelled",
    }
}

/// Returns the outcome of a request from its node's answer. `None`: the request still runs.
pub(super) fn settled(settled: &Settled) -> Option<(Outcome, String)> {
    Some(match settled {
        Settled::Final(response) => {
            let Response { status, message, refused, .. } = &**response;
            let outcome = match (status, refused) {
                (Status::Ok, _) => Outcome::Ok,
                (_, Some(_)) => Outcome::Refused,
                _ => Outcome::Failed,
            };
            (outcome, message.clone())
        }
        Settled::Running => return None,
        Settled::Never => (Outcome::NotSent, "it was not started, and will not start".to_owned()),
        Settled::Interrupted => (Outcome::Unknown, "the node restarted while it ran".to_owned()),
        Settled::NoAnswer => (Outcome::Unknown, "the node does not answer".to_owned()),
        _ => (Outcome::Unknown, "the node does not know what became of it".to_owned()),
    })
}
