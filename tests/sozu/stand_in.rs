//! A Sōzu that is none, and the real one's command line.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use kakehi_server::{Answer, Failure, Socket, serve};
use kakehi_sozu::{
    Asked, Context, Notice, Outcome, Sozu, Status,
    command::{
        Event, EventKind, RunState, WorkerInfo, WorkerInfos, request::RequestType,
        response_content::ContentType,
    },
};
use tempfile::TempDir;

use crate::support::{add_cluster, binaries, command_line, status, workers};

/// Starts a stand-in, and gives the names of the clusters that are added to it.
pub(crate) fn start(folder: &TempDir) -> Arc<Mutex<Vec<String>>> {
    let clusters = Arc::new(Mutex::new(vec![]));
    let added = Arc::clone(&clusters);
    let socket = Socket::bind(folder.path().join("sozu.sock")).listen().unwrap();
    let stand_in = serve(socket, move |asked: Asked, context: Context| {
        let added = Arc::clone(&added);
        async move {
            match asked.command {
                Some(RequestType::Status(_)) => {
                    context.progress("asking the worker").await?;
                    let run_state = RunState::Running.into();
                    let worker = WorkerInfo { id: 7, pid: 4242, run_state };
                    let workers = ContentType::Workers(WorkerInfos { vec: vec![worker] });
                    Ok(Answer::new("one worker").with_content(workers))
                }
                Some(RequestType::AddCluster(cluster)) => {
                    context.progress("adding").await?;
                    added.lock().unwrap().push(cluster.cluster_id);
                    Ok(Answer { message: "added".to_owned(), content: None })
                }
                Some(RequestType::SubscribeEvents(_)) => {
                    for kind in [EventKind::EventsSubscribed, EventKind::ClusterAdded] {
                        let event = Event { kind: kind.into(), ..Event::default() };
                        context.progress_with("main", &ContentType::Event(event)).await?;
                    }
                    std::future::pending().await
                }
                _ => Err(Failure::new("a stand-in cannot do that")),
            }
        }
    });
    tokio::spawn(stand_in.into_future());
    clusters
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_command_line_is_answered_by_a_stand_in() {
    for binary in binaries() {
        let folder = tempfile::tempdir().unwrap();
        let clusters = start(&folder);
        let config = folder.path().join("config.toml");
        fs::write(&config, "command_socket = \"./sozu.sock\"\n").unwrap();
        let run = |arguments: &[&str]| command_line(&binary, &config, arguments);

        let shown = run(&["status"]);
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(
            shown.status.success() && text.contains("4242") && text.contains("RUNNING"),
            "{text}"
        );
        let added = run(&["cluster", "add", "--id", "blue", "--load-balancing-policy", "random"]);
        assert!(added.status.success(), "{added:?}");
        assert_eq!(*clusters.lock().unwrap(), ["blue"]);
        let refused = run(&["cluster", "remove", "--id", "blue"]);
        let text = [refused.stdout.as_slice(), refused.stderr.as_slice()].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("a stand-in cannot do that"), "{text}");
    }
}

#[tokio::test]
async fn our_own_client_is_answered_by_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let clusters = start(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let mut responses = sozu.request(status()).send().await.unwrap();
    let first = responses.next().await.unwrap().unwrap();
    assert_eq!((first.status, first.message.as_str()), (Status::Processing, "asking the worker"));
    assert_eq!(workers(&responses.await.unwrap())[0].pid, 4242);

    sozu.request(add_cluster("blue")).await.unwrap();
    assert_eq!(*clusters.lock().unwrap(), ["blue"]);
    let error = sozu.request(RequestType::RemoveCluster("blue".to_owned())).await.unwrap_err();
    assert!(error.outcome() == Outcome::Failed, "{error:?}");
    assert_eq!(error.response().unwrap().message, "a stand-in cannot do that");

    let mut events = sozu.events();
    assert!(matches!(events.next().await, Notice::Subscribed));
    let Notice::Event(event) = events.next().await else { panic!() };
    assert_eq!(event.kind(), EventKind::ClusterAdded);
}

#[tokio::test]
async fn a_request_without_a_type_is_answered_that_it_failed() {
    let folder = tempfile::tempdir().unwrap();
    let _clusters = start(&folder);
    let sozu = Sozu::connect(folder.path().join("sozu.sock")).await.unwrap();
    let empty = kakehi_sozu::command::Request { request_type: None };
    assert!(sozu.request(empty).await.unwrap_err().outcome() == Outcome::Failed);
}
