//! The `Debug` output of the types names their state, and contains no message.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{fmt::Debug, future::IntoFuture};

use kakehi_channel::Json;
use kakehi_client::{
    Channel, Client, ClientSettings, Connection, Error, Outcome, Request, Response,
};
use kakehi_server::{Answer, Context, Handle, Socket, serve};
use kakehi_tests::raw::RawServer;
use serde_json::json;

const SECRET: &str = "a password";

/// The words are in what is shown, and the secret is not.
#[track_caller]
fn shows(what: &dyn Debug, words: &[&str]) {
    let shown = format!("{what:?}");
    for word in words {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn a_client_shows_where_it_connects_and_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let _server = RawServer::echo(&path);
    let client = Client::new(&path, ClientSettings::default());
    shows(&client, &["Client {", "app.sock", "stats", "timeouts"]);
    let asked = client.request(json!(SECRET)).idempotent();
    shows(&asked, &["RequestBuilder {", "is_idempotent: true"]);
    let answer = asked.into_future();
    shows(&answer, &["FinalResponse(Call {", "start"]);
    let mut responses = client.request(json!(SECRET)).send().await.unwrap();
    shows(&responses, &["Responses(Call {", "reading"]);
    let stats = client.stats();
    assert_eq!((stats.busy, stats.idle, stats.opened), (1, 0, 1));
    assert!(responses.next().await.unwrap().is_ok());
    shows(&responses, &["over"]);
    let stats = client.stats();
    assert_eq!((stats.busy, stats.idle, stats.opened), (0, 1, 1));
    assert_eq!(format!("{:>8}|", Outcome::NotSent), "not_sent|");
    assert_eq!(format!("{:>8}|", Outcome::Failed), "  failed|");
}

#[tokio::test]
async fn a_connection_shows_its_stream_and_what_is_under_way() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let mut connection: Connection<Request, Response, Json, _> =
        Connection::new(Channel::new(ours));
    shows(&connection, &["Connection {", "Channel {", "DuplexStream", "staged: 0", "timeouts"]);
    let pipeline = connection.pipeline([json!(SECRET)]);
    shows(&pipeline, &["Pipeline {", "under_way: 0", "is_broken: false"]);
    drop(pipeline);
    drop(theirs);
    let error: Error = connection.request(json!(SECRET)).await.unwrap_err();
    shows(&error, &["Error(", "the connection"]);
    let error = kakehi_channel::ChannelError::from(std::io::Error::from_raw_os_error(32));
    shows(&error, &["ChannelError(\"", "the connection failed"]);
}

#[tokio::test]
async fn a_server_shows_its_socket_its_limits_and_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let socket = Socket::bind(&path).listen().unwrap();
    shows(&socket, &["Socket {", "app.sock", "removed_on_drop: true"]);
    let error = Socket::bind(&path).listen().unwrap_err();
    shows(&error, &["BindError(", "app.sock"]);

    let handler = async |_: Request, context: Context| {
        Ok::<_, String>(Answer::new("").with_content(format!("{context:?}")))
    };
    let handle = Handle::default();
    let serving = serve(socket, handler).handle(&handle);
    shows(&serving, &["Serve {", "app.sock", "limits", "access", "drain"]);
    let serving = tokio::spawn(serving.into_future());
    let client: Client = Client::connect(&path).await.unwrap();
    let answer = client.request(json!(SECRET)).await.unwrap();
    shows(&answer.content, &["Context {", "peer", "deadline"]);
    handle.shutdown();
    serving.await.unwrap();
}
