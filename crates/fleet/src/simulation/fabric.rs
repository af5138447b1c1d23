//! The scripted brokers: a cluster in which each knows the subscriptions of all, after a while.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use fastrand::Rng;

use super::plan::{Setup, chance, milliseconds};
use crate::scripted::message;

pub(super) struct Fabric {
    pub(super) brokers: Vec<Broker>,
    subscriptions: Vec<Subscription>,
    flights: BTreeMap<(Duration, u64), Flight>,
    /// The last arrival by connections: messages of one connection to another do not overtake.
    last: BTreeMap<(u64, u64), Duration>,
    order: u64,
    connections: u64,
    loss: u32,
    twice: u32,
    delay: Duration,
    /// Two brokers that do not reach each other until then.
    pub(super) split: Option<(usize, usize, Duration)>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Broker {
    pub(super) down_until: Duration,
    pub(super) stopped_until: Duration,
}

struct Subscription {
    process: usize,
    broker: usize,
    connection: u64,
    number: u64,
    subject: String,
    is_queue: bool,
    since: Duration,
}

/// A message on its way.
pub(super) struct Flight {
    pub(super) process: usize,
    pub(super) connection: u64,
    pub(super) number: u64,
    pub(super) message: Message,
    from: (usize, u64),
    to: usize,
}

/// The fate of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Sent,
    Twice,
    Lost,
    Unsubscribed,
}

impl Fabric {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            brokers: vec![Broker::default(); setup.brokers],
            subscriptions: vec![],
            flights: BTreeMap::new(),
            last: BTreeMap::new(),
            order: 0,
            connections: 0,
            loss: setup.loss,
            twice: setup.twice,
            delay: setup.delay,
            split: None,
        }
    }

    /// The end of loss and repetition.
    pub(super) fn calm_down(&mut self) {
        (self.loss, self.twice) = (0, 0);
    }

    /// A broker that takes connections.
    pub(super) fn pick(&self, rng: &mut Rng, now: Duration) -> Option<usize> {
        let up = |number: &usize| {
            self.brokers[*number].down_until <= now && self.brokers[*number].stopped_until <= now
        };
        let up: Vec<_> = (0..self.brokers.len()).filter(up).collect();
        rng.choice(up)
    }

    /// The process connects to this broker; returns the number of the connection.
    pub(super) fn connect(&mut self, process: usize, broker: usize, now: Duration) -> u64 {
        self.connections += 1;
        let connection = self.connections;
        for subscription in &mut self.subscriptions {
            if subscription.process == process {
                (subscription.broker, subscription.connection) = (broker, connection);
                subscription.since = now;
            }
        }
        connection
    }

    /// Ends the connection of the process. The messages on their way to it are lost.
    pub(super) fn disconnect(&mut self, process: usize) {
        self.flights.retain(|_, flight| flight.process != process);
        for subscription in &mut self.subscriptions {
            if subscription.process == process {
                subscription.since = Duration::MAX;
            }
        }
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, process: usize) {
        self.disconnect(process);
        self.subscriptions.retain(|subscription| subscription.process != process);
    }

    /// The broker dies with all that is in it.
    pub(super) fn crash(&mut self, broker: usize, until: Duration) {
        self.brokers[broker].down_until = until;
        self.flights.retain(|_, flight| flight.from.0 != broker && flight.to != broker);
    }

    pub(super) fn subscribe(
        &mut self,
        process: usize,
        (broker, connection): (usize, u64),
        (number, subject): (u64, String),
        is_queue: bool,
        now: Duration,
    ) {
        let since = now;
        let subscription =
            Subscription { process, broker, connection, number, subject, is_queue, since };
        self.subscriptions.push(subscription);
    }

    pub(super) fn unsubscribe(&mut self, process: usize, number: u64) {
        self.subscriptions.retain(|found| (found.process, found.number) != (process, number));
    }

    /// The process publishes by its connection.
    pub(super) fn publish(
        &mut self,
        rng: &mut Rng,
        from: (usize, u64),
        process: usize,
        message: &Message,
        at: Duration,
    ) -> Published {
        if self.loss > 0 && rng.u32(..self.loss) == 0 {
            return Published::Lost;
        }
        let is_seen = |found: &Subscription| {
            let is_local = found.broker == from.0;
            // A remote subscription becomes known a little later.
            let since = found.since.saturating_add(if is_local {
                Duration::ZERO
            } else {
                Duration::from_millis(3)
            });
            since <= at
                && matches(&found.subject, &message.subject)
                && self.reaches(from.0, found.broker, at)
        };
        let found: Vec<_> = (0..self.subscriptions.len())
            .filter(|number| is_seen(&self.subscriptions[*number]))
            .collect();
        let (groups, mut receivers): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|number| self.subscriptions[*number].is_queue);
        receivers.extend(rng.choice(groups));
        if receivers.is_empty() {
            self.answer_503(rng, from, process, message, at);
            return Published::Unsubscribed;
        }
        let is_twice = self.twice > 0 && rng.u32(..self.twice) == 0;
        for number in receivers {
            self.send(rng, from, number, message.clone(), at, false);
            if is_twice {
                let is_late = chance(rng, 50);
                self.send(rng, from, number, message.clone(), at, is_late);
            }
        }
        if is_twice { Published::Twice } else { Published::Sent }
    }

    fn reaches(&self, from: usize, to: usize, at: Duration) -> bool {
        self.split.is_none_or(|(a, b, until)| {
            until <= at || ((from, to) != (a, b) && (from, to) != (b, a))
        })
    }

    /// Sends to a subscription; `is_late`: others overtake it.
    fn send(
        &mut self,
        rng: &mut Rng,
        from: (usize, u64),
        number: usize,
        message: Message,
        at: Duration,
        is_late: bool,
    ) {
        let to = &self.subscriptions[number];
        let delay = Duration::from_micros(
            rng.u64(100..=u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX)),
        );
        let mut at = at + delay;
        if is_late {
            at += milliseconds(rng, 1..=4_000);
        } else {
            let last = self.last.entry((from.1, to.connection)).or_default();
            at = at.max(*last);
            *last = at;
        }
        let (process, connection, broker) = (to.process, to.connection, to.broker);
        let flight = Flight { process, connection, number: to.number, message, from, to: broker };
        self.order += 1;
        self.flights.insert((at, self.order), flight);
    }

    fn answer_503(
        &mut self,
        rng: &mut Rng,
        from: (usize, u64),
        process: usize,
        message: &Message,
        at: Duration,
    ) {
        let Some(reply) = message.reply.clone() else { return };
        let own = |found: &Subscription| {
            found.process == process
                && found.connection == from.1
                && matches(&found.subject, &reply)
        };
        let Some(number) = self.subscriptions.iter().position(own) else { return };
        let mut answer = self::message(reply.to_string(), None, HeaderMap::new(), Bytes::new());
        answer.status = Some(StatusCode::NO_RESPONDERS);
        self.send(rng, from, number, answer, at, false);
    }

    /// Returns the next message that arrives by `now`. `held` returns the time until which the
    /// messages to a process wait.
    pub(super) fn arrive(
        &mut self,
        now: Duration,
        held: impl Fn(usize) -> Option<Duration>,
    ) -> Option<Flight> {
        loop {
            let first = self.flights.first_entry()?;
            let (at, _) = *first.key();
            if at > now {
                return None;
            }
            let flight = first.remove();
            let broker = self.brokers[flight.to]
                .stopped_until
                .max(self.brokers[flight.from.0].stopped_until);
            let until = held(flight.process).unwrap_or_default().max(broker);
            if until <= now {
                return Some(flight);
            }
            let last = self.last.entry((flight.from.1, flight.connection)).or_default();
            *last = (*last).max(until);
            self.order += 1;
            self.flights.insert((until, self.order), flight);
        }
    }
}

/// Whether a subject matches a pattern, in which `*` is any one token.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) => return true,
            (Some(expected), Some(found)) if expected == "*" || expected == found => {}
            _ => return false,
        }
    }
}
