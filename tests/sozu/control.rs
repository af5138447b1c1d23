//! Everyday requests, compared with the output of the proxy's own command line.

use std::net::SocketAddr;

use kakehi_sozu::{
    ErrorKind, Outcome, Response, Sozu, Status,
    command::{
        AddBackend, FrontendFilters, PathRule, QueryClustersHashes, QueryMetricsOptions,
        RemoveBackend, RequestHttpFrontend, SoftStop, request::RequestType,
        response_content::ContentType,
    },
};

use crate::support::{Proxy, add_cluster, binaries, query, status, workers};

/// All responses to a request.
async fn follow(sozu: &Sozu, request: RequestType) -> Vec<Response> {
    let mut responses = sozu.request(request).send().await.unwrap();
    let mut all = vec![];
    while let Some(response) = responses.next().await {
        all.push(response.unwrap());
    }
    all
}

/// The final response, after one PROCESSING at least.
async fn after_progress(sozu: &Sozu, request: RequestType) -> Response {
    let mut all = follow(sozu, request).await;
    let last = all.pop().unwrap();
    assert_eq!(last.status, Status::Ok, "{last:?}");
    assert!(!all.is_empty(), "no progress before {last:?}");
    assert!(all.iter().all(|response| response.status == Status::Processing), "{all:?}");
    last
}

fn frontend(cluster: &str, address: SocketAddr) -> RequestHttpFrontend {
    RequestHttpFrontend {
        cluster_id: Some(cluster.to_owned()),
        address: address.into(),
        hostname: "example.com".to_owned(),
        path: PathRule::prefix("/".to_owned()),
        ..RequestHttpFrontend::default()
    }
}

fn backend() -> AddBackend {
    AddBackend {
        cluster_id: "blue".to_owned(),
        backend_id: "blue-0".to_owned(),
        address: "127.0.0.1:9".parse::<SocketAddr>().unwrap().into(),
        ..AddBackend::default()
    }
}

async fn hosts(sozu: &Sozu) -> Vec<String> {
    let answer = sozu.request(RequestType::ListFrontends(FrontendFilters::default())).await;
    let Some(ContentType::FrontendList(list)) = answer.unwrap().content else { panic!() };
    list.http_frontends.into_iter().map(|frontend| frontend.hostname).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_of_each_worker_after_progress() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let answer = after_progress(&proxy.connect().await, status()).await;
        let workers = workers(&answer);
        assert_eq!(workers.len(), 2);
        let shown = proxy.command_line(&["status"]);
        assert!(workers.iter().all(|worker| shown.contains(&worker.pid.to_string())), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_is_listed_here_and_there_and_gone_once_removed() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let front = frontend("blue", proxy.http);

        after_progress(&sozu, add_cluster("blue")).await;
        after_progress(&sozu, RequestType::AddHttpFrontend(front.clone())).await;
        after_progress(&sozu, RequestType::AddBackend(backend())).await;
        assert_eq!(query(&sozu, "blue").await.unwrap(), ["blue", "blue"], "of each worker");
        assert_eq!(hosts(&sozu).await, ["example.com"]);
        assert!(proxy.command_line(&["cluster", "list"]).contains("blue"));
        assert!(proxy.command_line(&["frontend", "list"]).contains("example.com"));
        assert!(proxy.command_line(&["cluster", "list", "--id", "blue"]).contains("blue-0"));

        let AddBackend { cluster_id, backend_id, address, .. } = backend();
        let gone = RemoveBackend { cluster_id, backend_id, address };
        after_progress(&sozu, RequestType::RemoveBackend(gone)).await;
        assert!(!proxy.command_line(&["cluster", "list", "--id", "blue"]).contains("blue-0"));
        after_progress(&sozu, RequestType::RemoveHttpFrontend(front)).await;
        assert_eq!(hosts(&sozu).await, [""; 0]);
        assert!(!proxy.command_line(&["frontend", "list"]).contains("example.com"));
        after_progress(&sozu, RequestType::RemoveCluster("blue".to_owned())).await;
        assert_eq!(query(&sozu, "blue").await.unwrap(), [""; 0]);
        assert!(!proxy.command_line(&["cluster", "list"]).contains("blue"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_of_the_main_process_and_of_each_worker() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        sozu.request(add_cluster("blue")).await.unwrap();
        let options = QueryMetricsOptions { workers: true, ..QueryMetricsOptions::default() };
        let answer = after_progress(&sozu, RequestType::QueryMetrics(options)).await;
        let Some(ContentType::Metrics(metrics)) = answer.content else { panic!() };
        assert!(!metrics.main.is_empty());
        assert_eq!(metrics.workers.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_state_comes_back_by_being_loaded() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let file = proxy.path("saved.json");
        sozu.request(add_cluster("blue")).await.unwrap();
        sozu.request(RequestType::SaveState(file.clone())).await.unwrap();
        sozu.request(RequestType::RemoveCluster("blue".to_owned())).await.unwrap();
        assert_eq!(query(&sozu, "blue").await.unwrap(), [""; 0]);

        after_progress(&sozu, RequestType::LoadState(file)).await;
        assert_eq!(query(&sozu, "blue").await.unwrap(), ["blue", "blue"]);
        assert!(proxy.command_line(&["cluster", "list"]).contains("blue"));

        let missing = proxy.path("missing.json");
        let error = sozu.request(RequestType::LoadState(missing)).await.unwrap_err();
        assert!(error.outcome() == Outcome::Failed, "{error:?}");
        assert_eq!(error.response().unwrap().status, Status::Error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_among_the_clusters_gives_each_workers_answer() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        sozu.request(add_cluster("blue")).await.unwrap();
        let hashes = RequestType::QueryClustersHashes(QueryClustersHashes {});
        let answer = after_progress(&sozu, hashes).await;
        let Some(ContentType::WorkerResponses(answers)) = answer.content else { panic!() };
        assert!(answers.map.len() >= 2, "of each worker: {}", answers.map.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_stop_is_followed_until_the_proxy_has_ended() {
    for binary in binaries() {
        let mut proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let last = after_progress(&sozu, RequestType::SoftStop(SoftStop {})).await;
        assert_eq!(last.status, Status::Ok);
        proxy.ends().await;
        let error = sozu.request(status()).await.unwrap_err();
        assert!(
            error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Unconnected,
            "{error:?}"
        );
    }
}
