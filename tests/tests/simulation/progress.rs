//! Checks progress responses: that each belongs to the running request, that none is lost or
//! repeated, and that keep-alives come in time.

use std::time::Duration;

use kakehi_channel::{Response, ResponseMessage};
use tokio::time::Instant;

use crate::{
    referee::{Asked, Referee, content_is_of, number_of},
    world::Court,
};

/// The server sends at most 100 keep-alives a second.
const SHORTEST: Duration = Duration::from_millis(10);

/// How late a keep-alive may be: the delay of a stream and of a timer.
const SLACK: Duration = Duration::from_millis(25);

pub(crate) fn judge(
    referee: &mut Referee,
    response: &Response,
    court: &mut Court,
) -> Result<(), String> {
    let Some((Asked::Request { id, token }, _)) = referee.asked.front() else {
        return Err("progress without a request".into());
    };
    if *id != response.id {
        return Err(format!("progress of another request than {id}"));
    }
    let token = token.ok_or("progress of a request without a command")?;
    let run = court.run(token).ok_or("progress of a request without a plan")?;
    let started = run.started.ok_or("progress before its handler was called")?;
    let heard = &mut referee.heard;
    if response.is_keep_alive() {
        if run.timeout.is_none() {
            return Err("a keep-alive for a request without a timeout".into());
        }
        heard.keep_alives += 1;
        if started.elapsed() < SHORTEST * heard.keep_alives {
            return Err(format!("{} keep-alives in {:?}", heard.keep_alives, started.elapsed()));
        }
        court.journal.reach("a keep-alive");
        return Ok(());
    }
    let own = number_of(&response.message, &token.to_string());
    let by_other = number_of(&response.message, &format!("{token} other"));
    let next = if own.is_some() { &mut heard.said } else { &mut heard.said_by_other };
    let sent = own.or(by_other).ok_or("progress that no handler sent")?;
    if sent != *next {
        return Err(format!("progress {sent} was written before progress {next}"));
    }
    *next += 1;
    if !content_is_of(response, token) {
        return Err("progress with the content of another request".into());
    }
    Ok(())
}

/// Checks at each write that the server was not silent for longer than the keep-alive interval.
pub(crate) fn on_time(referee: &Referee, court: &mut Court) -> Result<(), String> {
    let max = court.limits.max_timeout;
    if referee.is_held_up || referee.outgoing(&court.runs) > 0 {
        return Ok(());
    }
    let Some(run) = referee.current().and_then(|token| court.run(token)) else { return Ok(()) };
    let (Some(timeout), Some(started)) = (run.timeout, run.started) else { return Ok(()) };
    let every = (timeout.min(max.unwrap_or(timeout)) / 2).max(SHORTEST);
    let ended = run.ended.unwrap_or_else(Instant::now);
    let silent_for = ended.saturating_duration_since(referee.last_write.max(started));
    if silent_for > every.saturating_add(SLACK) {
        return Err(format!("the server was silent for {silent_for:?} of a {timeout:?} timeout"));
    }
    Ok(())
}
