//! The times of the protocol, and the judgement whether the other side is gone.

use std::time::Duration;

use tokio::time::Instant;

/// The time without a message after which the other side is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// How often a node that has nothing to say checks that its client can be reached.
pub(crate) const PROBE: Duration = Duration::from_secs(5);

/// How often a client says that it is alive.
pub(crate) const ALIVE: Duration = Duration::from_secs(1);

/// How long an accept waits for GO.
pub(crate) const GO_TIME: Duration = Duration::from_secs(5);

/// The time after which the other side is gone if only statuses 503 arrive.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// If a timer fires later than this, the process was stopped.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// How long before the end of [`SILENCE`] the clock is looked at once more. A process that was stopped
/// misses that look, or makes it late. The end comes at least this time after the look, so that the
/// messages that have arrived are read first.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// If the last look is later than this, the process was stopped, and the messages that it missed may be
/// lost: a broker drops them when it restarts.
const LATE_LOOK: Duration = Duration::from_millis(500);

/// How long after the last 503 the end comes. A process that was stopped reads 503s that are old, and
/// the messages that came after them.
const READ_FIRST: Duration = Duration::from_millis(500);

/// The last messages of the other side of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    heard: Instant,
    /// When the first 503 came since the last message.
    unreachable: Option<Instant>,
    /// When the first 503 came that means that the other side is gone.
    confirmed: Option<Instant>,
    /// When the last look was.
    looked: Option<Instant>,
}

/// Whether the other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Alive,
    Gone,
}

impl Life {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, unreachable: None, confirmed: None, looked: None }
    }

    /// A message came.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A 503 came: one message did not arrive. Its broker may have died, so one says nothing yet.
    pub(crate) fn unreachable(&mut self, now: Instant) {
        let first = *self.unreachable.get_or_insert(now);
        if now.saturating_duration_since(first) >= UNREACHABLE {
            self.confirmed.get_or_insert(now);
        }
    }

    /// When to look at the clock.
    pub(crate) fn wake_at(&self) -> Instant {
        let silent = self.looked.map_or(self.due() - LAST_LOOK, |looked| self.end(looked));
        self.confirmed.map_or(silent, |at| silent.min(at + READ_FIRST))
    }

    fn due(&self) -> Instant {
        self.heard + SILENCE
    }

    fn end(&self, looked: Instant) -> Instant {
        self.due().max(looked + LAST_LOOK)
    }

    /// After a 503: the time for a second message. Another 503 then means that the other side is
    /// gone.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.unreachable.map(|first| first + UNREACHABLE)
    }

    /// Looks at the clock. If the process was stopped, the time starts again, so that the messages
    /// that have arrived are read first.
    pub(crate) fn look(&mut self, now: Instant) -> Verdict {
        if let Some(at) = self.confirmed
            && now >= at + READ_FIRST
        {
            return self.judge(at + READ_FIRST, now);
        }
        let Some(looked) = self.looked else {
            let look_at = self.due() - LAST_LOOK;
            if now > look_at + LATE_LOOK {
                self.heard(now);
            } else if now >= look_at {
                self.looked = Some(now);
            }
            return Verdict::Alive;
        };
        let end = self.end(looked);
        if now < end {
            return Verdict::Alive;
        }
        self.judge(end, now)
    }

    /// The end was due at `end`.
    fn judge(&mut self, end: Instant, now: Instant) -> Verdict {
        if now.saturating_duration_since(end) > LATE {
            self.heard(now);
            return Verdict::Alive;
        }
        Verdict::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn fifteen_seconds_of_silence_are_the_end() {
        let start = Instant::now();
        let mut life = Life::new(start);
        assert_eq!(life.look(start + seconds(14)), Verdict::Alive);
        life.heard(start + seconds(14));
        assert_eq!(life.wake_at(), start + seconds(28), "the last look");
        assert_eq!(life.look(start + seconds(28)), Verdict::Alive);
        assert_eq!(life.look(start + seconds(29)), Verdict::Gone);
    }

    #[test]
    fn two_503s_count_only_over_five_seconds_without_a_message() {
        let start = Instant::now();
        let mut life = Life::new(start);
        let unreachable = |life: &mut Life, at: u64| {
            life.unreachable(start + seconds(at));
            life.look(start + seconds(at) + READ_FIRST)
        };
        for at in [0, 1, 4] {
            assert_eq!(unreachable(&mut life, at), Verdict::Alive);
        }
        life.heard(start + seconds(5));
        assert_eq!(unreachable(&mut life, 6), Verdict::Alive);
        assert_eq!(unreachable(&mut life, 10), Verdict::Alive);
        assert_eq!(unreachable(&mut life, 11), Verdict::Gone);
    }

    #[test]
    fn an_old_503_is_read_before_the_messages_that_came_after_it() {
        let start = Instant::now();
        let mut life = Life::new(start);
        life.unreachable(start);
        // Stopped for 5 s. Then it reads the second 503, which came at once.
        let continued = start + seconds(5);
        life.unreachable(continued);
        assert_eq!(life.look(continued), Verdict::Alive);
        assert_eq!(life.wake_at(), continued + READ_FIRST);
        life.heard(continued);
        assert_eq!(life.look(continued + READ_FIRST), Verdict::Alive);
        // Stopped again, before the end comes.
        life.unreachable(continued + seconds(1));
        life.unreachable(continued + seconds(6));
        assert_eq!(life.look(continued + seconds(20)), Verdict::Alive);
    }

    #[test]
    fn a_late_timer_starts_anew() {
        let start = Instant::now();
        let mut life = Life::new(start);
        // Stopped for a minute, and for less than a second too long.
        assert_eq!(life.look(start + seconds(60)), Verdict::Alive);
        assert_eq!(life.look(start + seconds(74)), Verdict::Alive);
        assert_eq!(life.look(start + seconds(75)), Verdict::Gone);
        let mut life = Life::new(start);
        assert_eq!(life.look(start + seconds(13)), Verdict::Alive);
        assert_eq!(life.look(start + Duration::from_millis(15_300)), Verdict::Alive);
        // The last look is late, so the end is late too.
        let mut life = Life::new(start);
        assert_eq!(life.look(start + Duration::from_millis(14_500)), Verdict::Alive);
        assert_eq!(life.look(start + seconds(15)), Verdict::Alive);
        assert_eq!(life.wake_at(), start + Duration::from_millis(15_500));
        assert_eq!(life.look(start + Duration::from_millis(15_500)), Verdict::Gone);
        // The process was stopped, and was continued before the end.
        let mut life = Life::new(start);
        let continued = start + Duration::from_millis(14_900);
        assert_eq!(life.look(continued), Verdict::Alive);
        assert_eq!(life.wake_at(), continued + SILENCE - LAST_LOOK);
    }
}
