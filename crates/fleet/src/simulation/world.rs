//! Runs one seed: processes and brokers in small steps of time, on one thread.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;

use super::{
    court::{Record, Shared},
    fabric::{Fabric, Published},
    faults::{self, Event, Fault},
    plan::{Setup, chance, milliseconds},
    process::{Process, processes},
};
use crate::scripted::Outgoing;

/// All faults are over by then.
const LAST_FAULT: Duration = Duration::from_secs(50);

/// Longer than any wait in a world.
const FOR_EVER: Duration = Duration::from_secs(400);

/// The longest step.
const STEP: Duration = Duration::from_millis(100);

pub(super) struct Report {
    /// A hash of all events with their times.
    pub(super) trace: u64,
    pub(super) events: u64,
    pub(super) reached: BTreeMap<&'static str, u64>,
    pub(super) failure: Option<String>,
}

struct World {
    rng: Rng,
    now: Duration,
    quantum: Duration,
    court: Shared,
    fabric: Fabric,
    processes: Vec<Process>,
    faults: Vec<Event>,
    /// Something moved in the last step.
    is_busy: bool,
}

/// Runs the world of `seed`. If `is_loud`, prints each event.
pub(super) fn simulate(seed: u64, is_loud: bool) -> Report {
    let mut rng = Rng::with_seed(seed);
    let setup = Setup::draw(&mut rng);
    let mut faults = faults::draw(&mut rng, &setup);
    let court = Shared::new(is_loud);
    court.lock().journal.tell(|| format!("{setup:#?} {faults:#?}"));
    faults.reverse();
    let processes = processes(&setup);
    court.lock().processes.resize_with(processes.len(), Record::default);
    let fabric = Fabric::new(&setup);
    let quantum = setup.quantum;
    let now = Duration::ZERO;
    let mut world = World { rng, now, quantum, court, fabric, processes, faults, is_busy: true };
    for number in 0..world.processes.len() {
        world.start(number);
    }
    world.live();
    // Dropped without a record: what still runs was judged.
    let court = world.court.clone();
    let report = {
        let journal = &court.lock().journal;
        Report {
            trace: journal.hash(),
            events: journal.events,
            reached: journal.reached.clone(),
            failure: journal.failure.clone(),
        }
    };
    drop(world);
    report
}

impl World {
    fn live(&mut self) {
        let mut step = self.quantum;
        let mut settled_at = None;
        while self.now < FOR_EVER && self.court.lock().journal.failure.is_none() {
            step = if self.is_busy { self.quantum } else { (2 * step).min(STEP) };
            self.step(step);
            if self.now >= LAST_FAULT {
                self.fabric.calm_down();
            }
            // The end: some seconds after the last caller, so that nodes forget and cancel.
            if !self.is_settled() {
                settled_at = None;
            } else if self.now > *settled_at.get_or_insert(self.now) + Duration::from_secs(30) {
                break;
            }
        }
        self.court.lock().close();
        self.check_tasks();
    }

    /// Whether nothing is to come: no fault, no caller, no handler, no new connection.
    fn is_settled(&self) -> bool {
        let is_over = |process: &Process| {
            let has_ended =
                process.alive.as_ref().is_none_or(|alive| process.is_node() || alive.has_ended());
            let is_free = process.stopped_until.is_none() && process.cut_until.is_none();
            // A node waits for a client only as long as it is connected itself.
            let is_connected = process.alive.is_none() || process.connection.is_some();
            has_ended && is_free && is_connected && process.restart_at.is_none()
        };
        // A broker that is stopped still has messages.
        let delivers = self.fabric.brokers.iter().all(|broker| broker.stopped_until <= self.now);
        self.faults.is_empty()
            && delivers
            && self.processes.iter().all(is_over)
            && self.court.lock().is_quiet()
    }

    fn step(&mut self, step: Duration) {
        self.now += step;
        self.court.lock().now = self.now;
        self.is_busy = false;
        while self.faults.last().is_some_and(|event| event.at <= self.now) {
            if let Some(event) = self.faults.pop() {
                self.apply(event.fault);
            }
        }
        self.deliver();
        let mut order: Vec<_> = (0..self.processes.len()).collect();
        self.rng.shuffle(&mut order);
        for number in order {
            self.run(number, step);
        }
        self.court.lock().check_running();
    }

    fn deliver(&mut self) {
        let Self { fabric, processes, court, now, .. } = self;
        let held = |number: usize| {
            let process = &processes[number];
            process.stopped_until.max(process.cut_until).max(process.deaf_until)
        };
        while let Some(flight) = fabric.arrive(*now, held) {
            let process = &processes[flight.process];
            let is_current =
                process.connection.is_some_and(|(_, found)| found == flight.connection);
            let Some(alive) = process.alive.as_ref().filter(|_| is_current) else { continue };
            if process.is_node() {
                court.lock().node_gets(flight.process, &flight.message);
            }
            if !alive.link.deliver(flight.number, flight.message) {
                court.lock().journal.tell(|| format!("{} does not take a message", flight.process));
            }
            self.is_busy = true;
        }
    }

    /// Runs a process for a step, and takes its messages.
    fn run(&mut self, number: usize, step: Duration) {
        let now = self.now;
        let process = &mut self.processes[number];
        if process.restart_at.is_some_and(|at| at <= now) {
            process.restart_at = None;
            self.start(number);
        }
        self.record_cut(number, step);
        let process = &mut self.processes[number];
        let Some(alive) = &process.alive else { return };
        let was_stopped = match process.stopped_until {
            Some(until) if until > now => return,
            Some(_) => {
                process.stopped_until = None;
                true
            }
            None => false,
        };
        alive.run(now, was_stopped);
        if process.is_node() && alive.has_ended() {
            return self.end(number);
        }
        self.reconnect(number);
        self.take(number);
    }

    fn take(&mut self, number: usize) {
        let process = &self.processes[number];
        let (Some(alive), Some(from)) = (&process.alive, process.connection) else { return };
        if process.cut_until.is_some_and(|until| until > self.now) {
            return;
        }
        while let Some(outgoing) = alive.link.next_outgoing() {
            match outgoing {
                Outgoing::Subscribe { number: subscription, subject, queue } => {
                    let what = (subscription, subject);
                    self.fabric.subscribe(number, from, what, queue.is_some(), self.now);
                }
                Outgoing::Unsubscribe { number: subscription } => {
                    self.fabric.unsubscribe(number, subscription);
                }
                Outgoing::Publish { at, message } => {
                    self.is_busy = true;
                    let sent = alive.world_time(at);
                    let mut court = self.court.lock();
                    if process.is_node() {
                        court.node_published(number, &message);
                    } else {
                        court.client_published(&message);
                    }
                    // It waited for the connection.
                    if sent + STEP < self.now {
                        court.reach("a late message");
                    }
                    let at = sent.max(self.now.saturating_sub(STEP));
                    match self.fabric.publish(&mut self.rng, from, number, &message, at) {
                        Published::Sent => {}
                        Published::Twice => court.reach("a message is repeated"),
                        Published::Lost => court.reach("a message is lost"),
                        Published::Unsubscribed => court.reach("a message without a subscriber"),
                    }
                }
            }
        }
    }

    fn start(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.start(number, &self.court, self.now, &mut self.rng);
        process.reconnect_at = self.now;
        self.court.lock().processes[number].is_draining = false;
        self.reconnect(number);
    }

    fn reconnect(&mut self, number: usize) {
        let process = &mut self.processes[number];
        let Some(alive) = &process.alive else { return };
        let is_due = process.reconnect_at <= self.now && process.cut_until.is_none();
        if process.connection.is_some() || !is_due {
            return;
        }
        match self.fabric.pick(&mut self.rng, self.now) {
            Some(broker) => {
                let connection = self.fabric.connect(number, broker, self.now);
                process.connection = Some((broker, connection));
                alive.link.connect(true);
                self.court.lock().note("connected", number, broker);
            }
            None => process.reconnect_at = self.now + Duration::from_millis(200),
        }
    }

    fn disconnect(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.connection.take().is_none() {
            return;
        }
        self.court.lock().note("disconnected", number, 0);
        self.fabric.disconnect(number);
        process.reconnect_at = self.now + milliseconds(&mut self.rng, 5..=1_500);
        if let Some(alive) = &process.alive {
            alive.link.connect(false);
        }
    }

    /// The process has ended, or is killed.
    fn end(&mut self, number: usize) {
        self.take(number);
        self.fabric.forget(number);
        let process = &mut self.processes[number];
        process.connection = None;
        process.stopped_until = None;
        process.deaf_until = None;
        let now = self.now;
        self.court.lock().died(number, now);
        // The handlers are dropped with it, and say so to the court.
        process.alive = None;
    }

    fn record_cut(&mut self, number: usize, step: Duration) {
        let now = self.now;
        let process = &mut self.processes[number];
        if process.cut_until.is_some_and(|until| until <= now) {
            process.cut_until = None;
        }
        let is_split = |broker: usize| {
            self.fabric
                .split
                .is_some_and(|(a, b, until)| until + step >= now && (broker == a || broker == b))
        };
        let is_cut = process.cut_until.is_some()
            || process.connection.is_none_or(|(broker, _)| {
                self.fabric.brokers[broker].stopped_until + step > now || is_split(broker)
            });
        let record = &mut self.court.lock().processes[number];
        for (is_so, intervals) in
            [(is_cut, &mut record.cuts), (process.stopped_until.is_some(), &mut record.stops)]
        {
            match intervals.last_mut() {
                _ if !is_so => {}
                Some((_, to)) if *to + STEP + step >= now => *to = now,
                _ => intervals.push((now.saturating_sub(step), now)),
            }
        }
    }

    fn apply(&mut self, fault: Fault) {
        self.court.lock().journal.tell(|| format!("{:?} {fault:?}", self.now));
        let now = self.now;
        match fault {
            Fault::RestartBroker(broker, time) => {
                self.court.lock().reach("a broker restarts");
                self.fabric.crash(broker, now + time);
                for number in 0..self.processes.len() {
                    if self.processes[number].connection.is_some_and(|(found, _)| found == broker) {
                        self.disconnect(number);
                    }
                }
            }
            Fault::StopBroker(broker, time) => {
                let until = &mut self.fabric.brokers[broker].stopped_until;
                *until = (*until).max(now + time);
            }
            Fault::Split(a, b, time) if a != b => self.fabric.split = Some((a, b, now + time)),
            Fault::Split(..) => {}
            Fault::Disconnect(number) => self.disconnect(number),
            Fault::Cut(number, time) => {
                let until = &mut self.processes[number].cut_until;
                // A new cut does not shorten an earlier one.
                *until = (*until).max(Some(now + time));
                // Half of the cuts end the connection. Messages that were written are then lost.
                if chance(&mut self.rng, 50) {
                    self.disconnect(number);
                }
            }
            Fault::Stop(number, time) => {
                self.court.lock().reach("a process is stopped");
                let until = &mut self.processes[number].stopped_until;
                *until = (*until).max(Some(now + time));
                let until = *until;
                // A process that continues may look at its clock before it reads.
                let reads_late = chance(&mut self.rng, 50);
                let deaf = until.map(|until| until + STEP).filter(|_| reads_late);
                let process = &mut self.processes[number];
                process.deaf_until = process.deaf_until.max(deaf);
            }
            Fault::Kill(number, again) => {
                let is_node = self.processes[number].is_node();
                let what = if is_node { "a node is killed" } else { "a client is killed" };
                self.court.lock().reach(what);
                // Messages that have not reached the broker are lost.
                if let Some(alive) = &self.processes[number].alive {
                    while alive.link.next_outgoing().is_some() {}
                }
                self.end(number);
                self.processes[number].restart_at = again.map(|time| now + time);
            }
            Fault::Drain(number) => {
                if let Some(alive) = &self.processes[number].alive {
                    self.court.lock().reach("a node leaves");
                    let mut court = self.court.lock();
                    let record = &mut court.processes[number];
                    record.is_draining = true;
                    record.drained_life = record.life;
                    drop(court);
                    alive.handle.shutdown();
                }
            }
        }
    }

    /// Checks that nodes keep no task and no request.
    fn check_tasks(&mut self) {
        for (number, process) in self.processes.iter().enumerate() {
            let Some(alive) = process.alive.as_ref().filter(|_| process.is_node()) else {
                continue;
            };
            let (tasks, stats) = (alive.tasks(), alive.handle.stats());
            // The node itself is one task.
            if tasks > 1 || stats.connections > 0 || stats.running > 0 {
                let why = format!("node {number} keeps {tasks} tasks, and {stats:?}");
                self.court.lock().fail(why);
            }
        }
    }
}
