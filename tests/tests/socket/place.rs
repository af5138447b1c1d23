//! Where a socket may be.

use std::{fs, io, os::unix::net::UnixStream};

use kakehi_server::{BindErrorKind as Kind, Socket};

use super::{
    Home, assert_refused, chmod, give, io_kind, is_root, mode,
    other::{Server, another_process},
    skip,
};

#[tokio::test]
async fn a_path_that_names_no_file_is_refused() {
    for (path, why) in [
        ("", "the path is empty"),
        ("/", "names a directory"),
        ("..", "names a directory"),
        ("daemon.sock/", "names a directory"),
        ("daemon/.", "names a directory"),
        ("\0abstract", "NUL"),
        ("/tmp/a\0b", "NUL"),
    ] {
        let error = Socket::bind(path).listen().unwrap_err();
        assert_refused(&error, Kind::InvalidPath, why, "name a file");
        assert!(!error.to_string().contains('\0'));
    }
}

#[tokio::test]
async fn a_path_over_107_bytes_is_refused_before_anything_is_created() {
    let home = Home::new();
    let room = 107 - home.path("x").as_os_str().len();
    let longest = home.path(&"x".repeat(room + 1));
    assert_eq!(longest.as_os_str().len(), 107);
    let socket = Socket::bind(&longest).listen().unwrap();
    UnixStream::connect(&longest).unwrap();
    drop(socket);

    let before = home.names();
    let long = home.path(&"x".repeat(room + 2));
    let error = Socket::bind(&long).create_parent().listen().unwrap_err();
    assert_refused(&error, Kind::PathTooLong, "108 bytes", "choose a shorter path");
    let long = home.path(&"d".repeat(107)).join("x");
    let error = Socket::bind(&long).create_parent().listen().unwrap_err();
    assert_eq!(error.kind(), Kind::PathTooLong);
    assert_eq!(home.names(), before);
}

#[test]
fn a_relative_path_is_where_the_server_was_even_if_it_goes_elsewhere() {
    let home = Home::new();
    let mut command = another_process("daemon.sock".as_ref(), &[("GO_TO", "/")]);
    command.current_dir(home.dir());
    let mut server = Server::spawn(command);
    assert_eq!(server.line(), "bound");
    UnixStream::connect(home.path("daemon.sock")).unwrap();
    server.stop();
    assert_eq!(home.names(), ["daemon.sock.lock"]);
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named_and_created_only_if_asked_for() {
    let home = Home::new();
    let path = home.path("kakehi/kakehi.sock");
    let error = Socket::bind(&path).listen().unwrap_err();
    let remedy = format!("mkdir -p -m 700 {}", home.path("kakehi").display());
    assert_refused(&error, Kind::MissingParent, "kakehi does not exist", &remedy);

    let deeper = home.path("missing/kakehi/kakehi.sock");
    let error = Socket::bind(&deeper).create_parent().listen().unwrap_err();
    let remedy = format!("mkdir -p -m 700 {}", home.path("missing").display());
    assert_refused(&error, Kind::MissingParent, "missing does not exist", &remedy);
    assert!(home.names().is_empty());

    for _ in 0..2 {
        Socket::bind(&path).create_parent().listen().unwrap();
        assert_eq!(mode(&home.path("kakehi")), 0o700);
    }
}

#[test]
fn a_directory_created_under_umask_zero_is_private() {
    let home = Home::new();
    let path = home.path("kakehi/kakehi.sock");
    let mut server = Server::start(&path, &[("UMASK", "0"), ("CREATE_PARENT", "1")]);
    assert_eq!(server.line(), "bound");
    assert_eq!(mode(&home.path("kakehi")), 0o700);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_directory_is_refused() {
    let home = Home::new();
    fs::write(home.path("file"), "").unwrap();
    for create in [false, true] {
        let builder = Socket::bind(home.path("file/daemon.sock"));
        let builder = if create { builder.create_parent() } else { builder };
        let error = builder.listen().unwrap_err();
        assert_refused(&error, Kind::MissingParent, "file is not a directory", "in a directory");
    }
    let error = Socket::bind(home.path("file/in/daemon.sock")).create_parent().listen();
    let error = error.unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::NotADirectory));
    assert!(error.to_string().contains("file/in cannot be created"), "{error}");
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_refused_unless_sticky() {
    let home = Home::new();
    let path = home.path("open/daemon.sock");
    fs::create_dir(home.path("open")).unwrap();
    for bits in [0o777, 0o770, 0o707, 0o720, 0o702] {
        chmod(&home.path("open"), bits);
        let error = Socket::bind(&path).listen().unwrap_err();
        let why = format!("others can write to the directory {}", home.path("open").display());
        let remedy = format!("chmod go-w {}", home.path("open").display());
        assert_refused(&error, Kind::InsecureParent, &why, &remedy);
        assert!(error.to_string().contains(&format!("(mode {bits:04o})")));
        assert_eq!(fs::read_dir(home.path("open")).unwrap().count(), 0);
    }
    for bits in [0o1777, 0o755, 0o700] {
        chmod(&home.path("open"), bits);
        Socket::bind(&path).listen().unwrap();
    }
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        return skip("only root can give a directory to another user");
    }
    let home = Home::new();
    fs::create_dir(home.path("theirs")).unwrap();
    give(&home.path("theirs"));
    let error = Socket::bind(home.path("theirs/daemon.sock")).listen().unwrap_err();
    assert_refused(&error, Kind::InsecureParent, "belongs to uid 65534", "choose a directory of");
}
