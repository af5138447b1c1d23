//! What the server may hold, over all links.

use tokio::time::Instant;

use crate::{link::Link, world::State};

/// After the server has read on link `reader`.
pub(crate) fn check(state: &mut State, reader: usize) -> Result<(), String> {
    let limits = &state.court.limits;
    let link = &state.links[reader];
    if crate::listener::is_denied(link.uid) {
        return Err(format!("the server reads what uid {} sends", link.uid));
    }
    let held = link.referee.held(&state.court.runs);
    // One is being answered, one waits, and one fills the buffer. (In a drain those that are
    // refused cannot be told from those that wait.)
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

/// Who brings the unfinished requests of all over the limit is read from no more.
fn unfinished(state: &mut State, reader: usize) -> Result<(), String> {
    let limit = state.court.limits.unfinished_bytes;
    let (request_bytes, request_time) =
        (state.court.limits.request_bytes, state.court.limits.request_time);
    // What is given up is forgotten before its client has read why.
    let is_held = |link: &Link| {
        let referee = &link.referee;
        let is_given_up = referee.over_since.is_some()
            || referee.unfinished.len() >= request_bytes
            || referee.unfinished_since.elapsed() >= request_time
            || link.is_read_to_its_end();
        !is_given_up && referee.asked.is_empty()
    };
    // Held by the others: at least, and at most.
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
        return Err("the server reads on from who is over the limit".into());
    }
    // The server looks at it when there is nothing more to read just now; and behind a request
    // that it has taken early, not before that one's turn.
    let own = referee.unfinished.len();
    let is_sure = least + own > limit && referee.asked.is_empty();
    referee.over_since = (most + own > limit).then(|| (Instant::now(), is_sure));
    Ok(())
}

/// After a handler has sent a message: what waits to be written to its client.
pub(crate) fn check_outgoing(state: &State, link: usize) -> Result<(), String> {
    let limits = &state.court.limits;
    let outgoing = state.links[link].referee.outgoing(&state.court.runs);
    // What is on its way into the stream may end in a progress message and a final answer, what
    // waits behind it in another progress message.
    if outgoing > limits.outgoing_bytes + 3 * limits.response_bytes {
        return Err(format!("{outgoing} bytes wait to be written to one client"));
    }
    Ok(())
}
