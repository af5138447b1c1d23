//! Checks final responses: that each belongs to the request whose turn it is, is true, and is the
//! only one.

use std::time::Duration;

use kakehi_channel::{Refusal, Response, Status};

use crate::{
    plan::End,
    referee::{Asked, Referee, content_is_of},
    run::{Run, Stage},
    world::Court,
};

type Verdict = Result<(), String>;

pub(crate) fn judge(referee: &mut Referee, response: &Response, court: &mut Court) -> Verdict {
    if let Some(Refusal::Busy | Refusal::TooLarge | Refusal::TooSlow) = response.refused {
        return last_word(referee, response, court);
    }
    let denied_at_once = referee.asked.is_empty() && referee.unfinished.is_empty();
    if response.refused == Some(Refusal::Denied) && denied_at_once {
        referee.is_over = true;
        court.journal.reach("a user was denied");
        return Ok(());
    }
    let heard = std::mem::take(&mut referee.heard);
    let (asked, _) = referee.asked.pop_front().ok_or("a final response without a request")?;
    let (id, token) = match asked {
        Asked::TooLarge => return Err("a response to a request over the limit".into()),
        Asked::Malformed { id } => {
            court.journal.reach("malformed");
            let is_true = response.refused == Some(Refusal::Malformed) && is_id(response, &id);
            return if is_true { Ok(()) } else { Err(format!("request {id} is malformed")) };
        }
        Asked::Request { id, token } => (id, token),
    };
    if !is_id(response, &id) {
        return Err(format!("the response to another request than {id}"));
    }
    let stopping = court.stopping.is_some();
    if response.refused == Some(Refusal::ShuttingDown) {
        court.journal.reach("shutting down");
        return if stopping { Ok(()) } else { Err("the server is not shutting down".into()) };
    }
    let Some(token) = token else {
        let is_true = response.status == Status::Error && response.message == "no command";
        return if is_true { Ok(()) } else { Err("the request has no command".into()) };
    };
    let max_deadline = court.limits.max_deadline;
    let run = court.run(token).ok_or("the response to a request without a plan")?;
    if std::mem::replace(&mut run.is_answered, true) {
        return Err("a second final response".into());
    }
    let reached = judge_run(run, response, token, stopping, max_deadline)?;
    if let Stage::Returned(End::Ok | End::Err) = run.stage
        && run.plan.listens().is_none()
        && run.said != heard.said
    {
        return Err(format!("{} of {} progress responses were written", heard.said, run.said));
    }
    court.journal.reach(reached);
    Ok(())
}

/// Checks that the response is true of its run, and returns the name of the event.
fn judge_run(
    run: &Run,
    response: &Response,
    token: u64,
    stopping: bool,
    max_deadline: Option<Duration>,
) -> Result<&'static str, String> {
    if !content_is_of(response, token) {
        return Err("the content of another response".into());
    }
    let end = match run.stage {
        Stage::Returned(end) => Some(end),
        _ => None,
    };
    let deadline = run.deadline.into_iter().chain(max_deadline).min();
    let message = response.message.as_str();
    let is_own = |word: &str| message == format!("{token} {word}");
    let (is_true, reached) = match (response.status, response.refused) {
        (Status::Ok, None) => (end == Some(End::Ok) && is_own("ok"), "OK"),
        (Status::Error, Some(Refusal::Denied)) if message == "denied" => {
            (run.plan.is_denied && run.started.is_none(), "denied")
        }
        (Status::Error, Some(Refusal::Denied)) => {
            (end == Some(End::Refuse) && is_own("refuse"), "refused by its handler")
        }
        (Status::Error, None) if is_own("err") => (end == Some(End::Err), "ERROR"),
        (Status::Error, None) if message == "the handler panicked" => {
            (matches!(end, Some(End::Panic)), "a panic")
        }
        (Status::Error, None) if message.starts_with("the answer cannot be sent: ") => {
            (matches!(end, Some(End::TooLarge | End::Unencodable)), "an answer that cannot be sent")
        }
        (Status::Error, None) if message == "cancelled: the deadline has passed" => {
            let has_passed =
                run.started.zip(deadline).is_some_and(|(at, time)| at.elapsed() >= time);
            (has_passed, "a deadline")
        }
        (Status::Error, None) if message == "cancelled: the server is shutting down" => {
            (stopping, "cancelled by the end")
        }
        _ => (false, "an unknown response"),
    };
    if is_true { Ok(reached) } else { Err(format!("untrue of {:?}, {:?}", run.stage, run.plan)) }
}

/// Checks a refusal after which the server closes the connection.
fn last_word(referee: &mut Referee, response: &Response, court: &mut Court) -> Verdict {
    referee.is_over = true;
    let limits = &court.limits;
    let is_read = referee.asked.is_empty();
    let (is_true, reached) = match response.refused {
        Some(Refusal::TooLarge) => {
            let is_whole = matches!(referee.asked.front(), Some((Asked::TooLarge, _)));
            let is_half = is_read && referee.unfinished.len() >= limits.request_bytes;
            (is_whole || is_half, "too large")
        }
        Some(Refusal::TooSlow) => {
            let age = referee.unfinished_since.elapsed();
            let is_true = is_read && !referee.unfinished.is_empty() && age >= limits.request_time;
            (is_true, "too slow")
        }
        _ => (is_read, "busy"),
    };
    court.journal.reach(reached);
    if is_true { Ok(()) } else { Err("an untrue refusal".into()) }
}

/// Whether the response has the request's id. A refusal omits an id that does not fit.
fn is_id(response: &Response, id: &str) -> bool {
    response.id == id || (response.id.is_empty() && response.refused.is_some() && id.len() > 100)
}
