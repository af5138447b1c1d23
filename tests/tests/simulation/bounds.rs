//! The bounds on what the server holds, for one link and for all together.

use tokio::time::Instant;

use crate::{link::Link, world::State};

/// Checks the bounds after a read of the server on link `reader`.
pub(crate) fn check(state: &mut State, reader: usize) -> Result<(), String> {
    let limits = &state.court.limits;
    let link = &state.links[reader];
    if crate::listener::is_denied(link.uid) {
        return Err(format!("the server reads a request of uid {}, which is denied", link.uid));
    }
    let held = link.referee.held(&state.court.runs);
    // One request runs, one waits, and one fills the buffer. In a drain, the referee cannot
    // distinguish refused requests from waiting ones.
    if state.court.stopping.is_none() && held > 3 * limits.request_bytes {
        return Err(format!("{held} bytes of requests are held for one client"));
    }
    let served = || state.links.iter().filter(|link| link.is_served && !link.referee.is_over);
    if served().count() > limits.connections {
        return Err(format!("{} connections are served", served().count()));
    }
    let of_uid = served().filter(|other| other.uid == link.uid).count();
    if of_uid > limits.connections_per_uid {
        return Err(format!("{of_uid} connections of uid {} are served", link.uid));
    }
    if state.court.stopping.is_some() { Ok(()) } else { unfinished(state, reader) }
}

/// Checks that the server stops reading from the client whose unfinished request exceeds the limit
/// for all clients together.
fn unfinished(state: &mut State, reader: usize) -> Result<(), String> {
    let limit = state.court.limits.unfinished_bytes;
    let (request_bytes, request_time) =
        (state.court.limits.request_bytes, state.court.limits.request_time);
    // The server releases a rejected request before the client has read the refusal.
    let is_held = |link: &Link| {
        let referee = &link.referee;
        let is_given_up = referee.over_since.is_some()
            || referee.unfinished.len() >= request_bytes
            || referee.unfinished_since.elapsed() >= request_time
            || link.is_read_to_its_end();
        !is_given_up && referee.asked.is_empty()
    };
    // A lower and an upper bound of the bytes that the server holds for the other clients.
    let (mut least, mut most) = (0, 0);
    for (number, link) in state.links.iter().enumerate() {
        if number != reader && link.is_served && !link.referee.is_over {
            let bytes = link.referee.unfinished.len();
            least += if is_held(link) { bytes } else { 0 };
            most += bytes;
        }
    }
    let referee = &mut state.links[reader].referee;
    if let Some((since, true)) = referee.over_since
        && since < Instant::now()
    {
        return Err("the server reads more of a request that is over the limit".into());
    }
    // The server checks the limit once it has read all available bytes. Behind a waiting request,
    // it checks when that request's turn comes.
    let own = referee.unfinished.len();
    let is_sure = least + own > limit && referee.asked.is_empty();
    referee.over_since = (most + own > limit).then(|| (Instant::now(), is_sure));
    Ok(())
}

/// Checks the bytes that wait to be written to a client, after its handler has sent a message.
pub(crate) fn check_outgoing(state: &State, link: usize) -> Result<(), String> {
    let limits = &state.court.limits;
    let outgoing = state.links[link].referee.outgoing(&state.court.runs);
    // The write buffer may exceed the limit by a progress response and a final response, the
    // outbox by one more progress response.
    if outgoing > limits.outgoing_bytes + 3 * limits.response_bytes {
        return Err(format!("{outgoing} bytes wait to be written to one client"));
    }
    Ok(())
}
