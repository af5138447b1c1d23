//! Metrics as typed values, from recorded frames, from all kinds of values, and from traffic.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kakehi_channel::{Decode, Format};
use kakehi_sozu::{
    Response, Sozu, Wire,
    command::{
        self, AggregatedMetrics, FilteredHistogram, FilteredMetrics, FilteredTimeSerie,
        MetricDetail, QueryMetricsOptions, SetMetricDetail, filtered_metrics::Inner,
        request::RequestType,
    },
    metrics::{ClusterMetrics, Metric, Metrics, MetricsError, Values},
};

use tokio::time::sleep;

use crate::{
    stand_in,
    support::{PATIENCE, Proxy, add_cluster, binaries},
    verbs::{backend, frontend, get, tcp_backend},
    wire::recorded,
};

/// The final response of a recorded exchange.
fn final_response(name: &str) -> Response {
    let bytes = recorded(name);
    let found = Wire.find(&bytes, 2_000_000).unwrap().unwrap();
    Wire.decode(&bytes[found.payload]).unwrap()
}

#[test]
fn recorded_metrics_have_the_values_of_their_text() {
    let metrics = Metrics::try_from(final_response("metrics")).unwrap();
    assert_eq!(metrics.main.counter("config.cluster_added"), Some(2));
    assert_eq!(metrics.main.gauge("configuration.clusters"), Some(1));
    assert_eq!(metrics.main.len(), 5);
    assert!(metrics.workers.is_empty());

    let proxying = &metrics.proxying;
    assert_eq!(proxying.gauge("slab.capacity"), Some(4020));
    let time = proxying.percentiles("epoll_time").unwrap();
    assert_eq!((time.samples, time.sum), (106, 82224));
    assert_eq!((time.p50, time.p90, time.p99), (1001, 1001, 1009));
    assert_eq!((time.p99_9, time.p99_99, time.p99_999, time.max), (1009, 1009, 1009, 1009));
    let histogram = proxying.histogram("epoll_time_histogram").unwrap();
    assert_eq!((histogram.count, histogram.sum, histogram.buckets.len()), (106, 82225, 11));
    let bounds = histogram.buckets.iter().map(|bucket| (bucket.bound, bucket.count));
    assert_eq!(bounds.skip(8).collect::<Vec<_>>(), [(255, 18), (511, 26), (1023, 106)]);

    let names: Vec<_> = metrics.clusters.keys().map(String::as_str).collect();
    assert_eq!(names, ["cluster1", "cluster2"]);
    let cluster = &metrics.clusters["cluster1"];
    assert_eq!(cluster.values.gauge("cluster.available_backends"), Some(2));
    assert!(cluster.backends.is_empty());
}

#[test]
fn a_response_without_metrics_is_an_error_that_holds_it() {
    let list = final_response("metrics_list");
    let error = Metrics::try_from(list.clone()).unwrap_err();
    assert!(matches!(&error, MetricsError::NotMetrics(response) if *response == list));
    let text = error.to_string();
    assert_eq!(text, "the response has no metrics: Successfully listed available metrics");
}

fn one(inner: Option<Inner>) -> BTreeMap<String, FilteredMetrics> {
    BTreeMap::from([("it".to_owned(), FilteredMetrics { inner })])
}

fn value(inner: Option<Inner>) -> Metric {
    Values::from(one(inner)).get("it").unwrap().clone()
}

#[test]
fn each_kind_of_value_is_of_one_kind_only() {
    let values = Values::from(one(Some(Inner::Gauge(3))));
    assert_eq!(values.gauge("it"), Some(3));
    assert_eq!((values.gauge("other"), values.counter("it")), (None, None));
    assert!(values.percentiles("it").is_none() && values.histogram("it").is_none());
    let values = Values::from(one(Some(Inner::Count(-3))));
    assert_eq!((values.gauge("it"), values.counter("it")), (None, Some(-3)));
    assert_eq!(values.iter().collect::<Vec<_>>(), [("it", &Metric::Counter(-3))]);
    assert!(!values.is_empty() && Values::default().is_empty());
    let owned: Vec<_> = values.into_iter().collect();
    assert_eq!(owned, [("it".to_owned(), Metric::Counter(-3))]);

    assert_eq!(value(Some(Inner::Time(1500))), Metric::Time(Duration::from_millis(1500)));
    assert_eq!(value(None), Metric::Unknown);
    let series = FilteredTimeSerie { last_second: 1, last_minute: vec![2, 3], last_hour: vec![4] };
    let Metric::TimeSeries(series) = value(Some(Inner::TimeSerie(series))) else { panic!() };
    assert_eq!(
        (series.last_second, series.last_minute, series.last_hour),
        (1, vec![2, 3], vec![4])
    );
    let empty = value(Some(Inner::Histogram(FilteredHistogram::default())));
    assert!(matches!(empty, Metric::Histogram(histogram) if histogram.buckets.is_empty()));
}

#[test]
fn metrics_are_told_apart_by_worker_cluster_and_backend() {
    let of = |count| one(Some(Inner::Count(count)));
    let backend = |id: &str, count| {
        let backend_id = id.to_owned();
        command::BackendMetrics { backend_id, metrics: of(count) }
    };
    let cluster = |first: i64| command::ClusterMetrics {
        cluster: of(first),
        backends: vec![backend("b", first + 1), backend("a", first + 2)],
    };
    let worker = |first: i64| command::WorkerMetrics {
        proxy: of(first),
        clusters: BTreeMap::from([("blue".to_owned(), cluster(first + 1))]),
    };
    let metrics = Metrics::from(AggregatedMetrics {
        main: of(1),
        proxying: of(2),
        clusters: BTreeMap::from([("blue".to_owned(), cluster(10))]),
        workers: BTreeMap::from([("0".to_owned(), worker(20)), ("1".to_owned(), worker(30))]),
    });

    let count = |values: &Values| values.counter("it").unwrap();
    let counts = |cluster: &ClusterMetrics| {
        let backend = |id| count(&cluster.backend(id).unwrap().values);
        (count(&cluster.values), backend("a"), backend("b"))
    };
    assert_eq!((count(&metrics.main), count(&metrics.proxying)), (1, 2));
    assert_eq!(counts(&metrics.clusters["blue"]), (10, 12, 11));
    assert_eq!(count(&metrics.workers["0"].values), 20);
    assert_eq!(counts(&metrics.workers["0"].clusters["blue"]), (21, 23, 22));
    assert_eq!(count(&metrics.workers["1"].values), 30);
    assert_eq!(counts(&metrics.workers["1"].clusters["blue"]), (31, 33, 32));
    assert!(metrics.clusters["blue"].backend("c").is_none());
}

#[tokio::test]
async fn a_failed_query_is_an_error_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let _clusters = stand_in::start(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let error = sozu.metrics(QueryMetricsOptions::default()).await.unwrap_err();
    assert!(matches!(&error, MetricsError::Failed(cause) if cause.response().is_some()));
    let text = error.to_string();
    assert!(text.starts_with("cannot query the metrics: "), "{text}");
}

/// A proxy that has answered five requests to `blue`, and none to `green`.
async fn after_traffic(proxy: &Proxy, detail: MetricDetail) -> Sozu {
    let sozu = proxy.connect().await;
    for name in ["blue", "green"] {
        sozu.request(add_cluster(name)).await.unwrap();
        let (address, _) = tcp_backend(name).await;
        sozu.request(RequestType::AddBackend(backend(name, address))).await.unwrap();
    }
    let front = frontend("blue", proxy.http, "/");
    sozu.request(RequestType::AddHttpFrontend(front)).await.unwrap();
    let detail = SetMetricDetail {
        client_id: "test".to_owned(),
        detail: Some(detail.into()),
        ..SetMetricDetail::default()
    };
    sozu.request(RequestType::SetMetricDetail(detail)).await.unwrap();
    for _ in 0..5 {
        assert!(get(proxy.http, "/", "").await.ends_with("\r\n\r\nblue"));
    }
    // A worker counts a request after it has sent the response.
    let start = Instant::now();
    while requests(&sozu).await != Some(5) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    sozu
}

async fn requests(sozu: &Sozu) -> Option<i64> {
    let metrics = sozu.metrics(QueryMetricsOptions::default()).await.unwrap();
    let blue = metrics.clusters.get("blue")?;
    let of_backend = blue.backend("blue-0").and_then(|backend| backend.values.counter("requests"));
    of_backend.or_else(|| blue.values.counter("requests"))
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_counted_for_its_cluster_or_for_its_backend() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = after_traffic(&proxy, MetricDetail::DetailCluster).await;
        let metrics = sozu.metrics(QueryMetricsOptions::default()).await.unwrap();
        assert_eq!(metrics.main.gauge("configuration.clusters"), Some(2));
        assert_eq!(metrics.proxying.counter("http.requests"), Some(5));
        let blue = &metrics.clusters["blue"];
        assert_eq!(blue.values.counter("requests"), Some(5));
        let time = blue.values.percentiles("backend_response_time").unwrap();
        assert!(time.samples == 5 && time.p50 <= time.p99 && time.p99 <= time.max, "{time:?}");
        let histogram = blue.values.histogram("backend_response_time_histogram").unwrap();
        assert_eq!((histogram.count, histogram.buckets.last().unwrap().count), (5, 5));
        assert!(blue.backends.is_empty());
        assert_eq!(metrics.clusters["green"].values.counter("requests"), None);

        let proxy = Proxy::start(&binary).await;
        let sozu = after_traffic(&proxy, MetricDetail::DetailBackend).await;
        let metrics = sozu.metrics(QueryMetricsOptions::default()).await.unwrap();
        let blue = &metrics.clusters["blue"];
        assert_eq!(blue.backend("blue-0").unwrap().values.counter("requests"), Some(5));
        assert_eq!(blue.values.counter("requests"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_select_workers_clusters_and_metrics() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = after_traffic(&proxy, MetricDetail::DetailCluster).await;
        let options = QueryMetricsOptions { workers: true, ..QueryMetricsOptions::default() };
        let metrics = sozu.metrics(options).await.unwrap();
        assert!(metrics.proxying.is_empty() && metrics.clusters.is_empty());
        let workers: Vec<_> = metrics.workers.keys().map(String::as_str).collect();
        assert_eq!(workers, ["0", "1"]);
        let counts = metrics.workers.values().filter_map(|worker| {
            let blue = worker.clusters.get("blue")?;
            assert_eq!(worker.values.counter("http.requests"), blue.values.counter("requests"));
            blue.values.counter("requests")
        });
        assert_eq!(counts.sum::<i64>(), 5);

        let options = QueryMetricsOptions {
            cluster_ids: vec!["blue".to_owned()],
            metric_names: vec!["requests".to_owned()],
            // Not passed on: the response would have no values.
            list: true,
            ..QueryMetricsOptions::default()
        };
        let metrics = sozu.metrics(options).await.unwrap();
        assert_eq!(metrics.clusters.len(), 1);
        let values: Vec<_> = metrics.clusters["blue"].values.iter().collect();
        assert_eq!(values, [("requests", &Metric::Counter(5))]);

        let options = QueryMetricsOptions { no_clusters: true, ..QueryMetricsOptions::default() };
        let metrics = sozu.metrics(options).await.unwrap();
        assert!(metrics.clusters.is_empty() && !metrics.proxying.is_empty());
    }
}
