//! Subscriptions: events, and notices of gaps.

use kakehi_sozu::{
    Events, Notice,
    command::{EventKind, request::RequestType},
};
use tokio::time::timeout;

use crate::support::{PATIENCE, Proxy, add_cluster, binaries, status};

async fn next(events: &mut Events) -> Notice {
    timeout(PATIENCE, events.next()).await.unwrap()
}

/// Reads on until that has happened to a cluster of that name.
async fn see(events: &mut Events, kind: EventKind, cluster: &str) {
    loop {
        match next(events).await {
            Notice::Event(event) if event.kind() == kind => {
                if event.cluster_id.as_deref() == Some(cluster) {
                    return;
                }
            }
            Notice::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_does_is_told_before_and_after_a_restart_with_a_gap_between() {
    for binary in binaries() {
        let mut proxy = Proxy::start(&binary).await;
        let mut events = proxy.connect().await.events();
        assert!(matches!(next(&mut events).await, Notice::Subscribed));
        let add = |name| {
            ["cluster", "add", "--id", name, "--load-balancing-policy", "random"].map(str::to_owned)
        };
        let run = |proxy: &Proxy, arguments: [String; 6]| {
            proxy.command_line(&arguments.each_ref().map(String::as_str));
        };

        run(&proxy, add("blue"));
        see(&mut events, EventKind::ClusterAdded, "blue").await;
        proxy.command_line(&["cluster", "remove", "--id", "blue"]);
        see(&mut events, EventKind::ClusterRemoved, "blue").await;

        proxy.kill();
        let lost = loop {
            match next(&mut events).await {
                Notice::Event(_) => {}
                other => break other,
            }
        };
        assert!(matches!(lost, Notice::Lost(_)), "{lost:?}");
        proxy.start_again();
        let gap = next(&mut events).await;
        assert!(matches!(gap, Notice::Gap(_)), "{gap:?}");
        proxy.answers().await;
        run(&proxy, add("green"));
        see(&mut events, EventKind::ClusterAdded, "green").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_the_main_process_ends_no_subscription_unsaid() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let mut events = sozu.events();
        assert!(matches!(next(&mut events).await, Notice::Subscribed));
        let upgrade = RequestType::UpgradeMain(kakehi_sozu::command::UpgradeMain {});
        let upgraded = sozu.request(upgrade).deadline(PATIENCE).await;
        assert!(upgraded.as_ref().is_ok_and(|_| true), "{upgraded:?}");
        proxy.answers().await;

        sozu.request(add_cluster("blue")).await.unwrap();
        loop {
            match next(&mut events).await {
                Notice::Event(event) if event.cluster_id.as_deref() == Some("blue") => break,
                Notice::Event(_) => {}
                Notice::Lost(_) => {
                    assert!(matches!(next(&mut events).await, Notice::Gap(_)));
                    sozu.request(add_cluster("blue")).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_harms_no_other_client() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let mut events = sozu.events();
        assert!(matches!(next(&mut events).await, Notice::Subscribed));
        for round in 0..10 {
            let names = (0..100).map(|number| add_cluster(&format!("{round}-{number}")));
            let results = sozu.batch(names).await;
            assert!(results.iter().all(Result::is_ok));
            sozu.request(status()).await.unwrap();
        }
        see(&mut events, EventKind::ClusterAdded, "9-99").await;
    }
}
