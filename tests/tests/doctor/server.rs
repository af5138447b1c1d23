//! The server behind the socket.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    time::Instant,
};

use kakehi_channel::Request;
use kakehi_server::{Context, Handle, Limits, Socket, serve};
use kakehi_tests::{
    programs::{Server, wait_for},
    raw::{RawServer, listen},
};
use rustix::{
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen as listen_on,
        socket_with,
    },
    process::Signal,
};
use tokio::task::spawn_blocking;

use super::*;

#[test]
fn a_server_that_answers_is_healthy_and_tells_its_version() {
    let server = Server::start(&[]);
    let report = examine(server.socket());
    healthy(&report);
    let checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    let mut expected = vec![Check::Path];
    expected.resize(server.socket().components().count(), Check::Directory);
    expected.extend([
        Check::Socket,
        Check::Permission,
        Check::Listener,
        Check::Answer,
        Check::Admission,
        Check::Version,
    ]);
    assert_eq!(checks, expected, "{report}");
    let text = report.to_string();
    let pid = server.pid().as_raw_nonzero();
    assert!(text.contains(&format!("a server listens: kakehid (pid {pid}), run by ")), "{text}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.ends_with(&format!("uses protocol version 0 and is version {version}")), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_know_the_question_is_healthy_too() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Command {
        Reload,
    }
    let home = Home::new();
    let path = home.path("app.sock");
    let handle = Handle::default();
    let handler = async |request: Request<Command>, _: Context| match request.command {
        Some(Command::Reload) | None => Err::<(), _>("not expected here"),
    };
    let serving = serve(Socket::bind(&path).listen().unwrap(), handler).handle(&handle);
    let serving = tokio::spawn(serving.into_future());
    let report = kakehi_doctor::examine(&path, LONG).await;
    healthy(&report);
    assert!(report.to_string().ends_with("the server uses protocol version 0"), "{report}");
    handle.shutdown();
    serving.await.unwrap();
}

#[tokio::test]
async fn progress_is_an_answer() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _server = RawServer::start(&path, async |mut peer, _| {
        let Some(Ok(request)) = peer.next().await else { return };
        peer.send(kakehi_channel::Response::processing(request.id, "")).await.unwrap();
        listen(peer).await;
    });
    healthy(&kakehi_doctor::examine(&path, LONG).await);
}

#[test]
fn a_socket_without_a_server_is_stale() {
    let home = Home::new();
    let path = home.path("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    let report = examine(&path);
    let what = format!("no server listens on {}", path.display());
    let finding = problem(&report, Check::Listener, Problem::NotRunning, &what);
    assert!(remedy(finding).contains("replaces such a socket"), "{finding}");
}

#[test]
fn a_packet_socket_is_reported_as_no_stream_socket() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _packets = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let report = examine(&path);
    let what = format!("the socket {} is not a stream socket", path.display());
    let finding = problem(&report, Check::Listener, Problem::Protocol, &what);
    assert!(remedy(finding).contains("ss -xlp src"), "{finding}");
}

#[test]
fn a_full_connection_queue_is_reported_at_once() {
    let home = Home::new();
    let path = home.path("app.sock");
    let address = SocketAddrUnix::new(&path).unwrap();
    let open = || -> OwnedFd {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    };
    let server = open();
    bind(&server, &address).unwrap();
    listen_on(&server, 1).unwrap();
    let mut waiting = vec![];
    loop {
        let client = open();
        if connect(&client, &address).is_err() {
            break;
        }
        waiting.push(client);
    }
    let start = Instant::now();
    let report = examine(&path);
    assert!(start.elapsed() < LONG / 2);
    let finding = problem(&report, Check::Listener, Problem::Busy, "the connection queue of");
    assert!(remedy(finding).ends_with(&format!("ss -xlp src {}", path.display())), "{finding}");
}

#[test]
fn a_stopped_server_is_distinguished_from_a_hanging_one() {
    let server = Server::start(&[]);
    server.signal(Signal::STOP);
    let pid = server.pid().as_raw_nonzero();
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_for(|| state().contains(") T ").then_some(())).expect("it stops");

    let start = Instant::now();
    let report = examine_for(SHORT, server.socket());
    assert!(start.elapsed() < SHORT + Duration::from_secs(1), "{:?}", start.elapsed());
    let what = "the server does not answer within 200 ms";
    let finding = problem(&report, Check::Answer, Problem::NoAnswer, what);
    assert!(why(finding).contains(&format!("kakehid (pid {pid}), run by ")), "{finding}");
    assert!(why(finding).ends_with("is stopped by a signal"), "{finding}");
    assert_eq!(remedy(finding), format!("continue it: kill -CONT {pid}"));

    server.signal(Signal::CONT);
    healthy(&examine(server.socket()));
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_not_waited_for_longer_than_asked() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _server = RawServer::start(&path, |peer, _| listen(peer));
    let start = Instant::now();
    let report = kakehi_doctor::examine(&path, SHORT).await;
    assert!(start.elapsed() >= SHORT);
    assert!(start.elapsed() < SHORT + Duration::from_secs(1), "{:?}", start.elapsed());
    let what = "the server does not answer within 200 ms";
    let finding = problem(&report, Check::Answer, Problem::NoAnswer, what);
    assert!(!why(finding).contains("stopped"), "{finding}");

    let start = Instant::now();
    let report = kakehi_doctor::examine(&path, Duration::ZERO).await;
    assert!(
        start.elapsed() < kakehi_doctor::PATIENCE + Duration::from_secs(1),
        "zero is not for ever"
    );
    problem(&report, Check::Answer, Problem::NoAnswer, "within 1.0 s");
}

#[tokio::test]
async fn who_is_not_on_the_servers_list_is_told_so() {
    let home = Home::new();
    let path = home.path("app.sock");
    let socket = Socket::bind(&path).mode(0o666).listen().unwrap();
    let handler = async |_: Request, _: Context| Ok::<_, String>("hello");
    tokio::spawn(serve(socket, handler).into_future());
    let report = {
        let path = path.clone();
        spawn_blocking(move || examine_as_nobody(&path, NOBODY)).await.unwrap()
    };
    let Some(report) = report else { return };
    let what = "the server does not serve nobody (uid 65534)";
    let finding = problem(&report, Check::Admission, Problem::Permission, what);
    assert_eq!(why(finding), "uid 65534 may not use this server");
    assert!(remedy(finding).ends_with("(sudo -u root)"), "{finding}");
    healthy(&kakehi_doctor::examine(&path, LONG).await);
}

#[tokio::test]
async fn a_server_at_its_limit_and_one_that_ends_are_busy() {
    let home = Home::new();
    let path = home.path("app.sock");
    let handle = Handle::default();
    let handler = async |_: Request, context: Context| {
        context.cancellation().cancelled().await;
        Ok::<_, String>(())
    };
    let serving = serve(Socket::bind(&path).listen().unwrap(), handler)
        .limits(Limits { connections: 1, ..Limits::default() })
        .handle(&handle);
    let serving = tokio::spawn(serving.into_future());
    let mut client = kakehi_client::Connection::connect(&path).await.unwrap();
    let responses = client.request("wait").send().await.unwrap();
    while handle.stats().connections == 0 {
        tokio::task::yield_now().await;
    }
    let report = kakehi_doctor::examine(&path, LONG).await;
    problem(&report, Check::Admission, Problem::Busy, "the server is busy");

    let other = home.path("other.sock");
    let _server = RawServer::start(&other, async |mut peer, _| {
        let Some(Ok(request)) = peer.next().await else { return };
        let why = kakehi_channel::Refusal::ShuttingDown;
        let response = kakehi_channel::Response::refused(request.id, why, "bye");
        peer.send(response).await.unwrap();
    });
    let report = kakehi_doctor::examine(&other, LONG).await;
    problem(&report, Check::Admission, Problem::Busy, "the server is shutting down");
    drop(responses);
    handle.shutdown();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_for_another_reason_is_quoted() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _server = RawServer::start(&path, async |mut peer, _| {
        let Some(Ok(request)) = peer.next().await else { return };
        let why = kakehi_channel::Refusal::TooSlow;
        peer.send(kakehi_channel::Response::refused(request.id, why, "late")).await.unwrap();
    });
    let report = kakehi_doctor::examine(&path, LONG).await;
    let what = "the server refuses requests: too_slow";
    let finding = problem(&report, Check::Admission, Problem::Protocol, what);
    assert_eq!((why(finding), remedy(finding)), ("late", "read the server's log"));
}
