//! A client: gives GO to one accept only, delivers each batch once and in order, bounds what a node
//! may send, and ends once.

use std::time::Duration;

use bytes::Bytes;

use super::{Clock, Input, MAX_STEPS, from_node};
use crate::{
    client::exchange::{Action, End, Exchange, Fate},
    message::{Control, ControlKind, FromNode},
    names::{Accept, Asked},
};

/// How many batches a node may be ahead of the reader.
const WINDOW: u64 = 16;

/// The client's state by its messages and actions.
#[derive(Default)]
struct Model {
    any: bool,
    accepts: Vec<Accept>,
    go: Option<Accept>,
    credit: u64,
    /// The batches that came in order and are not delivered yet.
    expected: Vec<(Bytes, bool)>,
    delivered: u64,
    taken: u64,
    is_answered: bool,
    end: Option<End>,
}

pub(super) fn play(input: &mut Input<'_>, clock: &mut Clock) {
    let mut model = Model { any: input.byte().is_multiple_of(2), ..Model::default() };
    let names = ("web-1".parse(), "role".parse(), "web".parse());
    let (Ok(node), Ok(role), Ok(web)) = names else { unreachable!("these are names") };
    let asked = if model.any { Asked::Any(role, web) } else { Asked::Node(node) };
    let mut exchange = Exchange::new(asked, WINDOW, clock.now());
    model.look(&mut exchange);
    for _ in 0..MAX_STEPS {
        if input.is_over() {
            break;
        }
        model.step(&mut exchange, input, clock);
        model.look(&mut exchange);
    }
    // Without a node, each exchange ends.
    for _ in 0..60 {
        clock.0 += Duration::from_secs(1);
        exchange.tick(true, clock.now());
        model.look(&mut exchange);
    }
    assert!(model.end.is_some(), "it has not ended");
    assert!(exchange.wake_at().is_none(), "a timer is left");
}

impl Model {
    fn step(&mut self, exchange: &mut Exchange, input: &mut Input<'_>, clock: &mut Clock) {
        let now = clock.now();
        let next = self.delivered + 1;
        match input.byte() % 10 {
            0 => {
                let accepts = ["web-1.E.1", "web-1.F.2", "web-2.E.1"];
                let accept = accepts[usize::from(input.byte() % 3)].parse();
                self.message(exchange, FromNode::Accept(accept.expect("it is one")), clock);
            }
            1 | 2 => {
                let seq = if input.byte() < 0xe0 { next } else { input.number(next) };
                let (size, is_final) = (input.byte(), input.byte() % 16 == 15);
                let frames = Bytes::from(vec![size; 2]);
                self.message(exchange, FromNode::Batch { seq, is_final, frames }, clock);
            }
            3 => {
                let received = input.message(next);
                if let Some(message) = from_node(&received) {
                    self.message(exchange, message, clock);
                }
            }
            4 => self.message(exchange, FromNode::Unreachable, clock),
            5 if self.taken < self.delivered => {
                self.taken += 1;
                exchange.taken(now);
            }
            6 => clock.advance(input),
            7 => exchange.tick(!input.byte().is_multiple_of(4), now),
            8 => exchange.fate(fate(input), now),
            9 => match input.byte() % 16 {
                0 => exchange.cancel(),
                1 => exchange.denied("no".to_owned()),
                _ => exchange.reconnected(now),
            },
            _ => {}
        }
    }

    fn message(&mut self, exchange: &mut Exchange, message: FromNode, clock: &Clock) {
        match &message {
            FromNode::Accept(accept) => self.accepts.push(accept.clone()),
            FromNode::Batch { seq, is_final, frames } => {
                let is_next = *seq == self.delivered + 1 && *seq <= self.credit;
                if is_next && self.go.is_some() && self.end.is_none() {
                    self.expected.push((frames.clone(), *is_final));
                }
            }
            FromNode::Refusal(frames) if self.go.is_none() && self.end.is_none() => {
                self.expected.push((frames.clone(), true));
            }
            _ => {}
        }
        exchange.message(message, clock.now());
    }

    /// Checks what the client does.
    fn look(&mut self, exchange: &mut Exchange) {
        while let Some(action) = exchange.next_action() {
            // A late accept is cancelled.
            let is_cancel = matches!(&action, Action::Control(_, control) if control.kind == ControlKind::Cancel);
            assert!(self.end.is_none() || is_cancel, "{action:?} after the end");
            match action {
                Action::Ask => assert!(self.go.is_none(), "asks after GO"),
                Action::Control(accept, control) => self.control(&accept, &control),
                Action::Deliver { frames, is_final } => {
                    assert!(!self.is_answered, "a response after the final one");
                    assert_eq!(self.expected.pop(), Some((frames, is_final)), "another batch");
                    self.delivered += 1;
                    self.is_answered = is_final;
                    let waiting = self.delivered - self.taken;
                    assert!(waiting <= WINDOW, "{waiting} batches wait for the reader");
                }
                Action::Settle(accept) => assert_eq!(self.go.as_ref(), Some(&accept)),
                Action::End(end) => self.ended(end),
            }
        }
        assert!(self.expected.is_empty(), "a batch was not delivered");
    }

    fn control(&mut self, accept: &Accept, control: &Control) {
        assert!(self.accepts.contains(accept), "control of {accept}, which did not accept");
        if control.kind == ControlKind::Cancel {
            return;
        }
        assert!(self.any || accept.node.as_str() == "web-1", "GO to {accept}, which was not asked");
        let go = self.go.get_or_insert(accept.clone());
        assert_eq!(go, accept, "two accepts have GO");
        let credit = control.credit.expect("each has credit");
        assert_eq!(credit, self.taken + WINDOW);
        assert!(credit >= self.credit, "less credit than before");
        self.credit = credit;
        assert_eq!(control.next, Some(self.delivered + 1), "another number is expected");
    }

    fn ended(&mut self, end: End) {
        let is_sound = match end {
            End::Answered => self.is_answered,
            End::Absent | End::NotAccepted | End::Denied(_) => self.go.is_none(),
            End::Lost(_) => self.go.is_some() && !self.is_answered,
            End::Cancelled => true,
        };
        assert!(is_sound, "{end:?}");
        self.end = Some(end);
    }
}

fn fate(input: &mut Input<'_>) -> Fate {
    match input.byte() % 6 {
        0 => Fate::Final(Bytes::from_static(b"{}\0")),
        1 => Fate::Running,
        2 => Fate::Never,
        3 => Fate::Interrupted,
        4 => Fate::Forgotten,
        _ => Fate::UnknownElsewhere,
    }
}
