//! A batch: one result for each request.

use std::net::SocketAddr;

use kakehi_sozu::{
    Outcome, Sozu,
    command::{
        FrontendFilters, PathRule, RequestHttpFrontend, request::RequestType,
        response_content::ContentType,
    },
};

use crate::support::{Proxy, add_cluster, binaries};

fn frontend(number: usize, address: SocketAddr) -> RequestType {
    RequestType::AddHttpFrontend(RequestHttpFrontend {
        cluster_id: Some("blue".to_owned()),
        address: address.into(),
        hostname: format!("host-{number}.example.com"),
        path: PathRule::prefix("/".to_owned()),
        ..RequestHttpFrontend::default()
    })
}

async fn hosts(sozu: &Sozu) -> Vec<String> {
    let answer = sozu.request(RequestType::ListFrontends(FrontendFilters::default())).await;
    let Some(ContentType::FrontendList(list)) = answer.unwrap().content else { panic!() };
    list.http_frontends.into_iter().map(|frontend| frontend.hostname).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_adds_exactly_the_two_that_must_fail_are_reported() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        sozu.request(add_cluster("blue")).await.unwrap();
        let there = [123, 877];
        for number in there {
            sozu.request(frontend(number, proxy.http)).await.unwrap();
        }

        let results = sozu.batch((0..1000).map(|number| frontend(number, proxy.http))).await;
        assert_eq!(results.len(), 1000);
        for (number, result) in results.iter().enumerate() {
            match result {
                Ok(_) => assert!(!there.contains(&number), "{number} was added twice"),
                Err(error) => {
                    assert!(there.contains(&number), "{number}: {error:?}");
                    assert!(error.outcome() == Outcome::Failed, "{number}: {error:?}");
                }
            }
        }
        let mut hosts = hosts(&sozu).await;
        hosts.sort();
        hosts.dedup();
        assert_eq!(hosts.len(), 1000);
        let shown = proxy.command_line(&["frontend", "list"]);
        assert!(shown.contains("host-0.example.com") && shown.contains("host-999.example.com"));
    }
}
