//! The clients: `kakehi-client` connections, and raw streams that may send anything.

mod asking;
mod pipelining;
mod raw;
mod reading;

use std::time::Duration;

use fastrand::Rng;
use kakehi_channel::{BufferLimits, Channel, ErrorKind, Json, Request, Response};
use kakehi_client::{Connection, Error, Timeouts};
use tokio::task::JoinSet;

use crate::{
    link::Side,
    listener::Port,
    plan::{Command, Plan, maybe, milliseconds},
    stream::Stream,
    world::World,
};

type Client = Connection<Request<Command>, Response, Json, Stream>;

/// How long a client waits for the server's answer to the deadline.
const GRACE: Duration = Duration::from_millis(100);

/// How late a timer may fire: tokio's timers have a resolution of 1 ms.
const LATE: Duration = Duration::from_millis(3);

/// Spawns one to five clients.
pub(crate) fn act(world: &World, port: &Port, actors: &mut JoinSet<()>) {
    let mut rng = world.rng();
    for _ in 0..rng.usize(1..=5) {
        let (world, port, own) = (world.clone(), port.clone(), world.rng());
        match rng.u32(..10) {
            0..4 => actors.spawn(asking::ask(world, port, own)),
            4..6 => actors.spawn(pipelining::ask(world, port, own)),
            _ => actors.spawn(raw::act(world, port, own)),
        };
    }
}

/// A connection of `kakehi-client`, and the number of its link.
fn connect(world: &World, port: &Port, rng: &mut Rng) -> Option<(Client, usize)> {
    let stream = port.connect(rng).ok()?;
    let number = stream.number;
    let (request, response) = {
        let limits = &world.lock().court.limits;
        (limits.request_bytes, limits.response_bytes)
    };
    let incoming = match rng.u32(..10) {
        0 => BufferLimits { initial: rng.usize(..50), max: rng.usize(100..600) },
        _ => BufferLimits { initial: rng.usize(..300), max: response },
    };
    let outgoing = BufferLimits { initial: rng.usize(..300), max: request + rng.usize(..100) };
    let clock = |rng: &mut Rng| maybe(rng, 50, |rng| milliseconds(rng, 0..=2000));
    let timeouts = Timeouts { timeout: clock(rng), deadline: clock(rng) };
    let connection =
        Connection::new(Channel::with_limits(stream, incoming, outgoing)).with_timeouts(timeouts);
    Some((connection, number))
}

/// A request for a new plan, and its token.
fn request(world: &World, rng: &mut Rng) -> (Request<Command>, u64) {
    let token = world.plan(Plan::draw(rng));
    let filler = "f".repeat([0, 0, 0, rng.usize(..100), rng.usize(..1600)][rng.usize(..5)]);
    let id = match rng.u32(..10) {
        0 => "same".to_owned(),
        1 => format!("{token} {}", "i".repeat(rng.usize(..90))),
        _ => format!("{token}"),
    };
    (Request::with_command(id, Command { token, filler }), token)
}

/// Checks the result that a client received against the run of the request.
fn judge(world: &World, token: u64, result: Result<&Response, &Error>) {
    let outcome = result.err().map(Error::outcome);
    world.note("outcome", token, outcome.map_or(9, |outcome| outcome as u64));
    world.judge(world.run(token, |run| run.end_as(outcome)));
    match result {
        Ok(response) if response.message != format!("{token} ok") => {
            world.judge(Err(format!("a client received for {token}: {response:?}")));
        }
        Err(error)
            if error.kind() == ErrorKind::Unexpected || error.kind() == ErrorKind::Malformed =>
        {
            world.judge(Err(format!("a client received the error for {token}: {error}")));
        }
        _ => {}
    }
}

/// The number of bytes that the client has written on a link.
fn written(world: &World, link: usize) -> u64 {
    world.lock().links[link].way(Side::Client).total
}
