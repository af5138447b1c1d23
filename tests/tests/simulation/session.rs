//! Runs one seed: a server, its clients and a shutdown, in paused time on one thread.

use std::{collections::BTreeMap, time::Duration};

use kakehi_server::{Handle, Limits, serve};
use tokio::{
    runtime::{Builder, Handle as Runtime},
    select,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    actors,
    handler::Simulated,
    listener::{access, listen},
    plan::{maybe, milliseconds},
    world::World,
};

/// Longer than any wait in a world. A task that takes as long never ends.
const FOR_EVER: Duration = Duration::from_secs(600);

pub(crate) struct Report {
    /// A hash of all events with their times.
    pub(crate) trace: u64,
    pub(crate) events: u64,
    pub(crate) reached: BTreeMap<&'static str, u64>,
    pub(crate) failure: Option<String>,
}

/// Runs the world of `seed`. If `loud`, prints each event.
pub(crate) fn simulate(seed: u64, loud: bool) -> Report {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing");
    let world = runtime.block_on(async {
        let world = World::new(seed, loud);
        live(&world).await;
        world
    });
    drop(runtime);
    let journal = &world.lock().court.journal;
    Report {
        trace: journal.hash(),
        events: journal.events,
        reached: journal.reached.clone(),
        failure: journal.failure.clone(),
    }
}

async fn live(world: &World) {
    let mut rng = world.rng();
    let (door, port) = listen(world);
    let handle = Handle::default();
    let drain = milliseconds(&mut rng, 0..=500);
    let hook = world.clone();
    let limits = Limits { drain_time: drain, ..world.lock().court.limits.clone() };
    let server = serve(door, Simulated(world.clone()))
        .limits(limits)
        .access(access())
        .authorize(move |_, request| {
            let token = request.command.as_ref().map(|command| command.token);
            let is_denied = token.is_some_and(|token| hook.run(token, |run| run.plan.is_denied));
            if is_denied { Err("denied".into()) } else { Ok(()) }
        })
        .handle(&handle);
    world.lock().court.journal.tell(&server);
    let mut server = tokio::spawn(server.into_future());
    let mut actors = JoinSet::new();
    actors::act(world, &port, &mut actors);

    // The shutdown begins after a random time, or once all clients have ended.
    let end = milliseconds(&mut rng, 0..=3000);
    select! {
        biased;
        () = all(&mut actors) => {}
        () = sleep(end) => {}
    }
    world.stop();
    let asked = Instant::now();
    if maybe(&mut rng, 10, |_| ()).is_some() {
        world.lock().court.journal.reach("the server was dropped");
        server.abort();
    } else {
        handle.shutdown();
    }
    let ended = timeout(FOR_EVER, &mut server).await;
    // Twice half a second for the last responses.
    let most = drain + Duration::from_millis(1050);
    if ended.is_err() || asked.elapsed() > most {
        world.judge(Err(format!("the server took {:?} to end", asked.elapsed())));
    }
    if timeout(FOR_EVER, all(&mut actors)).await.is_err() {
        world.judge(Err("a client does not end".into()));
    }
    all_is_gone(world, &handle).await;
}

async fn all(actors: &mut JoinSet<()>) {
    while let Some(ended) = actors.join_next().await {
        ended.expect("an actor does not panic");
    }
}

/// Checks that no task, connection or running request is left.
async fn all_is_gone(world: &World, handle: &Handle) {
    let begun = Instant::now();
    while Runtime::current().metrics().num_alive_tasks() > 0 && begun.elapsed() < FOR_EVER {
        sleep(Duration::from_millis(100)).await;
    }
    let tasks = Runtime::current().metrics().num_alive_tasks();
    let stats = handle.stats();
    world.note("the end", stats.ok, stats.bytes_sent);
    if tasks > 0 || stats.connections > 0 || stats.running > 0 {
        world.judge(Err(format!("{tasks} tasks are left, and {stats:?}")));
    }
}
