//! Channels over real Unix sockets.

use std::{io, os::fd::OwnedFd, path::Path};

use futures::future::join;
use kakehi_channel::{BufferLimits, Channel, ChannelError, ErrorKind, Request, Response};
use kakehi_tests::programs::example;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

use crate::soon;

async fn connect(path: &Path) -> Result<Channel<Request, Response>, ChannelError> {
    Channel::connect(path).await
}

/// Connecting to `path` must fail with `kind`, and the error must say where and why.
async fn is_refused(path: &Path, kind: io::ErrorKind) {
    let error = connect(path).await.unwrap_err();
    assert_eq!(error.io_kind(), Some(kind), "{error}");
    let start = format!("cannot connect to {}: ", path.display());
    assert!(error.to_string().starts_with(&start), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(error.to_string().ends_with(&source.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_of_the_system_with_the_path() {
    let dir = TempDir::new().unwrap();
    let [missing, file, stale] = ["missing", "file", "stale"].map(|name| dir.path().join(name));
    is_refused(&missing, io::ErrorKind::NotFound).await;
    is_refused(&missing.join("deeper"), io::ErrorKind::NotFound).await;

    std::fs::write(&file, "not a socket").unwrap();
    is_refused(&file, io::ErrorKind::ConnectionRefused).await;
    is_refused(&file.join("deeper"), io::ErrorKind::NotADirectory).await;

    drop(UnixListener::bind(&stale).unwrap());
    assert!(stale.exists(), "what a server that was killed leaves behind");
    is_refused(&stale, io::ErrorKind::ConnectionRefused).await;

    let too_long = dir.path().join("x".repeat(108));
    is_refused(&too_long, io::ErrorKind::InvalidInput).await;
}

#[tokio::test]
async fn a_full_queue_of_connections_is_an_error_at_once() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("busy");
    let busy: OwnedFd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let _first = connect(&path).await.unwrap();
    is_refused(&path, io::ErrorKind::WouldBlock).await;
}

#[tokio::test]
async fn a_connected_client_receives_more_than_it_sends() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = connect(&path).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut server = Channel::<Response, Request>::with_limits(
        accepted,
        BufferLimits::default(),
        BufferLimits::CLIENT,
    );

    let request = Request::with_command("ID-1", "all of it".into());
    client.send(request.clone()).await.unwrap();
    assert_eq!(soon(server.next()).await.unwrap().unwrap(), request);
    let mut response = Response::ok("ID-1", "x".repeat(3 << 20));
    let (sent, received) = soon(join(server.send(response.clone()), client.next())).await;
    sent.unwrap();
    assert!(received.unwrap().unwrap() == response);

    response.message = "x".repeat(16 << 20);
    assert_eq!(server.send(response).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let large = Request::with_command("ID-2", "x".repeat(1 << 20).into());
    assert_eq!(client.send(large).await.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_pair_sends_both_ways() {
    let (mut left, mut right) = Channel::<Request, Response>::pair().unwrap();
    left.send(Request::new("ID-1")).await.unwrap();
    right.send(Response::ok("ID-1", "done")).await.unwrap();
    assert_eq!(soon(right.next()).await.unwrap().unwrap(), Request::new("ID-1"));
    assert_eq!(soon(left.next()).await.unwrap().unwrap(), Response::ok("ID-1", "done"));
}

#[tokio::test]
async fn both_sides_know_who_the_other_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = connect(&path).await.unwrap();
    let server = Channel::<Response, Request>::new(listener.accept().await.unwrap().0);
    let ours = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        Some(rustix::process::getpid().as_raw_pid()),
    );
    for peer in [client.get_ref().peer_cred().unwrap(), server.get_ref().peer_cred().unwrap()] {
        assert_eq!((peer.uid(), peer.gid(), peer.pid()), ours);
    }
}

#[tokio::test]
async fn a_channel_lends_and_gives_back_its_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let channel = Channel::<u8, u8>::new(ours);
    assert_eq!(sockopt::socket_domain(&channel).unwrap(), AddressFamily::UNIX);
    assert_eq!(sockopt::socket_type(&channel).unwrap(), SocketType::STREAM);
    rustix::io::write(&channel, b"raw").unwrap();
    let ours = channel.into_inner();
    theirs.readable().await.unwrap();
    let mut bytes = [0; 8];
    assert_eq!(theirs.try_read(&mut bytes).unwrap(), 3);
    drop(ours);
    theirs.readable().await.unwrap();
    assert_eq!(theirs.try_read(&mut bytes).unwrap(), 0, "it was the only owner");
}

#[test]
fn the_lesson_shows_what_stands_behind_each_descriptor() {
    let lesson = std::process::Command::new(example("rawfd")).output().unwrap();
    assert!(lesson.status.success() && lesson.stderr.is_empty(), "{lesson:?}");
    let text = String::from_utf8(lesson.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        ("a file", "/rawfd"),
        ("a listening socket", "socket:["),
        ("one end of a channel", "socket:["),
        ("its other end", "socket:["),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (what, behind)) in lines.iter().zip(expected) {
        assert!(line.starts_with(what) && line.contains(behind), "{line}");
        assert!(line.contains("descriptor "), "{line}");
    }
}
