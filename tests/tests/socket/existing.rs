//! A file that exists at the path already.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::{
            fs::symlink,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::Path,
};

use kakehi_server::{BindErrorKind as Kind, Socket};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{Home, NOBODY, assert_refused, give, is_root, make_fifo, skip};

#[tokio::test]
async fn what_is_no_socket_is_refused_and_left_alone() {
    let home = Home::new();
    fs::write(home.path("file"), "precious").unwrap();
    fs::create_dir(home.path("directory")).unwrap();
    symlink(home.path("file"), home.path("link")).unwrap();
    symlink(home.path("nowhere"), home.path("dangling")).unwrap();
    leave_dead_socket(&home.path("dead"));
    symlink(home.path("dead"), home.path("link-to-a-socket")).unwrap();
    make_fifo(&home.path("fifo"));

    let before = home.names();
    for (name, why, remedy) in [
        ("file", "a regular file is there", "remove the file if you do not need it"),
        ("directory", "a directory is there", "choose a path in that directory"),
        ("link", "a symbolic link is there", "choose the path that it leads to"),
        ("dangling", "a symbolic link is there", "or remove it"),
        ("link-to-a-socket", "a symbolic link is there", "choose the path that it leads to"),
        ("fifo", "a named pipe is there", "remove the pipe"),
    ] {
        let error = Socket::bind(home.path(name)).listen().unwrap_err();
        assert_refused(&error, Kind::NotASocket, why, remedy);
    }
    assert_eq!(home.names(), before, "no lock file either");
    assert_eq!(fs::read_to_string(home.path("file")).unwrap(), "precious");
}

#[tokio::test]
async fn a_dead_servers_socket_is_taken_over() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    leave_dead_socket(&path);
    assert!(path.exists());

    let socket = Socket::bind(&path).listen().unwrap();
    UnixStream::connect(&path).unwrap();
    socket.accept().await.unwrap();
}

#[tokio::test]
async fn a_live_servers_socket_is_refused_and_goes_on() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let live = UnixListener::bind(&path).unwrap();

    let error = Socket::bind(&path).listen().unwrap_err();
    let why = format!("another server listens there (pid {})", std::process::id());
    assert_refused(&error, Kind::InUse, &why, "stop that server");
    assert!(error.is_in_use());

    live.accept().expect("the one that tried");
    UnixStream::connect(&path).unwrap();
    live.accept().unwrap();
}

#[tokio::test]
async fn a_live_server_with_a_full_backlog_is_refused() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let address = SocketAddrUnix::new(&path).unwrap();
    let live = unix_socket();
    rustix::net::bind(&live, &address).unwrap();
    rustix::net::listen(&live, 0).unwrap();
    let waiting: Vec<_> = std::iter::repeat_with(unix_socket)
        .take_while(|client| match rustix::net::connect(client, &address) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                false
            }
        })
        .collect();
    assert!(!waiting.is_empty());

    let error = Socket::bind(&path).listen().unwrap_err();
    assert_refused(&error, Kind::InUse, "another server listens there", "stop that server");
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_of_datagrams_is_in_use_while_somebody_has_it() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let _live = UnixDatagram::bind(&path).unwrap();
    assert_eq!(Socket::bind(&path).listen().unwrap_err().kind(), Kind::InUse);
}

#[tokio::test]
async fn another_users_socket_is_refused_live_or_dead() {
    if !is_root() {
        return skip("only root can give a socket to another user");
    }
    let home = Home::new();
    let path = home.path("daemon.sock");
    let live = UnixListener::bind(&path).unwrap();
    give(&path);
    let refused = || {
        let error = Socket::bind(&path).listen().unwrap_err();
        let why = "a socket of another user is there, of uid 65534";
        assert_refused(&error, Kind::ForeignSocket, why, "have that user remove it");
        assert!(!error.is_in_use());
        assert_eq!(home.names(), ["daemon.sock"]);
    };
    refused();
    drop(live);
    refused();
}

#[tokio::test]
async fn a_dead_servers_socket_is_taken_over_though_it_was_given_to_another_user() {
    if !is_root() {
        return skip("only root can give a socket to another user");
    }
    let home = Home::new();
    let path = home.path("daemon.sock");
    leave_dead_socket(&path);
    give(&path);
    let error = Socket::bind(&path).owner(NOBODY - 1).listen().unwrap_err();
    assert_eq!(error.kind(), Kind::ForeignSocket);
    Socket::bind(&path).owner(NOBODY).listen().unwrap();
}

/// Of a server that ended in between: one that had listened might be held open a little longer by
/// a process that another test is just starting.
fn leave_dead_socket(path: &Path) {
    rustix::net::bind(unix_socket(), &SocketAddrUnix::new(path).unwrap()).unwrap();
}

fn unix_socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}
