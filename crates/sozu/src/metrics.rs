//! The metrics of a running Sōzu, as typed values.
//!
//! ```no_run
//! # async fn f(sozu: kakehi_sozu::Sozu) -> Result<(), kakehi_sozu::metrics::MetricsError> {
//! use kakehi_sozu::command::QueryMetricsOptions;
//!
//! let metrics = sozu.metrics(QueryMetricsOptions::default()).await?;
//! for (cluster, metrics) in &metrics.clusters {
//!     let requests = metrics.values.counter("requests").unwrap_or(0);
//!     let time = metrics.values.percentiles("backend_response_time");
//!     println!("{cluster}: {requests} requests, p99 {:?} ms", time.map(|time| time.p99));
//! }
//! # Ok(()) }
//! ```

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    time::Duration,
};

use crate::{
    Error, Response, Sozu,
    command::{
        self, QueryMetricsOptions, filtered_metrics::Inner, request::RequestType,
        response_content::ContentType,
    },
};

/// The metrics of a Sōzu.
///
/// ```
/// use kakehi_sozu::{
///     command::{AggregatedMetrics, FilteredMetrics, filtered_metrics::Inner},
///     metrics::Metrics,
/// };
///
/// let mut aggregated = AggregatedMetrics::default();
/// let value = FilteredMetrics { inner: Some(Inner::Count(2)) };
/// aggregated.main.insert("config.cluster_added".to_owned(), value);
/// let metrics = Metrics::from(aggregated);
/// assert_eq!(metrics.main.counter("config.cluster_added"), Some(2));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Those of the main process.
    pub main: Values,
    /// Those of all workers together, without those of the clusters. Empty if
    /// [`workers`](QueryMetricsOptions::workers) was set.
    pub proxying: Values,
    /// Those of each cluster of all workers together, by the id of the cluster. Empty if
    /// [`workers`](QueryMetricsOptions::workers) or [`no_clusters`](QueryMetricsOptions::no_clusters)
    /// was set.
    pub clusters: BTreeMap<String, ClusterMetrics>,
    /// Those of each worker, by its id. Empty unless [`workers`](QueryMetricsOptions::workers) was
    /// set.
    pub workers: BTreeMap<String, WorkerMetrics>,
}

/// The metrics of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Those of the worker itself.
    pub values: Values,
    /// Those of each cluster, by the id of the cluster.
    pub clusters: BTreeMap<String, ClusterMetrics>,
}

/// The metrics of a cluster.
///
/// By default, Sōzu counts for the whole cluster, and `backends` is empty. At the detail
/// `DETAIL_BACKEND`, it counts for each backend instead: `requests`, for example, is then a metric of
/// the backends and not of the cluster. A `SetMetricDetail` request raises the detail for 60 s, or
/// for its own number of seconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClusterMetrics {
    /// Those of the cluster itself.
    pub values: Values,
    /// Those of its backends, in the order of the response.
    pub backends: Vec<BackendMetrics>,
}

impl ClusterMetrics {
    /// Returns the metrics of a backend.
    #[must_use]
    pub fn backend(&self, id: &str) -> Option<&BackendMetrics> {
        self.backends.iter().find(|backend| backend.id == id)
    }
}

/// The metrics of a backend of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BackendMetrics {
    /// The id of the backend.
    pub id: String,
    /// Its metrics.
    pub values: Values,
}

/// Metrics by their names, in the order of the names.
///
/// The methods for one kind, such as [`counter`](Self::counter), return `None` if the metric is
/// absent or of another kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(BTreeMap<String, Metric>);

impl Values {
    /// Returns a metric of any kind.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.0.get(name)
    }

    /// Returns the value of a counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Metric::Counter(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the value of a gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Metric::Gauge(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the percentiles of a metric.
    #[must_use]
    pub fn percentiles(&self, name: &str) -> Option<&Percentiles> {
        match self.get(name)? {
            Metric::Percentiles(percentiles) => Some(percentiles),
            _ => None,
        }
    }

    /// Returns the histogram of a metric. Its name is that of the percentiles and `_histogram`.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Option<&Histogram> {
        match self.get(name)? {
            Metric::Histogram(histogram) => Some(histogram),
            _ => None,
        }
    }

    /// Returns each name with its metric.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Metric)> {
        self.0.iter().map(|(name, metric)| (name.as_str(), metric))
    }

    /// Returns the number of metrics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no metrics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Values {
    type Item = (String, Metric);
    type IntoIter = btree_map::IntoIter<String, Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Metric {
    /// A number that rises and falls. Over several workers, Sōzu adds it up, also a percentage: two
    /// workers report 2 backends for a cluster with one.
    Gauge(u64),
    /// A number that rises only. Over several workers, Sōzu adds it up.
    Counter(i64),
    /// A duration, which Sōzu sends in milliseconds.
    Time(Duration),
    /// The percentiles of a distribution.
    Percentiles(Percentiles),
    /// The histogram of a distribution.
    Histogram(Histogram),
    /// Numbers of the last second, minute and hour.
    TimeSeries(TimeSeries),
    /// A kind that this crate does not know.
    Unknown,
}

/// The percentiles of a distribution. Those of durations are in milliseconds.
///
/// Percentiles of several workers cannot be computed from theirs. Sōzu 2.3.3 sends the largest one
/// of all workers; only `samples` and `sum` are added up. The [`Histogram`] is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Percentiles {
    /// The number of samples.
    pub samples: u64,
    /// The sum of all samples.
    pub sum: u64,
    /// The median.
    pub p50: u64,
    /// 90% of the samples are at most this.
    pub p90: u64,
    /// 99% of the samples are at most this.
    pub p99: u64,
    /// 99.9% of the samples are at most this.
    pub p99_9: u64,
    /// 99.99% of the samples are at most this.
    pub p99_99: u64,
    /// 99.999% of the samples are at most this.
    pub p99_999: u64,
    /// The largest sample.
    pub max: u64,
}

/// The histogram of a distribution. That of durations is in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// The number of samples.
    pub count: u64,
    /// The sum of all samples.
    pub sum: u64,
    /// The buckets, from the lowest bound to the highest.
    pub buckets: Vec<Bucket>,
}

/// A bucket of a [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// The largest sample that the bucket counts.
    pub bound: u64,
    /// The number of samples up to the bound. It includes those of all lower buckets.
    pub count: u64,
}

/// Numbers of the last second, minute and hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeSeries {
    /// That of the last second.
    pub last_second: u32,
    /// Those of the seconds of the last minute.
    pub last_minute: Vec<u32>,
    /// Those of the minutes of the last hour.
    pub last_hour: Vec<u32>,
}

/// Why there are no metrics.
#[derive(Debug)]
#[non_exhaustive]
pub enum MetricsError {
    /// The request failed.
    Failed(Error),
    /// The content of the response is not metrics.
    NotMetrics(Response),
}

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "cannot query the metrics: {error}"),
            Self::NotMetrics(response) => {
                write!(f, "the response has no metrics: {}", response.message)
            }
        }
    }
}

impl std::error::Error for MetricsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::NotMetrics(_) => None,
        }
    }
}

impl Sozu {
    /// Queries the metrics, with the deadline of the client.
    ///
    /// The options select clusters, backends and metrics, and whether the metrics of the workers
    /// are added up. They do not select among the metrics of the main process.
    /// [`list`](QueryMetricsOptions::list) is ignored: it asks for names without values. For another
    /// deadline, send a `QueryMetrics` with [`request`](Self::request) and convert the response into
    /// [`Metrics`].
    ///
    /// # Errors
    /// See [`MetricsError`].
    ///
    /// # Cancel safety
    /// Cancel safe: the query changes nothing.
    pub async fn metrics(&self, options: QueryMetricsOptions) -> Result<Metrics, MetricsError> {
        let options = QueryMetricsOptions { list: false, ..options };
        let query = self.request(RequestType::QueryMetrics(options));
        query.await.map_err(MetricsError::Failed)?.try_into()
    }
}

impl TryFrom<Response> for Metrics {
    type Error = MetricsError;

    fn try_from(response: Response) -> Result<Self, MetricsError> {
        match response.content {
            Some(ContentType::Metrics(metrics)) => Ok(metrics.into()),
            _ => Err(MetricsError::NotMetrics(response)),
        }
    }
}

impl From<command::AggregatedMetrics> for Metrics {
    fn from(metrics: command::AggregatedMetrics) -> Self {
        Self {
            main: metrics.main.into(),
            proxying: metrics.proxying.into(),
            clusters: each_into(metrics.clusters),
            workers: each_into(metrics.workers),
        }
    }
}

impl From<command::WorkerMetrics> for WorkerMetrics {
    fn from(metrics: command::WorkerMetrics) -> Self {
        Self { values: metrics.proxy.into(), clusters: each_into(metrics.clusters) }
    }
}

impl From<command::ClusterMetrics> for ClusterMetrics {
    fn from(metrics: command::ClusterMetrics) -> Self {
        let backends = metrics.backends.into_iter().map(Into::into).collect();
        Self { values: metrics.cluster.into(), backends }
    }
}

impl From<command::BackendMetrics> for BackendMetrics {
    fn from(metrics: command::BackendMetrics) -> Self {
        Self { id: metrics.backend_id, values: metrics.metrics.into() }
    }
}

impl From<BTreeMap<String, command::FilteredMetrics>> for Values {
    fn from(metrics: BTreeMap<String, command::FilteredMetrics>) -> Self {
        Self(each_into(metrics))
    }
}

fn each_into<T, U: From<T>>(map: BTreeMap<String, T>) -> BTreeMap<String, U> {
    map.into_iter().map(|(key, value)| (key, value.into())).collect()
}

impl From<command::FilteredMetrics> for Metric {
    fn from(metric: command::FilteredMetrics) -> Self {
        match metric.inner {
            Some(Inner::Gauge(value)) => Self::Gauge(value),
            Some(Inner::Count(value)) => Self::Counter(value),
            Some(Inner::Time(milliseconds)) => Self::Time(Duration::from_millis(milliseconds)),
            Some(Inner::Percentiles(percentiles)) => Self::Percentiles(percentiles.into()),
            Some(Inner::TimeSerie(series)) => Self::TimeSeries(series.into()),
            Some(Inner::Histogram(histogram)) => Self::Histogram(histogram.into()),
            // The decoder leaves out a kind that it does not know.
            None => Self::Unknown,
        }
    }
}

impl From<command::Percentiles> for Percentiles {
    fn from(percentiles: command::Percentiles) -> Self {
        Self {
            samples: percentiles.samples,
            sum: percentiles.sum,
            p50: percentiles.p_50,
            p90: percentiles.p_90,
            p99: percentiles.p_99,
            p99_9: percentiles.p_99_9,
            p99_99: percentiles.p_99_99,
            p99_999: percentiles.p_99_999,
            max: percentiles.p_100,
        }
    }
}

impl From<command::FilteredHistogram> for Histogram {
    fn from(histogram: command::FilteredHistogram) -> Self {
        let bucket = |bucket: command::Bucket| Bucket { bound: bucket.le, count: bucket.count };
        let buckets = histogram.buckets.into_iter().map(bucket).collect();
        Self { count: histogram.count, sum: histogram.sum, buckets }
    }
}

impl From<command::FilteredTimeSerie> for TimeSeries {
    fn from(series: command::FilteredTimeSerie) -> Self {
        let command::FilteredTimeSerie { last_second, last_minute, last_hour } = series;
        Self { last_second, last_minute, last_hour }
    }
}
