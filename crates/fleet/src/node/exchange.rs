//! The node's side of one request, from its accept to the acknowledged final response. No IO: what
//! came and the time go in, what to do comes out.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    life::{GO_TIME, Life, PROBE, Verdict},
    message::{Control, ControlKind, FromNode},
};

/// How many batches may wait to be acknowledged, whatever the credit.
const MAX_KEPT: usize = 64;

/// How many bytes of batches may wait to be acknowledged.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A batch is lost if an `alive` does not acknowledge it after this time.
const RESEND: Duration = Duration::from_secs(1);

/// Pause after sending batches again: the next messages of the client may be older than these.
const RESEND_PAUSE: Duration = Duration::from_millis(100);

/// So long a time without a connection to the broker does not count as silence of the client.
pub(super) const OUTAGE: Duration = Duration::from_secs(60);

/// One request as the node sees it.
#[derive(Debug)]
pub(crate) struct Exchange {
    phase: Phase,
    life: Life,
    credit: u64,
    next_seq: u64,
    /// Sent, and not yet acknowledged, in order.
    kept: VecDeque<Kept>,
    bytes: usize,
    resent: Option<Instant>,
    /// The first look since the connection to the broker ended.
    outage: Option<Instant>,
    said: Instant,
    to_send: VecDeque<FromNode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// GO must come until then.
    Accepted(Instant),
    Running,
    /// The final response is sent, and not yet acknowledged.
    Answered,
    Over(End),
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    is_final: bool,
    frames: Bytes,
    sent: Instant,
}

/// How the exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// No GO came in time, or the client cancelled first: nothing was started.
    NotStarted,
    /// The final response is acknowledged, or the client disconnected after it was sent.
    Answered,
    /// The client cancelled.
    Cancelled,
    /// The client is gone.
    Gone,
    /// The server ended without a final response, or the client gave no credit for it.
    Lost,
}

impl Exchange {
    /// A request that was accepted now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Accepted(now + GO_TIME),
            life: Life::new(now),
            credit: 0,
            next_seq: 1,
            kept: VecDeque::new(),
            bytes: 0,
            resent: None,
            outage: None,
            said: now,
            to_send: VecDeque::new(),
        }
    }

    /// Whether the first GO is awaited: it is to be verified before [`go`](Self::go).
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Accepted(_))
    }

    /// A verified GO starts the request. `false`: it is too late.
    pub(crate) fn go(&mut self, control: &Control, now: Instant) -> bool {
        if !self.is_waiting() || self.end(true, now).is_some() {
            return false;
        }
        self.phase = Phase::Running;
        self.heard(control, now);
        true
    }

    /// Control of a request that was started; or `cancel` at any time.
    pub(crate) fn heard(&mut self, control: &Control, now: Instant) {
        if control.kind == ControlKind::Cancel {
            self.over(End::Cancelled);
        }
        if !matches!(self.phase, Phase::Running | Phase::Answered) {
            return;
        }
        self.life.heard(now);
        self.credit = self.credit.max(control.credit.unwrap_or(0));
        let Some(next) = control.next else { return };
        self.acknowledge(next);
        let oldest = self.kept.front().map(|kept| kept.sent);
        let is_late = oldest.is_some_and(|sent| now.saturating_duration_since(sent) > RESEND);
        // The client repeats GO until a batch arrives, so GO counts as `alive` here.
        if control.gap || (control.kind != ControlKind::Credit && is_late) {
            self.resend(now);
        }
    }

    /// All below `next` have arrived.
    fn acknowledge(&mut self, next: u64) {
        while self.kept.front().is_some_and(|kept| kept.seq < next) {
            let Some(kept) = self.kept.pop_front() else { return };
            self.bytes -= kept.frames.len();
            if kept.is_final {
                self.over(End::Answered);
            }
        }
    }

    fn resend(&mut self, now: Instant) {
        if self.resent.is_some_and(|at| now.saturating_duration_since(at) < RESEND_PAUSE) {
            return;
        }
        self.resent = Some(now);
        self.said = now;
        // These batches are in `kept` too.
        self.to_send.clear();
        for kept in &mut self.kept {
            kept.sent = now;
            let Kept { seq, is_final, ref frames, .. } = *kept;
            self.to_send.push_back(FromNode::Batch { seq, is_final, frames: frames.clone() });
        }
    }

    /// A 503 came to something that was sent.
    pub(crate) fn unreachable(&mut self, now: Instant) {
        if !self.is_waiting() {
            self.life.unreachable(now);
        }
    }

    /// Whether a batch may be sent now.
    pub(crate) fn has_credit(&self) -> bool {
        self.phase == Phase::Running
            && self.next_seq <= self.credit
            && self.kept.len() < MAX_KEPT
            && self.bytes < MAX_BYTES
    }

    /// Sends a batch. Only with [credit](Self::has_credit).
    pub(crate) fn send(&mut self, frames: Bytes, is_final: bool, now: Instant) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.bytes += frames.len();
        self.kept.push_back(Kept { seq, is_final, frames: frames.clone(), sent: now });
        self.to_send.push_back(FromNode::Batch { seq, is_final, frames });
        self.said = now;
        if is_final {
            self.phase = Phase::Answered;
        }
    }

    /// No final response will be sent. The client learns the outcome when it settles.
    pub(crate) fn lose(&mut self) {
        self.over(End::Lost);
    }

    /// The next message to publish.
    pub(crate) fn next_message(&mut self) -> Option<FromNode> {
        self.to_send.pop_front()
    }

    /// How the exchange ended, if it has. While the node `is_connected` to no broker, silence of the
    /// client says nothing, up to [`OUTAGE`].
    pub(crate) fn end(&mut self, is_connected: bool, now: Instant) -> Option<End> {
        match self.phase {
            Phase::Accepted(until) if until <= now => self.over(End::NotStarted),
            Phase::Running | Phase::Answered => {
                if self.is_excused(is_connected, now) {
                    self.life.heard(now);
                }
                if self.life.look(now) == Verdict::Gone {
                    self.gone();
                } else if self.probe_at() <= now {
                    self.said = now;
                    if is_connected {
                        self.to_send.push_back(FromNode::Probe);
                    }
                }
            }
            _ => {}
        }
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// Whether the client could not be heard, for not too long.
    fn is_excused(&mut self, is_connected: bool, now: Instant) -> bool {
        if is_connected {
            self.outage = None;
            return false;
        }
        let since = *self.outage.get_or_insert(now);
        now.saturating_duration_since(since) < OUTAGE
    }

    /// When to call [`end`](Self::end), if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Accepted(until) => Some(until),
            Phase::Running | Phase::Answered => Some(self.life.wake_at().min(self.probe_at())),
            Phase::Over(_) => None,
        }
    }

    fn probe_at(&self) -> Instant {
        let due = self.said + PROBE;
        // If the client is gone, a probe at that time brings the second 503.
        self.life.probe_at().map_or(due, |at| due.max(at))
    }

    fn gone(&mut self) {
        self.over(if self.phase == Phase::Answered { End::Answered } else { End::Gone });
    }

    fn over(&mut self, end: End) {
        let end = match (self.phase, end) {
            (Phase::Accepted(_), _) => End::NotStarted,
            (Phase::Answered, _) => End::Answered,
            (Phase::Over(end), _) | (Phase::Running, end) => end,
        };
        self.phase = Phase::Over(end);
        self.to_send.clear();
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn control(kind: ControlKind, credit: u64, next: u64) -> Control {
        Control { kind, credit: Some(credit), next: Some(next), ..Control::default() }
    }

    fn started(credit: u64) -> (Exchange, Instant) {
        let now = Instant::now();
        let mut exchange = Exchange::new(now);
        assert!(exchange.go(&control(ControlKind::Go, credit, 1), now));
        (exchange, now)
    }

    fn sent(exchange: &mut Exchange) -> Vec<u64> {
        std::iter::from_fn(|| exchange.next_message())
            .map(|message| match message {
                FromNode::Batch { seq, .. } => seq,
                FromNode::Probe => 0,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn batch(exchange: &mut Exchange, now: Instant) {
        assert!(exchange.has_credit());
        exchange.send(Bytes::from_static(b"{}\0"), false, now);
    }

    #[test]
    fn without_go_nothing_starts_and_the_request_is_forgotten() {
        let now = Instant::now();
        let mut exchange = Exchange::new(now);
        exchange.heard(&control(ControlKind::Credit, 16, 1), now);
        exchange.unreachable(now);
        assert!(!exchange.has_credit());
        assert_eq!(exchange.end(true, now + ms(4_999)), None);
        assert_eq!(exchange.wake_at(), Some(now + ms(5_000)));
        assert!(!exchange.go(&control(ControlKind::Go, 16, 1), now + ms(5_000)));
        assert_eq!(exchange.end(true, now + ms(5_000)), Some(End::NotStarted));
    }

    #[test]
    fn credit_is_the_highest_number_and_never_falls() {
        let (mut exchange, now) = started(2);
        batch(&mut exchange, now);
        batch(&mut exchange, now);
        assert!(!exchange.has_credit());
        // Lost, repeated and late ones do no harm.
        exchange.heard(&control(ControlKind::Go, 2, 1), now);
        exchange.heard(&control(ControlKind::Credit, 1, 1), now);
        assert!(!exchange.has_credit());
        exchange.heard(&control(ControlKind::Credit, 3, 1), now);
        batch(&mut exchange, now);
        assert!(!exchange.has_credit());
        assert_eq!(sent(&mut exchange), [1, 2, 3]);
    }

    #[test]
    fn what_waits_to_be_acknowledged_is_bounded_whatever_the_credit() {
        let (mut exchange, now) = started(u64::MAX);
        for _ in 0..MAX_KEPT {
            batch(&mut exchange, now);
        }
        assert!(!exchange.has_credit());
        exchange.heard(&control(ControlKind::Credit, 0, 2), now);
        assert!(exchange.has_credit());
        exchange.send(Bytes::from(vec![0; MAX_BYTES]), false, now);
        exchange.heard(&control(ControlKind::Credit, 0, MAX_KEPT as u64), now);
        assert!(!exchange.has_credit());
    }

    #[test]
    fn a_gap_is_filled_from_the_first_that_is_missing() {
        let (mut exchange, now) = started(16);
        for _ in 0..4 {
            batch(&mut exchange, now);
        }
        assert_eq!(sent(&mut exchange), [1, 2, 3, 4]);
        let gap = Control { gap: true, ..control(ControlKind::Credit, 16, 3) };
        exchange.heard(&gap, now);
        assert_eq!(sent(&mut exchange), [3, 4]);
        exchange.heard(&gap, now + ms(1));
        assert_eq!(sent(&mut exchange), [0; 0], "the same gap, told twice");
        exchange.heard(&gap, now + ms(200));
        assert_eq!(sent(&mut exchange), [3, 4]);
    }

    #[test]
    fn an_alive_that_acknowledges_too_little_makes_the_node_send_again() {
        let (mut exchange, now) = started(16);
        batch(&mut exchange, now);
        assert_eq!(sent(&mut exchange), [1]);
        exchange.heard(&control(ControlKind::Alive, 16, 1), now + ms(900));
        assert_eq!(sent(&mut exchange), [0; 0]);
        exchange.heard(&control(ControlKind::Alive, 16, 1), now + ms(1_900));
        assert_eq!(sent(&mut exchange), [1]);
    }

    #[test]
    fn the_final_response_is_kept_until_it_is_acknowledged() {
        let (mut exchange, now) = started(16);
        batch(&mut exchange, now);
        exchange.send(Bytes::from_static(b"{}\0"), true, now);
        assert!(!exchange.has_credit(), "nothing follows the final response");
        assert_eq!(sent(&mut exchange), [1, 2]);
        exchange.heard(&control(ControlKind::Alive, 16, 2), now + ms(1_500));
        assert_eq!((sent(&mut exchange), exchange.end(true, now + ms(1_500))), (vec![2], None));
        exchange.heard(&control(ControlKind::Credit, 16, 3), now + ms(1_600));
        assert_eq!(exchange.end(true, now + ms(1_600)), Some(End::Answered));
        assert_eq!(exchange.wake_at(), None);
    }

    #[test]
    fn the_first_503_cancels_nothing() {
        let (mut exchange, now) = started(16);
        batch(&mut exchange, now);
        exchange.unreachable(now);
        exchange.unreachable(now + ms(10));
        assert_eq!(exchange.end(true, now + ms(10)), None);
        // Its client is on another broker by now.
        exchange.heard(&control(ControlKind::Alive, 16, 1), now + ms(3_000));
        exchange.unreachable(now + ms(6_000));
        assert_eq!(exchange.end(true, now + ms(6_000)), None);
    }

    /// A killed client is found by the probes: its silence alone would take longer.
    #[test]
    fn a_killed_client_is_found_within_twelve_seconds() {
        let (mut exchange, start) = started(16);
        let mut now = start;
        while exchange.end(true, now).is_none() {
            if sent(&mut exchange).contains(&0) {
                exchange.unreachable(now + ms(1));
            }
            now = exchange.wake_at().unwrap_or(now).max(now + ms(1));
        }
        assert_eq!(exchange.end(true, now), Some(End::Gone));
        assert!(now - start <= ms(12_000), "{:?}", now - start);
    }

    #[test]
    fn a_silent_client_is_gone_after_fifteen_seconds_and_not_of_a_stopped_node() {
        let (mut exchange, now) = started(16);
        assert_eq!(exchange.end(true, now + ms(14_000)), None);
        assert_eq!(exchange.end(true, now + ms(15_000)), Some(End::Gone));

        let (mut exchange, now) = started(16);
        let continued = now + ms(60_000);
        assert_eq!(exchange.end(true, continued), None, "what has come meanwhile is read first");
        exchange.heard(&control(ControlKind::Alive, 16, 1), continued);
        assert_eq!(exchange.end(true, continued + ms(14_000)), None);
    }

    #[test]
    fn silence_counts_only_while_the_broker_is_connected_up_to_a_minute() {
        let (mut exchange, start) = started(16);
        let mut now = start + ms(1_000);
        while now < start + ms(50_000) {
            assert_eq!(exchange.end(false, now), None);
            assert_eq!(sent(&mut exchange), [0; 0], "a probe would arrive late");
            now = exchange.wake_at().unwrap();
        }
        // It is back, and the client has 15 s from the last look.
        assert_eq!(exchange.end(true, now + ms(9_000)), None);
        exchange.heard(&control(ControlKind::Alive, 16, 1), now + ms(9_000));

        let (mut exchange, start) = started(16);
        let mut now = start;
        while exchange.end(false, now).is_none() {
            now = exchange.wake_at().unwrap().max(now + ms(1));
        }
        assert_eq!(exchange.end(false, now), Some(End::Gone));
        assert!((ms(60_000)..=ms(80_000)).contains(&(now - start)), "{:?}", now - start);
    }

    #[test]
    fn a_server_that_ends_without_a_response_leaves_the_outcome_open() {
        let (mut exchange, now) = started(16);
        exchange.lose();
        assert_eq!((exchange.next_message(), exchange.end(true, now)), (None, Some(End::Lost)));
        let (mut exchange, now) = started(16);
        exchange.send(Bytes::new(), true, now);
        exchange.lose();
        assert_eq!(exchange.end(true, now), Some(End::Answered));
    }

    #[test]
    fn cancel_ends_an_accepted_a_running_and_an_answered_request() {
        let now = Instant::now();
        let cancel = control(ControlKind::Cancel, 0, 1);
        let mut exchange = Exchange::new(now);
        exchange.heard(&cancel, now);
        assert_eq!(exchange.end(true, now), Some(End::NotStarted));
        assert!(!exchange.go(&control(ControlKind::Go, 16, 1), now));

        let (mut exchange, now) = started(16);
        exchange.heard(&cancel, now);
        assert_eq!(exchange.end(true, now), Some(End::Cancelled));

        let (mut exchange, now) = started(16);
        exchange.send(Bytes::new(), true, now);
        exchange.heard(&cancel, now);
        assert_eq!(exchange.end(true, now), Some(End::Answered));
    }
}
