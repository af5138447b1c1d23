//! The files after a server has ended.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
};

use kakehi_server::Socket;

use super::Home;

#[tokio::test]
async fn a_dropped_socket_takes_its_file_along_and_leaves_the_lock_file() {
    let home = Home::new();
    drop(Socket::bind(home.path("daemon.sock")).listen().unwrap());
    assert_eq!(home.names(), ["daemon.sock.lock"]);
}

#[tokio::test]
async fn a_dropped_socket_leaves_alone_what_replaced_its_file() {
    let home = Home::new();
    let path = home.path("daemon.sock");

    let socket = Socket::bind(&path).listen().unwrap();
    fs::remove_file(&path).unwrap();
    drop(socket);

    let socket = Socket::bind(&path).listen().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(socket);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    let socket = Socket::bind(&path).listen().unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(socket);
    UnixStream::connect(&path).unwrap();
    other.accept().unwrap();
}

#[tokio::test]
async fn a_dropped_socket_takes_its_file_along_from_a_renamed_directory() {
    let home = Home::new();
    let path = home.path("before/daemon.sock");
    let socket = Socket::bind(&path).create_parent().listen().unwrap();
    fs::rename(home.path("before"), home.path("after")).unwrap();
    fs::create_dir(home.path("before")).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(socket);
    assert!(path.exists() && !home.path("after/daemon.sock").exists());
}
