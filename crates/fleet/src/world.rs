//! Both sides of a request over a scripted broker, which delays, loses and restarts.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    client::{Action, End, Exchange as Client},
    message::{Control, ControlKind, FromNode},
    names::Asked,
    node::{Exchange as Node, NodeEnd},
};

const ACCEPT: &str = "web-1.E.1";

/// Numbers from a seed: the same for ever.
struct Lot(u64);

impl Lot {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One direction through the broker: in order, or lost.
struct Link<T> {
    under_way: VecDeque<(Instant, T)>,
}

impl<T> Link<T> {
    fn push(&mut self, at: Instant, message: T) {
        let at = self.under_way.back().map_or(at, |(last, _)| at.max(*last));
        self.under_way.push_back((at, message));
    }

    fn pop(&mut self, now: Instant) -> Option<T> {
        let is_due = self.under_way.front().is_some_and(|(at, _)| *at <= now);
        if is_due { self.under_way.pop_front().map(|(_, message)| message) } else { None }
    }
}

/// The events of one simulated request.
#[derive(Debug, Default)]
struct Story {
    starts: u32,
    seen: Vec<u64>,
    end: Option<End>,
    node_end: Option<NodeEnd>,
}

/// The state of a simulated request.
struct World {
    lot: Lot,
    now: Instant,
    client: Client,
    node: Option<Node>,
    to_node: Link<Option<Control>>,
    to_client: Link<FromNode>,
    batches: u64,
    written: u64,
    unread: u64,
    /// Of so many messages one is lost.
    loss: u64,
    is_out: bool,
    story: Story,
}

/// A stream of `batches` batches, of which the last is final.
fn run(seed: u64, batches: u64, loss: u64, outage: Option<Duration>) -> Story {
    let start = Instant::now();
    let mut world = World {
        lot: Lot(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        now: start,
        client: Client::new(Asked::Node("web-1".parse().unwrap()), 4, start),
        node: None,
        to_node: Link { under_way: VecDeque::new() },
        to_client: Link { under_way: VecDeque::new() },
        batches,
        written: 0,
        unread: 0,
        loss,
        is_out: false,
        story: Story::default(),
    };
    let outage_at = start + Duration::from_millis(world.lot.below(400));
    while world.now < start + Duration::from_secs(120) {
        let is_out = outage.is_some_and(|time| (outage_at..outage_at + time).contains(&world.now));
        world.step(is_out);
        if world.story.end.is_some() && world.story.node_end.is_some() {
            break;
        }
        world.now += Duration::from_millis(1);
    }
    world.story
}

impl World {
    fn step(&mut self, is_out: bool) {
        if is_out {
            self.to_node.under_way.clear();
            self.to_client.under_way.clear();
        } else if self.is_out {
            self.client.reconnected(self.now);
        }
        self.is_out = is_out;
        self.read_as_node();
        while let Some(message) = self.to_client.pop(self.now) {
            self.client.message(message, self.now);
        }
        if self.unread > 0 && self.lot.below(3) > 0 {
            self.unread -= 1;
            self.client.taken(self.now);
        }
        self.client.tick(!is_out, self.now);
        self.act_as_client();
        self.act_as_node();
    }

    fn is_lost(&mut self) -> bool {
        self.is_out || (self.loss > 0 && self.lot.below(self.loss) == 0)
    }

    fn later(&mut self) -> Instant {
        self.now + Duration::from_millis(self.lot.below(5))
    }

    fn read_as_node(&mut self) {
        while let Some(message) = self.to_node.pop(self.now) {
            let Some(control) = message else {
                self.node.get_or_insert_with(|| Node::new(self.now));
                self.to_client.push(self.now, FromNode::Accept(ACCEPT.parse().unwrap()));
                continue;
            };
            let Some(node) = &mut self.node else { continue };
            if control.kind == ControlKind::Go && node.is_waiting() {
                self.story.starts += u32::from(node.go(&control, self.now));
            } else {
                node.heard(&control, self.now);
            }
        }
    }

    fn act_as_client(&mut self) {
        while let Some(action) = self.client.next_action() {
            let at = self.later();
            match action {
                Action::Ask if !self.is_lost() => self.to_node.push(at, None),
                Action::Control(_, control) if !self.is_lost() => {
                    self.to_node.push(at, Some(control));
                }
                Action::Deliver { frames, .. } => {
                    self.story.seen.push(frames.len() as u64);
                    self.unread += 1;
                }
                Action::End(end) => self.story.end = Some(end),
                _ => {}
            }
        }
    }

    fn act_as_node(&mut self) {
        let Some(node) = &mut self.node else { return };
        while node.has_credit() && self.written < self.batches {
            self.written += 1;
            let frames = Bytes::from(vec![0; usize::try_from(self.written).unwrap()]);
            node.send(frames, self.written == self.batches, self.now);
        }
        self.story.node_end = node.end(!self.is_out, self.now);
        while let Some(message) = self.node.as_mut().and_then(Node::next_message) {
            if !self.is_lost() {
                let at = self.later();
                self.to_client.push(at, message);
            }
        }
    }
}

fn is_whole(story: &Story, batches: u64) -> bool {
    story.starts == 1
        && story.end == Some(End::Answered)
        && story.seen.iter().copied().eq(1..=batches)
        && story.node_end == Some(NodeEnd::Answered)
}

#[test]
fn a_stream_arrives_whole_and_in_order() {
    let story = run(1, 100, 0, None);
    assert!(is_whole(&story, 100), "{story:?}");
}

#[test]
fn a_broker_that_loses_messages_loses_no_output() {
    for seed in 0..60 {
        let story = run(seed, 60, 10, None);
        assert!(is_whole(&story, 60), "seed {seed}: {story:?}");
    }
}

#[test]
fn a_broker_that_is_away_for_a_while_loses_no_output() {
    for seed in 0..4 {
        let story = run(seed, 200, 0, Some(Duration::from_secs(40)));
        assert!(is_whole(&story, 200), "seed {seed}: {story:?}");
    }
}

#[test]
fn a_broker_that_restarts_loses_no_output() {
    for seed in 0..60 {
        let story = run(seed, 200, 0, Some(Duration::from_millis(1_500)));
        assert!(is_whole(&story, 200), "seed {seed}: {story:?}");
    }
}
