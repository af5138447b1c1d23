//! The client's side of one request, from the question who takes it to the final response. No IO:
//! what came and the time go in, what to do comes out.

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    life::{ALIVE, LATE, Life, Verdict},
    message::{Control, ControlKind, FromNode},
    names::{Accept, Asked},
};

/// Without an accept for so long, the request is published again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Without any accept for so long, the request fails, not started.
const ASK_TIME: Duration = Duration::from_secs(5);

/// The total time for queries of a request's outcome.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// The reader has taken so many bytes since the last credit: then the node gets new credit. Many
/// small batches get it at half of the window.
const CREDIT_BYTES: usize = 256 * 1024;

/// The same gap is reported again after this time.
const GAP_PAUSE: Duration = Duration::from_millis(250);

/// One request as the client sees it.
#[derive(Debug)]
pub(crate) struct Exchange {
    asked: Asked,
    phase: Phase,
    life: Life,
    /// How many batches the node may be ahead of the reader.
    window: u64,
    /// The sequence number that is expected.
    next: u64,
    /// How many batches the reader has taken.
    taken: u64,
    /// The sizes of the batches that the reader has not taken, in bytes.
    waiting: VecDeque<usize>,
    /// How many bytes the reader has taken since the last credit.
    taken_bytes: usize,
    /// The last credit that was sent.
    credit: u64,
    gap_told: Option<(u64, Instant)>,
    alive_at: Instant,
    actions: VecDeque<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Asking {
        since: Instant,
        again_at: Instant,
    },
    Started(Accept),
    Settling {
        accept: Accept,
        since: Instant,
        again_at: Instant,
        /// The last tick.
        looked: Instant,
        /// Another process of the same name does not know the request.
        is_unknown_elsewhere: bool,
    },
    Over,
}

/// The next actions, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Publish the request.
    Ask,
    /// Publish a control message; a GO is to be signed.
    Control(Accept, Control),
    /// Give these frames to the reader. The last ones end in the final response.
    Deliver {
        frames: Bytes,
        is_final: bool,
    },
    /// Query the outcome of the request from the node.
    Settle(Accept),
    End(End),
}

/// How the exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The final response was delivered.
    Answered,
    /// No node subscribes to the subject: not sent.
    Absent,
    /// No node accepted the request in time: nothing was started.
    NotAccepted,
    /// The broker denies this subject: nothing was started.
    Denied(String),
    /// GO was sent, and no final response came. With the node's answer to the settle, if any.
    Lost(Option<Fate>),
    /// The caller gave the request up.
    Cancelled,
}

/// A node's answer to a settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Final(Bytes),
    Running,
    Never,
    Interrupted,
    Forgotten,
    /// Another process of the same name, which is new or the twin of the one that was asked, does not
    /// know the request.
    UnknownElsewhere,
}

impl Exchange {
    /// Asks now.
    pub(crate) fn new(asked: Asked, window: u64, now: Instant) -> Self {
        Self {
            asked,
            phase: Phase::Asking { since: now, again_at: now + ASK_AGAIN },
            life: Life::new(now),
            window,
            next: 1,
            taken: 0,
            waiting: VecDeque::new(),
            taken_bytes: 0,
            credit: 0,
            gap_told: None,
            alive_at: now,
            actions: VecDeque::from([Action::Ask]),
        }
    }

    /// The accept that has GO.
    pub(crate) fn accept(&self) -> Option<&Accept> {
        match &self.phase {
            Phase::Started(accept) | Phase::Settling { accept, .. } => Some(accept),
            Phase::Asking { .. } | Phase::Over => None,
        }
    }

    /// Returns the next action.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A message came to the inbox.
    pub(crate) fn message(&mut self, message: FromNode, now: Instant) {
        match message {
            FromNode::Accept(accept) => self.accepted(accept, now),
            FromNode::Batch { seq, is_final, frames } => self.batch(seq, is_final, frames, now),
            FromNode::Refusal(frames) => {
                if matches!(self.phase, Phase::Asking { .. }) {
                    self.actions.push_back(Action::Deliver { frames, is_final: true });
                    self.over(End::Answered);
                }
            }
            FromNode::Probe => self.life.heard(now),
            FromNode::Unreachable => self.unreachable(now),
            // The caller decodes it and calls `fate`.
            FromNode::Settled(_) => {}
        }
    }

    fn accepted(&mut self, accept: Accept, now: Instant) {
        let is_asked = match &self.asked {
            Asked::Node(name) => *name == accept.node,
            Asked::Any(..) => true,
        };
        // Without an answer: the inbox does not say who sent it, and a cancel could end the request of
        // another client.
        if !is_asked {
            return;
        }
        match &self.phase {
            Phase::Asking { .. } => {
                self.phase = Phase::Started(accept);
                self.life.heard(now);
                self.say(ControlKind::Go, now);
            }
            Phase::Started(ours) | Phase::Settling { accept: ours, .. } if *ours == accept => {}
            // A second node that was asked.
            _ => self.actions.push_back(Action::Control(accept, cancel())),
        }
    }

    fn batch(&mut self, seq: u64, is_final: bool, frames: Bytes, now: Instant) {
        if !matches!(self.phase, Phase::Started(_) | Phase::Settling { .. }) {
            return;
        }
        self.life.heard(now);
        self.resume();
        // The reader has no room for it. The node sends it again.
        if seq > self.credit {
            return;
        }
        if seq > self.next {
            let is_told = self.gap_told.is_some_and(|(next, at)| {
                next == self.next && now.saturating_duration_since(at) < GAP_PAUSE
            });
            if !is_told {
                self.gap_told = Some((self.next, now));
                self.say(ControlKind::Credit, now);
            }
            return;
        }
        if seq < self.next {
            return;
        }
        self.next += 1;
        self.gap_told = None;
        self.waiting.push_back(frames.len());
        self.actions.push_back(Action::Deliver { frames, is_final });
        if is_final {
            self.say(ControlKind::Credit, now);
            self.over(End::Answered);
        }
    }

    /// The reader has taken one batch.
    pub(crate) fn taken(&mut self, now: Instant) {
        self.taken += 1;
        self.taken_bytes += self.waiting.pop_front().unwrap_or(0);
        let is_half = self.taken + self.window >= self.credit + self.window.div_ceil(2);
        if is_half || self.taken_bytes >= CREDIT_BYTES {
            self.say(ControlKind::Credit, now);
        }
    }

    /// The connection to the broker is up again. The last messages may be lost.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        if let Phase::Settling { again_at, .. } = &mut self.phase {
            *again_at = now;
        }
        self.life.heard(now);
        self.say(ControlKind::Alive, now);
    }

    /// The caller does not want the request any more.
    pub(crate) fn cancel(&mut self) {
        if let Some(accept) = self.accept().cloned() {
            self.actions.push_back(Action::Control(accept, cancel()));
        }
        self.over(End::Cancelled);
    }

    /// The broker denies that the request is published.
    pub(crate) fn denied(&mut self, why: String) {
        if matches!(self.phase, Phase::Asking { .. }) {
            self.over(End::Denied(why));
        }
    }

    fn unreachable(&mut self, now: Instant) {
        match self.phase {
            Phase::Asking { .. } => self.over(End::Absent),
            Phase::Started(_) => self.life.unreachable(now),
            // To a settle: the node may be on its way back. It is asked again.
            _ => {}
        }
    }

    /// The node answered the settle.
    pub(crate) fn fate(&mut self, fate: Fate, now: Instant) {
        let Phase::Settling { is_unknown_elsewhere, .. } = &mut self.phase else { return };
        match fate {
            Fate::Running => {
                self.life.heard(now);
                self.resume();
            }
            Fate::UnknownElsewhere => *is_unknown_elsewhere = true,
            fate => self.over(End::Lost(Some(fate))),
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Phase::Started(accept) = &self.phase {
            let accept = accept.clone();
            self.actions.push_back(Action::Settle(accept.clone()));
            self.phase = Phase::Settling {
                accept,
                since: now,
                again_at: now + ASK_AGAIN,
                looked: now,
                is_unknown_elsewhere: false,
            };
        }
    }

    fn resume(&mut self) {
        if let Phase::Settling { accept, .. } = &self.phase {
            self.phase = Phase::Started(accept.clone());
        }
    }

    /// Handles timers that have expired. Without a connection to the broker, silence has no
    /// meaning.
    pub(crate) fn tick(&mut self, is_connected: bool, now: Instant) {
        self.excuse(is_connected, now);
        match &mut self.phase {
            Phase::Asking { since, .. } if *since + ASK_TIME <= now => self.over(End::NotAccepted),
            Phase::Asking { again_at, .. } if *again_at <= now => {
                *again_at = now + ASK_AGAIN;
                if is_connected {
                    self.actions.push_back(Action::Ask);
                }
            }
            Phase::Started(_) => {
                if !is_connected {
                    self.life.heard(now);
                    self.alive_at = now + ALIVE;
                } else if self.life.look(now) == Verdict::Gone {
                    self.settle(now);
                } else if self.alive_at <= now {
                    // Until the first batch arrives, GO may have been lost.
                    let is_quiet = self.next == 1;
                    self.say(if is_quiet { ControlKind::Go } else { ControlKind::Alive }, now);
                }
            }
            Phase::Settling { since, is_unknown_elsewhere, .. } if *since + SETTLE_TIME <= now => {
                let fate = is_unknown_elsewhere.then_some(Fate::Forgotten);
                self.over(End::Lost(fate));
            }
            Phase::Settling { accept, again_at, .. } if *again_at <= now => {
                *again_at = now + ASK_AGAIN;
                if is_connected {
                    self.actions.push_back(Action::Settle(accept.clone()));
                }
            }
            _ => {}
        }
    }

    /// The time for a settle counts only while the client runs and is connected.
    fn excuse(&mut self, is_connected: bool, now: Instant) {
        let Phase::Settling { since, again_at, looked, .. } = &mut self.phase else { return };
        let gap = now.saturating_duration_since(mem::replace(looked, now));
        let was_stopped = gap > ASK_AGAIN + LATE;
        if was_stopped {
            *again_at = now;
        }
        if was_stopped || !is_connected {
            *since += gap;
        }
    }

    /// When to call [`tick`](Self::tick), if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Asking { since, again_at } => Some((*since + ASK_TIME).min(*again_at)),
            Phase::Started(_) => Some(self.life.wake_at().min(self.alive_at)),
            Phase::Settling { since, again_at, .. } => Some((*since + SETTLE_TIME).min(*again_at)),
            Phase::Over => None,
        }
    }

    /// Sends a control message. Each has the complete state, credit and acknowledgement, so the
    /// loss of one does no harm.
    fn say(&mut self, kind: ControlKind, now: Instant) {
        let Phase::Started(accept) = &self.phase else { return };
        self.credit = self.taken + self.window;
        self.taken_bytes = 0;
        self.alive_at = now + ALIVE;
        let control = Control {
            kind,
            credit: Some(self.credit),
            next: Some(self.next),
            gap: self.gap_told.is_some_and(|(_, at)| at == now),
            ..Control::default()
        };
        self.actions.push_back(Action::Control(accept.clone(), control));
    }

    fn over(&mut self, end: End) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.actions.push_back(Action::End(end));
        }
    }
}

fn cancel() -> Control {
    Control { kind: ControlKind::Cancel, ..Control::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn node() -> Asked {
        Asked::Node("web-1".parse().unwrap())
    }

    fn accept(text: &str) -> Accept {
        text.parse().unwrap()
    }

    fn actions(exchange: &mut Exchange) -> Vec<Action> {
        std::iter::from_fn(|| exchange.next_action()).collect()
    }

    fn kinds(exchange: &mut Exchange) -> Vec<(ControlKind, u64, u64, bool)> {
        actions(exchange)
            .into_iter()
            .filter_map(|action| match action {
                Action::Control(_, Control { kind, credit, next, gap, .. }) => {
                    Some((kind, credit.unwrap_or(0), next.unwrap_or(0), gap))
                }
                _ => None,
            })
            .collect()
    }

    fn started() -> (Exchange, Instant) {
        let now = Instant::now();
        let mut exchange = Exchange::new(node(), 4, now);
        exchange.message(FromNode::Accept(accept("web-1.E.1")), now);
        assert_eq!(kinds(&mut exchange), [(ControlKind::Go, 4, 1, false)]);
        (exchange, now)
    }

    fn batch(exchange: &mut Exchange, seq: u64, is_final: bool, now: Instant) {
        exchange.message(FromNode::Batch { seq, is_final, frames: Bytes::new() }, now);
    }

    #[test]
    fn a_batch_beyond_the_credit_is_not_delivered() {
        let (mut exchange, now) = started();
        for seq in 1..=5 {
            batch(&mut exchange, seq, false, now);
        }
        let delivered = actions(&mut exchange);
        assert!(delivered.len() == 4, "{delivered:?}");
        exchange.taken(now);
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), [(ControlKind::Credit, 6, 5, false)]);
        batch(&mut exchange, 5, true, now);
        assert!(matches!(actions(&mut exchange)[0], Action::Deliver { is_final: true, .. }));
    }

    #[test]
    fn large_batches_get_credit_before_half_of_the_window_is_read() {
        let now = Instant::now();
        let mut exchange = Exchange::new(node(), 16, now);
        exchange.message(FromNode::Accept(accept("web-1.E.1")), now);
        actions(&mut exchange);
        for seq in 1..=3 {
            let frames = Bytes::from(vec![0; CREDIT_BYTES / 2]);
            exchange.message(FromNode::Batch { seq, is_final: false, frames }, now);
        }
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), []);
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), [(ControlKind::Credit, 18, 4, false)]);
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), [], "the bytes are counted anew after each credit");
    }

    #[test]
    fn a_503_before_go_means_not_sent() {
        let now = Instant::now();
        let mut exchange = Exchange::new(node(), 4, now);
        exchange.message(FromNode::Unreachable, now);
        assert_eq!(actions(&mut exchange), [Action::Ask, Action::End(End::Absent)]);
    }

    #[test]
    fn without_an_accept_the_client_asks_again_and_gives_up() {
        let now = Instant::now();
        let mut exchange = Exchange::new(node(), 4, now);
        for at in [999, 1_000, 2_000, 5_000] {
            exchange.tick(true, now + ms(at));
        }
        let expected = [Action::Ask, Action::Ask, Action::Ask, Action::End(End::NotAccepted)];
        assert_eq!(actions(&mut exchange), expected);
        assert_eq!(exchange.wake_at(), None);
    }

    #[test]
    fn one_accept_has_go_and_the_others_are_cancelled() {
        let (mut exchange, now) = started();
        exchange.message(FromNode::Accept(accept("web-1.F.9")), now);
        exchange.message(FromNode::Accept(accept("web-1.E.1")), now);
        assert_eq!(actions(&mut exchange), [Action::Control(accept("web-1.F.9"), cancel())]);
    }

    #[test]
    fn an_accept_of_another_node_has_no_answer() {
        let now = Instant::now();
        let mut exchange = Exchange::new(node(), 4, now);
        exchange.message(FromNode::Accept(accept("web-2.E.1")), now);
        assert_eq!(actions(&mut exchange), [Action::Ask]);
        assert_eq!(exchange.accept(), None);
        let (mut exchange, now) = started();
        exchange.message(FromNode::Accept(accept("web-2.E.1")), now);
        assert_eq!(actions(&mut exchange), []);
    }

    #[test]
    fn go_is_repeated_until_the_first_batch_and_alive_follows() {
        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(1_000));
        assert_eq!(kinds(&mut exchange), [(ControlKind::Go, 4, 1, false)]);
        batch(&mut exchange, 1, false, now + ms(1_500));
        exchange.tick(true, now + ms(2_000));
        assert_eq!(kinds(&mut exchange), [(ControlKind::Alive, 4, 2, false)]);
    }

    #[test]
    fn credit_follows_the_reader() {
        let (mut exchange, now) = started();
        for seq in 1..=4 {
            batch(&mut exchange, seq, false, now);
        }
        assert_eq!(kinds(&mut exchange), [], "nothing was read");
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), []);
        exchange.taken(now);
        assert_eq!(kinds(&mut exchange), [(ControlKind::Credit, 6, 5, false)]);
    }

    #[test]
    fn a_gap_is_told_and_what_is_beyond_it_dropped() {
        let (mut exchange, now) = started();
        batch(&mut exchange, 1, false, now);
        actions(&mut exchange);
        batch(&mut exchange, 3, false, now);
        batch(&mut exchange, 4, true, now);
        assert_eq!(
            actions(&mut exchange),
            [Action::Control(
                accept("web-1.E.1"),
                Control {
                    kind: ControlKind::Credit,
                    credit: Some(4),
                    next: Some(2),
                    gap: true,
                    ..Control::default()
                }
            )]
        );
        for (seq, is_final) in [(1, false), (2, false), (3, false), (4, true)] {
            batch(&mut exchange, seq, is_final, now + ms(1));
        }
        let delivered = actions(&mut exchange);
        assert_eq!(
            delivered.len(),
            5,
            "three batches, the acknowledgement, the end: {delivered:?}"
        );
        assert_eq!(delivered.last(), Some(&Action::End(End::Answered)));
    }

    #[test]
    fn silence_is_settled_and_what_runs_goes_on() {
        let (mut exchange, now) = started();
        batch(&mut exchange, 1, false, now);
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        assert_eq!(actions(&mut exchange).last(), Some(&Action::Settle(accept("web-1.E.1"))));
        exchange.fate(Fate::Running, now + ms(15_001));
        batch(&mut exchange, 2, true, now + ms(15_002));
        assert_eq!(actions(&mut exchange).last(), Some(&Action::End(End::Answered)));

        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        exchange.fate(Fate::Never, now + ms(15_001));
        let end = Action::End(End::Lost(Some(Fate::Never)));
        assert_eq!(actions(&mut exchange).last(), Some(&end));
    }

    #[test]
    fn the_answer_of_another_process_of_the_name_counts_last() {
        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        exchange.fate(Fate::UnknownElsewhere, now + ms(15_001));
        assert!(!matches!(actions(&mut exchange).last(), Some(Action::End(_))));
        let mut twin = Exchange { actions: VecDeque::new(), ..exchange };
        twin.fate(Fate::Never, now + ms(15_002));
        assert_eq!(actions(&mut twin).last(), Some(&Action::End(End::Lost(Some(Fate::Never)))));

        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        exchange.fate(Fate::UnknownElsewhere, now + ms(15_001));
        for second in 16..=25 {
            exchange.tick(true, now + ms(1_000 * second));
        }
        let end = Action::End(End::Lost(Some(Fate::Forgotten)));
        assert_eq!(actions(&mut exchange).last(), Some(&end));
    }

    #[test]
    fn a_node_that_does_not_say_leaves_the_outcome_unknown() {
        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        exchange.message(FromNode::Unreachable, now + ms(15_001));
        for second in 16..=25 {
            exchange.tick(true, now + ms(1_000 * second));
        }
        let found = actions(&mut exchange);
        assert_eq!(settles(&found), 10);
        assert_eq!(found.last(), Some(&Action::End(End::Lost(None))));
    }

    fn settles(actions: &[Action]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Settle(_))).count()
    }

    #[test]
    fn a_client_that_was_stopped_or_cut_off_goes_on_to_settle() {
        let (mut exchange, now) = started();
        exchange.tick(true, now + ms(14_000));
        exchange.tick(true, now + ms(15_000));
        exchange.tick(true, now + ms(16_000));
        assert_eq!(settles(&actions(&mut exchange)), 2);
        // Stopped for 20 s.
        exchange.tick(true, now + ms(36_000));
        assert_eq!(settles(&actions(&mut exchange)), 1, "it asks at once");
        for second in 37..=60 {
            exchange.tick(false, now + ms(1_000 * second));
        }
        assert_eq!(actions(&mut exchange), [], "what is sent now would arrive late");
        exchange.reconnected(now + ms(60_500));
        exchange.tick(true, now + ms(60_500));
        assert_eq!(settles(&actions(&mut exchange)), 1);
        exchange.fate(Fate::Final(Bytes::new()), now + ms(60_600));
        let end = Action::End(End::Lost(Some(Fate::Final(Bytes::new()))));
        assert_eq!(actions(&mut exchange), [end]);
    }

    #[test]
    fn silence_counts_only_while_the_broker_is_connected() {
        let (mut exchange, now) = started();
        for second in 1..100 {
            exchange.tick(false, now + ms(1_000 * second));
        }
        assert_eq!(actions(&mut exchange), [], "what is sent now would arrive late");
        exchange.reconnected(now + ms(100_000));
        assert_eq!(kinds(&mut exchange), [(ControlKind::Alive, 4, 1, false)]);
        exchange.tick(true, now + ms(114_000));
        assert!(matches!(exchange.phase, Phase::Started(_)));
    }

    #[test]
    fn a_given_up_request_is_cancelled_once_it_has_go() {
        let (mut exchange, _) = started();
        exchange.cancel();
        let expected =
            [Action::Control(accept("web-1.E.1"), cancel()), Action::End(End::Cancelled)];
        assert_eq!(actions(&mut exchange), expected);

        let mut asking = Exchange::new(node(), 4, Instant::now());
        asking.cancel();
        assert_eq!(actions(&mut asking), [Action::Ask, Action::End(End::Cancelled)]);
    }

    #[test]
    fn a_denied_request_is_not_started() {
        let mut exchange = Exchange::new(node(), 4, Instant::now());
        exchange.denied("no".into());
        assert_eq!(actions(&mut exchange).last(), Some(&Action::End(End::Denied("no".into()))));
        let (mut exchange, _) = started();
        exchange.denied("no".into());
        assert_eq!(actions(&mut exchange), [], "it has GO: it may run");
    }
}
