//! How many requests ended how, and how long they took.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::Outcome;

/// The counters of a [`Client`](crate::Client), since it was made. They are read one by one, so
/// that requests which end meanwhile may be in some and not yet in others.
///
/// A request that is given up counts by what became of it until then: not sent, or unknown.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kakehi_client::Error> {
/// # let (_dir, path) = server();
/// let client = kakehi_client::Client::connect(path).await?;
/// client.request("reload").await?;
/// let stats = client.stats();
/// assert_eq!((stats.ok.count(), stats.failed.count()), (1, 0));
/// assert_eq!((stats.opened, stats.idle, stats.busy), (1, 1, 0));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that ended in OK.
    pub ok: Latencies,
    /// Requests of which nothing was sent.
    pub not_sent: Latencies,
    /// Requests that the server refused to start.
    pub refused: Latencies,
    /// Requests that the server answered by ERROR.
    pub failed: Latencies,
    /// Requests that were sent and got no answer.
    pub unknown: Latencies,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that are open now and wait for a request.
    pub idle: usize,
    /// Connections that a request has or is opening now.
    pub busy: usize,
}

/// How long requests took that ended alike, from being sent off to the end, waiting for a
/// connection included.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Latencies;
///
/// assert_eq!(Latencies::bound(0), Some(Duration::from_micros(16)));
/// assert_eq!(Latencies::bound(3), Some(Duration::from_micros(1024)));
/// assert_eq!(Latencies::bound(Latencies::BUCKETS - 1), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// All of them together.
    pub total: Duration,
    /// How many took less than the bucket's [`bound`](Self::bound), and no less than the bound of
    /// the bucket before.
    pub buckets: [u64; Self::BUCKETS],
}

impl Latencies {
    /// How many buckets there are.
    pub const BUCKETS: usize = 13;

    /// The upper bound of a bucket: 16 µs for the first, then 4 times as much each; `None` for
    /// the last, which has all the rest.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<Duration> {
        let shift = u32::try_from(bucket).ok()?.checked_mul(2)?;
        (bucket + 1 < Self::BUCKETS).then(|| Duration::from_micros(16 << shift))
    }

    /// How many there were.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kakehi_client::Latencies;
    ///
    /// let mut latencies = Latencies::default();
    /// assert_eq!((latencies.count(), latencies.mean()), (0, Duration::ZERO));
    /// latencies.buckets[0] = 2;
    /// latencies.total = Duration::from_micros(20);
    /// assert_eq!((latencies.count(), latencies.mean()), (2, Duration::from_micros(10)));
    /// ```
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long one took on average; zero if there was none.
    ///
    /// ```
    /// assert!(kakehi_client::Latencies::default().mean().is_zero());
    /// ```
    #[must_use]
    pub fn mean(&self) -> Duration {
        let nanos = self.total.as_nanos().checked_div(self.count().into()).unwrap_or_default();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What is counted while requests run: two additions for each.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    ok: Tally,
    not_sent: Tally,
    refused: Tally,
    failed: Tally,
    unknown: Tally,
    opened: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, outcome: Option<Outcome>, latency: Duration) {
        let tally = match outcome {
            None => &self.ok,
            Some(Outcome::NotSent) => &self.not_sent,
            Some(Outcome::Refused) => &self.refused,
            Some(Outcome::Failed) => &self.failed,
            Some(Outcome::Unknown) => &self.unknown,
        };
        tally.add(latency);
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            ok: self.ok.latencies(),
            not_sent: self.not_sent.latencies(),
            refused: self.refused.latencies(),
            failed: self.failed.latencies(),
            unknown: self.unknown.latencies(),
            opened: self.opened.load(Relaxed),
            idle: 0,
            busy: 0,
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    nanos: AtomicU64,
    buckets: [AtomicU64; Latencies::BUCKETS],
}

impl Tally {
    fn add(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        // Each bucket is four times the one before, from 2^4 µs on.
        let log = (nanos / 1000).checked_ilog2().unwrap_or(0);
        let bucket = (log.saturating_sub(2) / 2) as usize;
        let last = Latencies::BUCKETS - 1;
        if let Some(count) = self.buckets.get(bucket.min(last)) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn latencies(&self) -> Latencies {
        Latencies {
            total: Duration::from_nanos(self.nanos.load(Relaxed)),
            buckets: std::array::from_fn(|at| {
                self.buckets.get(at).map_or(0, |count| count.load(Relaxed))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_counted_below_its_bound_and_no_lower() {
        for bucket in 0..Latencies::BUCKETS - 1 {
            let bound = Latencies::bound(bucket).expect("it has one");
            let below = bound.saturating_sub(Duration::from_micros(1));
            for (latency, place) in [(below, bucket), (bound, bucket + 1)] {
                let counters = Counters::default();
                counters.count(None, latency);
                let ok = counters.stats().ok;
                assert_eq!((ok.total, ok.mean(), ok.count()), (latency, latency, 1));
                assert_eq!(ok.buckets.iter().position(|count| *count == 1), Some(place));
            }
        }
        let counters = Counters::default();
        counters.count(None, Duration::ZERO);
        counters.count(None, Duration::MAX);
        let ok = counters.stats().ok;
        assert_eq!((ok.buckets.first(), ok.buckets.last()), (Some(&1), Some(&1)));
        assert_eq!(Latencies::bound(0), Some(Duration::from_micros(16)));
        assert_eq!(Latencies::bound(Latencies::BUCKETS - 1), None);
    }

    #[test]
    fn each_outcome_is_counted_as_itself() {
        let counters = Counters::default();
        let outcomes = [
            None,
            Some(Outcome::NotSent),
            Some(Outcome::Refused),
            Some(Outcome::Failed),
            Some(Outcome::Unknown),
        ];
        for (times, outcome) in (1..).zip(outcomes) {
            (0..times).for_each(|_| counters.count(outcome, Duration::from_secs(1)));
        }
        let Stats { ok, not_sent, refused, failed, unknown, .. } = counters.stats();
        let counts = [ok, not_sent, refused, failed, unknown].map(|kind| kind.count());
        assert_eq!(counts, [1, 2, 3, 4, 5]);
    }
}
