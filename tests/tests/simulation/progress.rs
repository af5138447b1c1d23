//! Judges PROCESSING: whose it is, that none is lost or comes twice, and keep-alives.

use std::time::Duration;

use kakehi_channel::{Reply, Response};
use tokio::time::Instant;

use crate::{
    referee::{Asked, Referee, content_is_of, number_of},
    world::Court,
};

/// A hundred keep-alives a second is the most that is promised.
const SHORTEST: Duration = Duration::from_millis(10);

/// How late a keep-alive may be: what a lagging stream and a timer take.
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
    let run = court.run(token).ok_or("progress of a request that nobody planned")?;
    let started = run.started.ok_or("progress before its handler was called")?;
    let heard = &mut referee.heard;
    if response.is_keep_alive() {
        if run.timeout.is_none() {
            return Err("a keep-alive, and nobody asked for it".into());
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
    let sent = own.or(by_other).ok_or("progress of nobody")?;
    if sent != *next {
        return Err(format!("progress {sent} came where {next} is next"));
    }
    *next += 1;
    if !content_is_of(response, token) {
        return Err("progress with another's content".into());
    }
    Ok(())
}

/// At each write: was the client left without a word for longer than it can wait?
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
        return Err(format!("nothing was said for {silent_for:?} with a timeout of {timeout:?}"));
    }
    Ok(())
}
