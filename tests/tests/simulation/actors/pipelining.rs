//! A client that pipelines its requests.

use fastrand::Rng;
use futures::StreamExt;
use kakehi_client::Outcome;
use tokio::time::{sleep, timeout};

use super::{connect, judge, request};
use crate::{
    listener::Port,
    plan::{maybe, milliseconds},
    world::World,
};

pub(crate) async fn ask(world: World, port: Port, mut rng: Rng) {
    let Some((mut connection, _)) = connect(&world, &port, &mut rng) else { return };
    for _ in 0..rng.usize(1..=3) {
        sleep(milliseconds(&mut rng, 0..=20)).await;
        let requests: Vec<_> = (0..rng.usize(1..=11)).map(|_| request(&world, &mut rng)).collect();
        let tokens: Vec<u64> = requests.iter().map(|(_, token)| *token).collect();
        let patience = maybe(&mut rng, 30, |rng| milliseconds(rng, 0..=300));
        let requests = requests.into_iter().map(|(request, _)| request);
        let mut pipeline = connection.pipeline_messages(requests);
        let mut answered = 0;
        let mut is_broken = false;
        loop {
            let next = pipeline.next();
            let item = match patience {
                None => next.await,
                Some(patience) => match timeout(patience, next).await {
                    Ok(item) => item,
                    Err(_) => break,
                },
            };
            let Some(result) = item else { break };
            let Some(token) = tokens.get(answered) else {
                return world.judge(Err("a pipeline yields more answers than requests".into()));
            };
            answered += 1;
            judge(&world, *token, result.as_ref());
            is_broken |= result.is_err_and(|error| error.outcome() == Outcome::Unknown);
        }
        drop(pipeline);
        if patience.is_none() && answered != tokens.len() {
            world.judge(Err(format!("{answered} of {} answers came", tokens.len())));
        }
        if (is_broken || answered != tokens.len()) && connection.is_open() {
            world.judge(Err("the connection of an abandoned pipeline is open".into()));
        }
    }
}
