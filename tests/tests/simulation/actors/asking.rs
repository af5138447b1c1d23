//! A client that sends one request at a time on its connection.

use fastrand::Rng;
use kakehi_channel::low_level::LowLevel;
use kakehi_channel::{ErrorKind, Json, Request, Response, Status};
use kakehi_client::{Error, Outcome, RequestBuilder};
use tokio::time::{Instant, sleep, timeout};

use super::{Client, GRACE, LATE, connect, judge, reading, request, written};
use crate::{
    listener::Port,
    plan::{Command, maybe, milliseconds},
    stream::Stream,
    world::World,
};

pub(crate) async fn ask(world: World, port: Port, mut rng: Rng) {
    let Some((mut connection, link)) = connect(&world, &port, &mut rng) else { return };
    for _ in 0..rng.usize(1..=5) {
        if maybe(&mut rng, 40, |_| ()).is_some() {
            sleep(milliseconds(&mut rng, 0..=50)).await;
        }
        if maybe(&mut rng, 60, |_| ()).is_some() {
            await_answer(&world, &mut connection, link, &mut rng).await;
        } else {
            follow(&world, &mut connection, link, &mut rng).await;
        }
    }
    let Some(mut channel) = connection.into_channel() else { return };
    if channel.memory() > 0 {
        world.judge(Err(format!("an idle connection holds {} bytes", channel.memory())));
    }
    if maybe(&mut rng, 50, |_| ()).is_some() && channel.close().await.is_ok() {
        reading::to_the_end(&world, link, channel.into_inner().into_inner()).await;
    }
}

/// Waits for the final response, or drops the future.
async fn await_answer(world: &World, connection: &mut Client, link: usize, rng: &mut Rng) {
    let (message, token) = request(world, rng);
    let was_open = connection.is_open();
    let before = written(world, link);
    let patience = maybe(rng, 30, |rng| milliseconds(rng, 0..=200));
    let deadline = maybe(rng, 40, |rng| milliseconds(rng, 1..=1000));
    let mut call = connection.message(message);
    if deadline.is_some() {
        call = call.deadline(deadline);
    }
    let begun = Instant::now();
    let answering = call.into_future();
    let result = match patience {
        None => answering.await,
        Some(patience) => {
            let Ok(result) = timeout(patience, answering).await else {
                world.lock().court.journal.reach("given up");
                return is_closed(world, connection);
            };
            result
        }
    };
    if deadline.is_some_and(|deadline| begun.elapsed() > deadline + GRACE + LATE) {
        world.judge(Err(format!("{:?} with a deadline of {deadline:?}", begun.elapsed())));
    }
    judge(world, token, result.as_ref());
    if let Err(error) = result {
        has_failed(world, connection, &error);
        if error.outcome() == Outcome::NotSent && written(world, link) != before {
            world.judge(Err("a request with the outcome not_sent was written".into()));
        }
        if !was_open && error.outcome() != Outcome::NotSent {
            world.judge(Err("a closed connection was used".into()));
        }
    }
}

/// Reads each response, or stops before the last one.
async fn follow(world: &World, connection: &mut Client, link: usize, rng: &mut Rng) {
    let (message, token) = request(world, rng);
    let before = written(world, link);
    match responses(world, connection.message(message), token, rng).await {
        Ok(true) => {}
        Ok(false) => {
            world.lock().court.journal.reach("left in the middle");
            is_closed(world, connection);
        }
        Err(error) => {
            judge(world, token, Err(&error));
            if error.outcome() == Outcome::NotSent && written(world, link) != before {
                world.judge(Err("a request with the outcome not_sent was written".into()));
            }
            has_failed(world, connection, &error);
        }
    }
}

/// Returns whether all responses were read.
async fn responses(
    world: &World,
    call: RequestBuilder<'_, Request<Command>, Response, Json, Stream>,
    token: u64,
    rng: &mut Rng,
) -> Result<bool, Error> {
    let mut responses = call.send().await?;
    let most = maybe(rng, 20, |rng| rng.usize(..10)).unwrap_or(usize::MAX);
    let mut seen = reading::Seen::new(token);
    for _ in 0..most {
        let item = match maybe(rng, 30, |rng| milliseconds(rng, 1..=100)) {
            Some(patience) => responses.next_within(patience).await.transpose(),
            None => responses.next().await,
        };
        match item {
            None if seen.is_over => break,
            None => {
                world.judge(Err("responses ended before the final one".into()));
                break;
            }
            Some(Ok(response)) if response.status == Status::Processing => {
                world.judge(seen.progress(&response));
            }
            Some(Ok(response)) => {
                world.judge(seen.last(&response));
                let outcome = match (response.status, response.refused) {
                    (Status::Ok, _) => None,
                    (_, Some(_)) => Some(Outcome::Refused),
                    _ => Some(Outcome::Failed),
                };
                world.judge(world.run(token, |run| run.end_as(outcome)));
            }
            // The response can still come.
            Some(Err(error)) if error.kind() == ErrorKind::Timeout => {
                world.lock().court.journal.reach("waited on after a timeout");
            }
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(seen.is_over)
}

/// Checks that the connection is closed after an error, unless the server answered the request.
fn has_failed(world: &World, connection: &Client, error: &Error) {
    let goes_on = match error.outcome() {
        Outcome::Failed | Outcome::Done => true,
        // A request that cannot be encoded does not affect the connection.
        Outcome::NotSent => {
            error.kind() == ErrorKind::TooLarge || error.kind() == ErrorKind::Unencodable
        }
        Outcome::Refused | Outcome::Unknown => false,
    };
    if !goes_on {
        is_closed(world, connection);
    }
}

fn is_closed(world: &World, connection: &Client) {
    if connection.is_open() {
        world.judge(Err("a request was abandoned, and its connection is still in use".into()));
    }
}
