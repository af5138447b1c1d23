//! The numbers and latencies of requests, by outcome.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::{Serialize, Serializer};

use crate::Outcome;

/// The counters of a [`Client`](crate::Client) since it was made. They are read one after another,
/// so a request that ends meanwhile may be in some and not yet in others.
///
/// A request that is given up counts as not sent or unknown.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClientStats {
    /// Requests that ended with OK.
    pub ok: Latencies,
    /// Requests that were not sent.
    pub not_sent: Latencies,
    /// Requests that the server refused to start.
    pub refused: Latencies,
    /// Requests that the server answered with ERROR.
    pub failed: Latencies,
    /// Requests that ended with an OK whose content could not be decoded.
    pub done: Latencies,
    /// Requests that were sent and got no final response.
    pub unknown: Latencies,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that are open now without a request.
    pub idle: usize,
    /// Slots that requests hold now, each with a connection or while it is opened.
    pub busy: usize,
}

/// The number of buckets.
const BUCKETS: usize = 13;

/// The latencies of the requests with one outcome, from the start of a request to its end. The
/// wait for a connection is included.
///
/// It is serialized as `count`, `total_seconds` and `buckets`, an array of numbers.
///
/// ```
/// use std::time::Duration;
/// use kakehi_client::Latencies;
///
/// assert_eq!(Latencies::BOUNDS[0], Duration::from_micros(16));
/// assert_eq!(Latencies::BOUNDS[3], Duration::from_micros(1024));
/// let mut latencies = Latencies::default();
/// assert_eq!(latencies.count(), 0);
/// latencies.buckets[0] = 2;
/// assert_eq!(latencies.count(), 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// The sum of the latencies.
    pub total: Duration,
    /// The numbers of requests whose latency is below the bucket's bound in
    /// [`BOUNDS`](Self::BOUNDS), and not below that of the bucket before. The last has no bound.
    pub buckets: [u64; BUCKETS],
}

impl Latencies {
    /// The upper bounds of all buckets but the last: 16 µs, then 4 times that of the bucket before.
    pub const BOUNDS: [Duration; BUCKETS - 1] = {
        const fn at(bucket: u32) -> Duration {
            Duration::from_micros(16 << (2 * bucket))
        }
        [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9), at(10), at(11)]
    };

    /// The number of requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Latencies {
            count: u64,
            total_seconds: f64,
            buckets: [u64; BUCKETS],
        }
        let total_seconds = self.total.as_secs_f64();
        Latencies { count: self.count(), total_seconds, buckets: self.buckets }
            .serialize(serializer)
    }
}

/// The counters: two additions for each request.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// In the order of [`ClientStats`].
    outcomes: [Tally; 6],
    opened: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, outcome: Option<Outcome>, latency: Duration) {
        let [ok, not_sent, refused, failed, done, unknown] = &self.outcomes;
        let tally = match outcome {
            None => ok,
            Some(Outcome::NotSent) => not_sent,
            Some(Outcome::Refused) => refused,
            Some(Outcome::Failed) => failed,
            Some(Outcome::Done) => done,
            Some(Outcome::Unknown) => unknown,
        };
        tally.add(latency);
    }

    pub(crate) fn count_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> ClientStats {
        let [ok, not_sent, refused, failed, done, unknown] =
            self.outcomes.each_ref().map(Tally::latencies);
        let opened = self.opened.load(Relaxed);
        ClientStats { ok, not_sent, refused, failed, done, unknown, opened, idle: 0, busy: 0 }
    }
}

#[derive(Debug, Default)]
struct Tally {
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Tally {
    fn add(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        // Each bucket is four times the one before, from 2^4 µs on.
        let log = (nanos / 1000).checked_ilog2().unwrap_or(0);
        let bucket = (log.saturating_sub(2) / 2) as usize;
        let last = BUCKETS - 1;
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
        for (bucket, bound) in Latencies::BOUNDS.into_iter().enumerate() {
            let below = bound.saturating_sub(Duration::from_micros(1));
            for (latency, place) in [(below, bucket), (bound, bucket + 1)] {
                let counters = Counters::default();
                counters.count(None, latency);
                let ok = counters.stats().ok;
                assert_eq!((ok.total, ok.count()), (latency, 1));
                assert_eq!(ok.buckets.iter().position(|count| *count == 1), Some(place));
            }
        }
        let counters = Counters::default();
        counters.count(None, Duration::ZERO);
        counters.count(None, Duration::MAX);
        let ok = counters.stats().ok;
        assert_eq!((ok.buckets.first(), ok.buckets.last()), (Some(&1), Some(&1)));
    }

    #[test]
    fn the_counters_are_serialized() {
        let counters = Counters::default();
        counters.count(None, Duration::from_millis(1500));
        let stats = serde_json::to_value(counters.stats()).expect("JSON");
        let ok = &stats["ok"];
        assert_eq!((ok["count"].as_u64(), ok["total_seconds"].as_f64()), (Some(1), Some(1.5)));
        assert_eq!(ok["buckets"].as_array().map(Vec::len), Some(BUCKETS));
        assert_eq!((stats["failed"]["count"].as_u64(), stats["idle"].as_u64()), (Some(0), Some(0)));
    }

    #[test]
    fn each_outcome_is_counted_as_itself() {
        let counters = Counters::default();
        let outcomes = [
            None,
            Some(Outcome::NotSent),
            Some(Outcome::Refused),
            Some(Outcome::Failed),
            Some(Outcome::Done),
            Some(Outcome::Unknown),
        ];
        for (times, outcome) in (1..).zip(outcomes) {
            (0..times).for_each(|_| counters.count(outcome, Duration::from_secs(1)));
        }
        let ClientStats { ok, not_sent, refused, failed, done, unknown, .. } = counters.stats();
        let counts = [ok, not_sent, refused, failed, done, unknown].map(|kind| kind.count());
        assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    }
}
