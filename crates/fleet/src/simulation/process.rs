//! A simulated process: a runtime in paused time, and a link to a broker.

use std::time::Duration;

use fastrand::Rng;
use kakehi_server::{Handle, Limits};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, advance, sleep_until},
};

use super::{
    client,
    court::Shared,
    handler::Simulated,
    plan::{Plan, Setup},
};
use crate::{Broker, Keys, Node, Signer, scripted::Link};

/// The role of a process.
#[derive(Clone)]
pub(super) enum Role {
    Node { name: usize, places: usize, keys: Keys },
    Client { lanes: Vec<Vec<Plan>>, signer: Option<Signer> },
}

pub(super) struct Process {
    pub(super) role: Role,
    pub(super) life: u64,
    /// `None`: the process was killed, or has ended.
    pub(super) alive: Option<Alive>,
    pub(super) stopped_until: Option<Duration>,
    /// Messages to the process are held back until this time.
    pub(super) deaf_until: Option<Duration>,
    pub(super) cut_until: Option<Duration>,
    /// The broker and the number of the connection.
    pub(super) connection: Option<(usize, u64)>,
    pub(super) reconnect_at: Duration,
    pub(super) restart_at: Option<Duration>,
}

/// A process that runs, or is stopped.
pub(super) struct Alive {
    pub(super) link: Link,
    pub(super) handle: Handle,
    runtime: Runtime,
    main: JoinHandle<()>,
    /// The start, in the time of the world and in that of the process.
    born: Duration,
    base: Instant,
}

/// The processes of a setup: the nodes, then the clients.
pub(super) fn processes(setup: &Setup) -> Vec<Process> {
    let signer = setup.is_signed.then(signer);
    let keys = match &signer {
        Some(signer) => Keys::default().with_key(signer.public_key(), "anna", [""; 0]).unwrap(),
        None => Keys::default().unsigned(true),
    };
    let nodes = setup.nodes.iter().map(|name| Role::Node {
        name: *name,
        places: setup.places,
        keys: keys.clone(),
    });
    let clients = setup
        .clients
        .iter()
        .map(|lanes| Role::Client { lanes: lanes.clone(), signer: signer.clone() });
    nodes.chain(clients).map(Process::new).collect()
}

/// The same key in each run.
fn signer() -> Signer {
    let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [7; 32]).unwrap();
    Signer::from_seed(&pair.seed().unwrap()).unwrap()
}

impl Process {
    fn new(role: Role) -> Self {
        Self {
            role,
            life: 0,
            alive: None,
            stopped_until: None,
            deaf_until: None,
            cut_until: None,
            connection: None,
            reconnect_at: Duration::ZERO,
            restart_at: None,
        }
    }

    pub(super) fn is_node(&self) -> bool {
        matches!(self.role, Role::Node { .. })
    }

    /// Starts the process, not yet connected.
    pub(super) fn start(&mut self, number: usize, court: &Shared, now: Duration, rng: &mut Rng) {
        self.life += 1;
        court.lock().processes[number].life = self.life;
        let link = Link::new(format!("p{number}l{}", self.life));
        link.connect(false);
        let handle = Handle::default();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing");
        let main: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match self.role.clone() {
            Role::Node { name, places, keys } => {
                let handler = Simulated { court: court.clone(), process: number };
                let node = Node::connect(Broker::scripted(link.clone()), format!("n{name}"))
                    .labels("role=all".parse().unwrap())
                    .keys(keys)
                    .limits(Limits { connections: places, ..Limits::default() })
                    .drain(Duration::from_millis(rng.u64(0..3_000)))
                    .handle(&handle);
                Box::pin(async move { node.serve(handler).await.unwrap() })
            }
            Role::Client { lanes, signer } => {
                Box::pin(client::run(link.clone(), court.clone(), number, lanes, signer))
            }
        };
        let main = runtime.spawn(main);
        let base = runtime.block_on(async { Instant::now() });
        self.alive = Some(Alive { link, handle, runtime, main, born: now, base });
    }
}

impl Alive {
    /// Runs until `now`. After a stop the clock jumps.
    pub(super) fn run(&self, now: Duration, was_stopped: bool) {
        let until = self.base + now.saturating_sub(self.born);
        self.runtime.block_on(async {
            if was_stopped {
                advance(until.saturating_duration_since(Instant::now())).await;
            }
            sleep_until(until).await;
        });
    }

    /// A time of the process in that of the world.
    pub(super) fn world_time(&self, at: Instant) -> Duration {
        self.born + at.saturating_duration_since(self.base)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.main.is_finished()
    }

    /// How many tasks are alive.
    pub(super) fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }
}
