//! The verbs with the tags 60 to 75, which Sōzu 2.3.0 and 2.3.2 added, and what they do to traffic.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kakehi_sozu::{
    Outcome, Release, Request, Response, Sozu, Status,
    command::{
        AddBackend, ClientAuthMode, ClientAuthPolicy, CloseSessions, HeaderMatchKind,
        HeaderPredicate, HealthCheckConfig, HealthCheckHeader, HealthCheckHeaderValue,
        HttpsListenerConfig, ListListeners, PathRule, ProtectedHealthCheckOrder,
        ProtectedHealthCheckPhase, QueryHealthChecks, QueryMaxConnectionsPerSubnet,
        QueryProtectedHealthCheckSupport, RedirectPolicy, RequestHttpFrontend,
        SetProtectedHealthCheck, UpdateHttpsListenerConfig, request::RequestType,
        response_content::ContentType,
    },
};
use sozu_command_lib::config::ListenerBuilder;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    time::{sleep, timeout},
};

use crate::{
    canonical::{guarded, recorder},
    support::{PATIENCE, Proxy, add_cluster, binaries, query},
};

/// A proxy of each version that knows the verbs of the release.
async fn proxies(release: Release) -> Vec<(Proxy, Sozu)> {
    let mut proxies = vec![];
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        if proxy.knows(release) {
            proxies.push((proxy, sozu));
        }
    }
    proxies
}

async fn ok(sozu: &Sozu, request: RequestType) -> Response {
    let name = format!("{request:?}");
    let answer = sozu.request(request).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert_eq!(answer.status, Status::Ok);
    answer
}

async fn fails(sozu: &Sozu, request: RequestType) {
    let error = sozu.request(request).await.unwrap_err();
    assert!(error.outcome() == Outcome::Failed, "{error:?}");
}

pub(crate) fn frontend(cluster: &str, http: SocketAddr, path: &str) -> RequestHttpFrontend {
    RequestHttpFrontend {
        cluster_id: Some(cluster.to_owned()),
        address: http.into(),
        hostname: "example.com".to_owned(),
        path: PathRule::prefix(path.to_owned()),
        ..RequestHttpFrontend::default()
    }
}

pub(crate) fn backend(cluster: &str, address: SocketAddr) -> AddBackend {
    AddBackend {
        cluster_id: cluster.to_owned(),
        backend_id: format!("{cluster}-0"),
        address: address.into(),
        ..AddBackend::default()
    }
}

/// Requests as a backend receives them.
pub(crate) type Received = Arc<Mutex<Vec<String>>>;

/// Answers each request on a connection with the name of the backend.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: String, seen: Received) {
    let mut head = vec![];
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
            head.clear();
            let response =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

pub(crate) async fn tcp_backend(name: &str) -> (SocketAddr, Received) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, name) = (Received::default(), name.to_owned());
    let received = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, name.clone(), Arc::clone(&received)));
        }
    });
    (address, seen)
}

fn unix_backend(path: &Path, name: &str) {
    let listener = UnixListener::bind(path).unwrap();
    let name = name.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, name.clone(), Received::default()));
        }
    });
}

/// Sends a request to the proxy, and returns all that it sends until it closes the connection.
pub(crate) async fn get(http: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = vec![];
    timeout(PATIENCE, stream.read_to_end(&mut response)).await.unwrap().unwrap();
    String::from_utf8(response).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_and_queried_on_all_workers() {
    for (_proxy, sozu) in proxies(Release::V2_3_0).await {
        ok(&sozu, RequestType::SetMaxConnectionsPerSubnet(7)).await;
        // Sōzu 2.3.3 sends no content: it does not pass on the limits that its workers send.
        let query = QueryMaxConnectionsPerSubnet {};
        ok(&sozu, RequestType::QueryMaxConnectionsPerSubnet(query)).await;
        ok(&sozu, RequestType::SetMaxConnectionAttempts(2)).await;
        for out_of_range in [0, 256] {
            fails(&sozu, RequestType::SetMaxConnectionAttempts(out_of_range)).await;
        }
    }
}

async fn client_auth(sozu: &Sozu) -> Vec<ClientAuthMode> {
    let listeners = ok(sozu, RequestType::ListListeners(ListListeners {})).await;
    let Some(ContentType::ListenersList(list)) = listeners.content else { panic!() };
    list.https_listeners.values().map(HttpsListenerConfig::client_auth).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_asks_for_client_certificates_until_a_patch_ends_that() {
    let authority = include_str!("../fixtures/client-ca.pem").to_owned();
    for (_proxy, sozu) in proxies(Release::V2_3_0).await {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let mut listener = ListenerBuilder::new_https(port.into()).to_tls(None).unwrap();
        listener.client_auth = Some(ClientAuthMode::ClientAuthRequired.into());
        // Without an authority, no certificate could be checked.
        fails(&sozu, RequestType::AddHttpsListener(listener.clone())).await;
        assert_eq!(client_auth(&sozu).await, []);

        listener.client_ca_certificates = vec![authority.clone()];
        ok(&sozu, RequestType::AddHttpsListener(listener)).await;
        assert_eq!(client_auth(&sozu).await, [ClientAuthMode::ClientAuthRequired]);

        let none = Some(ClientAuthMode::ClientAuthNone.into());
        let policy = ClientAuthPolicy { client_auth: none, ..ClientAuthPolicy::default() };
        let patch = UpdateHttpsListenerConfig {
            address: port.into(),
            client_auth_policy: Some(policy),
            ..UpdateHttpsListenerConfig::default()
        };
        ok(&sozu, RequestType::UpdateHttpsListener(patch)).await;
        assert_eq!(client_auth(&sozu).await, [ClientAuthMode::ClientAuthNone]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_the_header_of_a_predicate_goes_to_its_cluster() {
    for (proxy, sozu) in proxies(Release::V2_3_2).await {
        for name in ["blue", "green"] {
            ok(&sozu, add_cluster(name)).await;
            let (address, _) = tcp_backend(name).await;
            ok(&sozu, RequestType::AddBackend(backend(name, address))).await;
        }
        let canary = HeaderPredicate {
            name: "X-Canary".to_owned(),
            kind: HeaderMatchKind::Exact.into(),
            value: Some("yes".to_owned()),
        };
        let blue = frontend("blue", proxy.http, "/");
        let mut green = frontend("green", proxy.http, "/");
        green.header_predicates.push(canary);
        ok(&sozu, RequestType::AddHttpFrontend(blue)).await;
        ok(&sozu, RequestType::AddHttpFrontend(green.clone())).await;
        assert!(get(proxy.http, "/", "").await.ends_with("\r\n\r\nblue"));
        assert!(get(proxy.http, "/", "X-Canary: yes\r\n").await.ends_with("\r\n\r\ngreen"));

        ok(&sozu, RequestType::RemoveHttpFrontend(green)).await;
        assert!(get(proxy.http, "/", "X-Canary: yes\r\n").await.ends_with("\r\n\r\nblue"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_frontend_closes_the_connection_without_a_response() {
    for (proxy, sozu) in proxies(Release::V2_3_2).await {
        ok(&sozu, add_cluster("blue")).await;
        let (address, _) = tcp_backend("blue").await;
        ok(&sozu, RequestType::AddBackend(backend("blue", address))).await;
        ok(&sozu, RequestType::AddHttpFrontend(frontend("blue", proxy.http, "/"))).await;
        let mut silent = frontend("blue", proxy.http, "/silent");
        silent.redirect = Some(RedirectPolicy::SilentClose.into());
        ok(&sozu, RequestType::AddHttpFrontend(silent)).await;
        assert_eq!(get(proxy.http, "/silent", "").await, "");
        assert!(get(proxy.http, "/", "").await.ends_with("\r\n\r\nblue"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_backend_answers_requests() {
    for (proxy, sozu) in proxies(Release::V2_3_2).await {
        ok(&sozu, add_cluster("blue")).await;
        let path = proxy.path("app.sock");
        unix_backend(Path::new(&path), "blue");
        let mut unix = backend("blue", "127.0.0.1:9".parse().unwrap());
        unix.unix_path = Some(path);
        ok(&sozu, RequestType::AddBackend(unix)).await;
        ok(&sozu, RequestType::AddHttpFrontend(frontend("blue", proxy.http, "/"))).await;
        assert!(get(proxy.http, "/", "").await.ends_with("\r\n\r\nblue"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_sessions_closes_the_idle_connections_of_its_cluster() {
    for (proxy, sozu) in proxies(Release::V2_3_2).await {
        ok(&sozu, add_cluster("blue")).await;
        let (address, _) = tcp_backend("blue").await;
        ok(&sozu, RequestType::AddBackend(backend("blue", address))).await;
        ok(&sozu, RequestType::AddHttpFrontend(frontend("blue", proxy.http, "/"))).await;
        let mut stream = TcpStream::connect(proxy.http).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await.unwrap();
        let mut response = vec![];
        while !response.ends_with(b"\r\n\r\nblue") {
            response.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }

        let of = |cluster: &str| {
            let cluster_id = cluster.to_owned();
            RequestType::CloseSessions(CloseSessions { cluster_id, ..CloseSessions::default() })
        };
        assert_eq!(closed(&sozu, of("green")).await, [(0, 0), (0, 0)]);
        let counts = closed(&sozu, of("blue")).await;
        let all: u64 = counts.iter().map(|(closed, draining)| closed + draining).sum();
        assert_eq!(all, 1, "one worker has the connection: {counts:?}");
        let end = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        assert!(end.is_err(), "{end:?}");
    }
}

/// The closed and the draining sessions of each worker.
async fn closed(sozu: &Sozu, request: RequestType) -> Vec<(u64, u64)> {
    let answer = ok(sozu, request).await;
    let Some(ContentType::WorkerResponses(workers)) = answer.content else { panic!() };
    let counts = workers.map.into_values().map(|content| match content.content_type {
        Some(ContentType::ClosedSessions(closed)) => (closed.closed, closed.draining),
        _ => panic!("another content"),
    });
    counts.collect()
}

fn protected_check(uri: &str) -> SetProtectedHealthCheck {
    let name = "Authorization".to_owned();
    let header = HealthCheckHeader { name: name.clone(), fingerprint: String::new() };
    let config = HealthCheckConfig {
        uri: uri.to_owned(),
        interval: 1,
        timeout: 1,
        healthy_threshold: 1,
        unhealthy_threshold: 1,
        headers: vec![header],
        ..HealthCheckConfig::default()
    };
    let value = HealthCheckHeaderValue { name, value: b"Bearer s3cret".to_vec() };
    SetProtectedHealthCheck { cluster_id: "blue".to_owned(), config, values: vec![value] }
}

#[tokio::test]
async fn each_of_these_verbs_arrives_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let received = recorder(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let check = protected_check("/up");
    let order = ProtectedHealthCheckOrder {
        phase: ProtectedHealthCheckPhase::ProtectedHealthCheckPrepare.into(),
        cluster_id: "blue".to_owned(),
        version: 7,
        prepare: Some(check.clone()),
    };
    let sessions = CloseSessions {
        cluster_id: "blue".to_owned(),
        backend_id: Some("blue-0".to_owned()),
        address: Some("127.0.0.1:9".parse::<SocketAddr>().unwrap().into()),
    };
    let mut sent = vec![
        RequestType::SetMaxConnectionsPerSubnet(7),
        RequestType::QueryMaxConnectionsPerSubnet(QueryMaxConnectionsPerSubnet {}),
        RequestType::SetMaxConnectionAttempts(2),
        RequestType::CloseSessions(sessions),
        RequestType::SetProtectedHealthCheck(check),
        RequestType::QueryProtectedHealthCheckSupport(QueryProtectedHealthCheckSupport {}),
        RequestType::ProtectedHealthCheckOrder(order),
    ];
    sent.extend(guarded().into_iter().map(|(_, newer)| newer));
    assert_eq!(sent.len(), 16, "the tags 60 to 75");
    for request in sent.clone() {
        ok(&sozu, request).await;
    }
    assert_eq!(*received.lock().unwrap(), sent);
}

#[test]
fn the_values_of_a_protected_health_check_are_not_shown() {
    let request = Request::from(RequestType::SetProtectedHealthCheck(protected_check("/up")));
    let shown = format!("{request:?}");
    let bytes = format!("{:?}", b"s3cret");
    assert!(
        !shown.contains("s3cret") && !shown.contains(bytes.trim_matches(['[', ']'])),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_health_check_sends_its_header_to_the_backend() {
    for (_proxy, sozu) in proxies(Release::V2_3_2).await {
        // No such cluster.
        fails(&sozu, RequestType::SetProtectedHealthCheck(protected_check("/up"))).await;
        ok(&sozu, add_cluster("blue")).await;
        let (address, seen) = tcp_backend("blue").await;
        ok(&sozu, RequestType::AddBackend(backend("blue", address))).await;
        ok(&sozu, RequestType::SetProtectedHealthCheck(protected_check("/up"))).await;

        let checks = ok(&sozu, RequestType::QueryHealthChecks(QueryHealthChecks::default())).await;
        let Some(ContentType::HealthChecksList(list)) = checks.content else { panic!() };
        let headers = &list.map["blue"].headers;
        assert_eq!(headers.len(), 1);
        assert!(!headers[0].fingerprint.is_empty() && !headers[0].fingerprint.contains("s3cret"));

        let start = Instant::now();
        while seen.lock().unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE);
            sleep(Duration::from_millis(10)).await;
        }
        let probe = seen.lock().unwrap()[0].clone();
        assert!(probe.starts_with("GET /up "), "{probe}");
        assert!(probe.contains("\r\nAuthorization: Bearer s3cret\r\n"), "{probe}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_between_sozus_processes_is_refused() {
    for (_proxy, sozu) in proxies(Release::V2_3_2).await {
        let order = ProtectedHealthCheckOrder::default();
        fails(&sozu, RequestType::ProtectedHealthCheckOrder(order)).await;
        assert_eq!(query(&sozu, "blue").await.unwrap(), [""; 0]);
    }
}
