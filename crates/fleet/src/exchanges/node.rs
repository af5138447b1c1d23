//! A node: starts once and only by GO, never exceeds its credit, and sends the same batch again.

use std::time::Duration;

use bytes::Bytes;

use super::{Clock, Input, MAX_STEPS, control, to_node};
use crate::{
    message::{Control, ControlKind, FromNode},
    node::exchange::{End, Exchange},
};

/// As in `Exchange`.
const MAX_KEPT: usize = 64;

/// As in `Exchange`, in units of [`BATCH`].
const MAX_BYTES: usize = 4;

/// The size of a large batch.
static BATCH: [u8; 1024 * 1024] = [b'x'; 1024 * 1024];

/// The node's state by its messages and calls.
#[derive(Default)]
struct Model {
    is_started: bool,
    is_answered: bool,
    is_cancelled: bool,
    credit: u64,
    /// All below are acknowledged.
    acknowledged: u64,
    /// The batches, from number 1 on: their frames, and whether one is final.
    sent: Vec<(Bytes, bool)>,
    end: Option<End>,
}

pub(super) fn play(input: &mut Input<'_>, clock: &mut Clock) {
    let mut exchange = Exchange::new(clock.now());
    let mut model = Model::default();
    for _ in 0..MAX_STEPS {
        if input.is_over() {
            break;
        }
        model.step(&mut exchange, input, clock);
        model.look(&mut exchange);
    }
    // Without a client, each exchange ends.
    for _ in 0..30 {
        clock.0 += Duration::from_secs(1);
        model.ended(exchange.end(true, clock.now()));
        model.look(&mut exchange);
    }
    assert!(model.end.is_some(), "it has not ended");
    assert!(exchange.wake_at().is_none(), "a timer is left");
}

impl Model {
    fn step(&mut self, exchange: &mut Exchange, input: &mut Input<'_>, clock: &mut Clock) {
        let now = clock.now();
        let next = self.sent.len() as u64 + 1;
        match input.byte() % 8 {
            0 => {
                let (credit, next) = (Some(input.number(next)), Some(input.number(next)));
                let kind = [ControlKind::Credit, ControlKind::Alive, ControlKind::Go]
                    [usize::from(input.byte() % 3)];
                let gap = input.byte().is_multiple_of(4);
                let heard = Control { kind, credit, next, gap, ..Control::default() };
                self.hear(exchange, &heard, clock);
            }
            1 => {
                let headers = input.headers(next);
                to_node(&headers);
                if let Some(heard) = control(&headers) {
                    self.hear(exchange, &heard, clock);
                }
            }
            2 => exchange.unreachable(now),
            3 | 4 => self.send(exchange, input, clock),
            5 => clock.advance(input),
            6 => self.ended(exchange.end(!input.byte().is_multiple_of(4), now)),
            _ => {
                let credit = Some(next + u64::from(input.byte() % 64));
                let heard = Control { kind: ControlKind::Credit, credit, ..Control::default() };
                self.hear(exchange, &heard, clock);
            }
        }
    }

    fn hear(&mut self, exchange: &mut Exchange, heard: &Control, clock: &Clock) {
        let is_go = heard.kind == ControlKind::Go && exchange.is_waiting();
        if is_go {
            if !exchange.go(heard, clock.now()) {
                return;
            }
            assert!(!self.is_started && !self.is_cancelled, "it starts twice, or after a cancel");
            self.is_started = true;
        } else {
            exchange.heard(heard, clock.now());
            self.is_cancelled |= heard.kind == ControlKind::Cancel;
        }
        if self.is_started {
            self.credit = self.credit.max(heard.credit.unwrap_or(0));
            // A batch that was not sent cannot be acknowledged.
            let next = heard.next.unwrap_or(0).min(self.sent.len() as u64 + 1);
            self.acknowledged = self.acknowledged.max(next);
        }
        if self.is_cancelled {
            let end = exchange.end(true, clock.now());
            assert!(end.is_some(), "a cancel ends it at once");
            self.ended(end);
        }
    }

    fn send(&mut self, exchange: &mut Exchange, input: &mut Input<'_>, clock: &Clock) {
        if !exchange.has_credit() {
            return;
        }
        let next = self.sent.len() as u64 + 1;
        assert!(self.is_started && !self.is_answered, "a batch before GO or after the final one");
        assert!(next <= self.credit, "batch {next} with credit {}", self.credit);
        let size = input.byte();
        let frames =
            if size > 0xf0 { Bytes::from_static(&BATCH) } else { Bytes::from(vec![size; 3]) };
        let is_final = input.byte() % 16 == 15;
        self.is_answered = is_final;
        self.sent.push((frames.clone(), is_final));
        exchange.send(frames, is_final, clock.now());
        self.check_kept();
    }

    /// The memory of batches that are not acknowledged is bounded.
    fn check_kept(&self) {
        let known = usize::try_from(self.acknowledged.max(1) - 1).unwrap_or(usize::MAX);
        let kept = self.sent.get(known..).unwrap_or_default();
        assert!(kept.len() <= MAX_KEPT, "{} batches are kept", kept.len());
        let large = kept.iter().filter(|(frames, _)| frames.len() == BATCH.len()).count();
        assert!(large <= MAX_BYTES, "{large} MiB are kept");
    }

    /// Checks what is published.
    fn look(&self, exchange: &mut Exchange) {
        while let Some(message) = exchange.next_message() {
            assert!(self.end.is_none(), "{message:?} after the end");
            match message {
                FromNode::Batch { seq, is_final, frames } => {
                    let at = usize::try_from(seq - 1).expect("it is small");
                    assert!(self.sent.get(at) == Some(&(frames, is_final)), "another batch {seq}");
                    assert!(seq >= self.acknowledged, "batch {seq} was acknowledged");
                }
                FromNode::Probe => assert!(self.is_started, "a probe before GO"),
                message => panic!("{message:?}"),
            }
        }
    }

    fn ended(&mut self, end: Option<End>) {
        let Some(end) = end else {
            assert!(self.end.is_none(), "it goes on after {:?}", self.end);
            return;
        };
        assert!(self.end.is_none_or(|before| before == end), "{end:?} after {:?}", self.end);
        self.end = Some(end);
        match end {
            End::NotStarted => assert!(!self.is_started, "it was started"),
            End::Answered => assert!(self.is_answered, "no final response was sent"),
            End::Cancelled => assert!(self.is_cancelled && self.is_started && !self.is_answered),
            End::Gone | End::Lost => assert!(self.is_started && !self.is_answered),
        }
    }
}
