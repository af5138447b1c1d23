//! The canonical form of requests, as it arrives at a Sōzu.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kakehi_server::{Answer, Failure, Socket, serve};
use kakehi_sozu::{
    Asked, Context, ErrorKind, Outcome, Release, Sozu,
    command::{
        self, AddBackend, ClientAuthMode, ClientAuthPolicy, HeaderMatchKind, HeaderPredicate,
        HttpsListenerConfig, RedirectPolicy, RequestHttpFrontend, UpdateHttpsListenerConfig,
        request::RequestType,
    },
};
use tempfile::TempDir;

use crate::support::{Proxy, add_cluster, binaries};

/// Starts a stand-in that answers OK, and returns the requests that it receives.
pub(crate) fn recorder(folder: &TempDir) -> Arc<Mutex<Vec<RequestType>>> {
    let received = Arc::new(Mutex::new(vec![]));
    let requests = Arc::clone(&received);
    let socket = Socket::bind(folder.path().join("sozu.sock")).listen().unwrap();
    let stand_in = serve(socket, move |asked: Asked, _: Context| {
        let requests = Arc::clone(&requests);
        async move {
            requests.lock().unwrap().extend(asked.command);
            Ok::<_, Failure>(Answer::new("done"))
        }
    });
    tokio::spawn(stand_in.into_future());
    received
}

type Frontend = fn(RequestHttpFrontend) -> RequestType;

/// Each request of an older verb with a field of a newer one, and the newer verb.
pub(crate) fn guarded() -> Vec<(RequestType, RequestType)> {
    let unix_path = Some("/run/app.sock".to_owned());
    let backend = AddBackend { unix_path, ..AddBackend::default() };
    let client_auth = Some(ClientAuthMode::ClientAuthRequired.into());
    let listener = HttpsListenerConfig { client_auth, ..HttpsListenerConfig::default() };
    let client_auth_policy = Some(ClientAuthPolicy::default());
    let patch =
        UpdateHttpsListenerConfig { client_auth_policy, ..UpdateHttpsListenerConfig::default() };
    let mut pairs = vec![
        (RequestType::AddBackend(backend.clone()), RequestType::AddUnixBackend(backend)),
        (
            RequestType::AddHttpsListener(listener.clone()),
            RequestType::AddHttpsListenerWithClientAuth(listener),
        ),
        (
            RequestType::UpdateHttpsListener(patch.clone()),
            RequestType::UpdateHttpsListenerWithClientAuth(patch),
        ),
    ];
    let predicates: [(Frontend, Frontend); 4] = [
        (RequestType::AddHttpFrontend, RequestType::AddHttpFrontendWithHeaderPredicates),
        (RequestType::RemoveHttpFrontend, RequestType::RemoveHttpFrontendWithHeaderPredicates),
        (RequestType::AddHttpsFrontend, RequestType::AddHttpsFrontendWithHeaderPredicates),
        (RequestType::RemoveHttpsFrontend, RequestType::RemoveHttpsFrontendWithHeaderPredicates),
    ];
    let predicate = HeaderPredicate {
        name: "X-Canary".to_owned(),
        kind: HeaderMatchKind::Present.into(),
        value: None,
    };
    let with_predicate = RequestHttpFrontend {
        header_predicates: vec![predicate],
        ..RequestHttpFrontend::default()
    };
    let silent_close: [(Frontend, Frontend); 2] = [
        (RequestType::AddHttpFrontend, RequestType::AddHttpFrontendWithSilentClose),
        (RequestType::AddHttpsFrontend, RequestType::AddHttpsFrontendWithSilentClose),
    ];
    let redirect = Some(RedirectPolicy::SilentClose.into());
    let silent = RequestHttpFrontend { redirect, ..RequestHttpFrontend::default() };
    for (older, newer) in predicates {
        pairs.push((older(with_predicate.clone()), newer(with_predicate.clone())));
    }
    for (older, newer) in silent_close {
        pairs.push((older(silent.clone()), newer(silent.clone())));
    }
    pairs
}

#[tokio::test]
async fn a_request_with_a_field_of_a_newer_verb_is_sent_with_that_verb() {
    let folder = tempfile::tempdir().unwrap();
    let received = recorder(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let (older, newer): (Vec<_>, Vec<_>) = guarded().into_iter().unzip();
    for request in older.clone() {
        sozu.request(request).await.unwrap();
    }
    assert_eq!(*received.lock().unwrap(), newer);

    // A whole message of the protocol, and a batch, are converted too.
    received.lock().unwrap().clear();
    for request_type in older.clone() {
        let message = command::Request { request_type: Some(request_type) };
        sozu.request(message).await.unwrap();
    }
    assert_eq!(*received.lock().unwrap(), newer);
    received.lock().unwrap().clear();
    for result in sozu.batch(older.into_iter().take(1)).await {
        result.unwrap();
    }
    assert_eq!(*received.lock().unwrap(), newer[..1]);
}

#[tokio::test]
async fn a_newer_verb_without_its_field_is_sent_with_the_older_verb() {
    let folder = tempfile::tempdir().unwrap();
    let received = recorder(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let frontend = RequestHttpFrontend::default();
    for (sent, expected) in [
        (
            RequestType::AddUnixBackend(AddBackend::default()),
            RequestType::AddBackend(AddBackend::default()),
        ),
        (
            RequestType::AddHttpFrontendWithHeaderPredicates(frontend.clone()),
            RequestType::AddHttpFrontend(frontend),
        ),
        (add_cluster("blue"), add_cluster("blue")),
    ] {
        sozu.request(sent).await.unwrap();
        assert_eq!(received.lock().unwrap().pop(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_sozu_does_not_add_a_unix_backend_as_a_tcp_backend() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        sozu.request(add_cluster("blue")).await.unwrap();
        let backend = AddBackend {
            cluster_id: "blue".to_owned(),
            backend_id: "blue-0".to_owned(),
            address: "127.0.0.1:9".parse::<SocketAddr>().unwrap().into(),
            unix_path: Some("/run/app.sock".to_owned()),
            ..AddBackend::default()
        };
        let request = sozu.request(RequestType::AddBackend(backend));
        let result = request.deadline(Duration::from_secs(5)).await;
        let shown = proxy.command_line(&["cluster", "list", "--id", "blue"]);
        if proxy.knows(Release::V2_3_2) {
            result.unwrap();
            assert!(shown.contains("blue-0"), "{shown}");
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Deadline, "{error:?}");
            assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
            assert!(!shown.contains("blue-0"), "{shown}");
        }
    }
}
