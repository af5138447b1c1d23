//! The published client for tokio, with a pool of the same size.

use std::path::PathBuf;

use kakehi_sozu::command::{request::RequestType, response_content::ContentType};
use sozu_client::{
    Client, Sender,
    channel::{ConnectionManager, ConnectionProperties},
};

pub(crate) async fn connect(socket: PathBuf) -> Client {
    let properties =
        ConnectionProperties { socket, buffer_size: 1_000_000, max_buffer_size: 2_000_000 };
    let pool = bb8::Pool::builder().max_size(8).build(ConnectionManager::new(properties));
    Client::from(pool.await.expect("a pool"))
}

/// The same as ours is asked.
pub(crate) async fn ask(client: Client, task: usize, times: usize) {
    let name = format!("cluster-{task}");
    for _ in 0..times {
        let request = RequestType::QueryClusterById(name.clone());
        let answer = client.send(request).await.expect("an answer");
        let content = answer.content.and_then(|content| content.content_type);
        let Some(ContentType::WorkerResponses(workers)) = content else { panic!("{name}") };
        let found = workers.map.iter().filter(|(from, _)| *from != "main").all(|(_, content)| {
            let Some(ContentType::Clusters(found)) = &content.content_type else { return false };
            found.vec.iter().all(|found| {
                found.configuration.as_ref().is_some_and(|found| found.cluster_id == name)
            })
        });
        assert!(found && workers.map.len() >= 2);
    }
}
