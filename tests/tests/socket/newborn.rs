//! The properties of a new socket.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::UnixStream,
    },
    process::Command,
    thread,
};

use kakehi_server::{BindErrorKind as Kind, Socket};
use rustix::process::{getegid, geteuid};

use super::{
    Home, NOBODY, assert_refused, io_kind, is_root, mode,
    other::{ARGS, Server, as_server},
    skip, skip_tool,
};

#[tokio::test]
async fn a_new_socket_is_for_its_owner_only_and_lets_clients_in() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let socket = Socket::bind(&path).listen().unwrap();

    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!((mode(&path), file.uid()), (0o600, geteuid().as_raw()));
    assert_eq!(mode(&home.path("daemon.sock.lock")), 0o600);
    assert_eq!(socket.path(), Some(path.as_path()));
    let shown = format!("{socket:?}");
    assert!(shown.contains("daemon.sock") && shown.contains("removed_on_drop: true"), "{shown}");

    let mut client = UnixStream::connect(&path).unwrap();
    let server = socket.accept().await.unwrap();
    client.write_all(b"hello").unwrap();
    server.readable().await.unwrap();
    let mut buffer = [0; 8];
    assert_eq!(server.try_read(&mut buffer).unwrap(), 5);
}

#[tokio::test]
async fn mode_owner_and_group_are_as_asked_for() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    for mode_wanted in [0o600, 0o660, 0o666, 0o200, 0o060, 0o000] {
        let _socket = Socket::bind(&path).mode(mode_wanted).listen().unwrap();
        assert_eq!(mode(&path), mode_wanted);
    }

    let (uid, gid) =
        if is_root() { (NOBODY, NOBODY) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let owned = || {
        let file = fs::symlink_metadata(&path).unwrap();
        (file.uid(), file.gid(), mode(&path))
    };
    let socket = Socket::bind(&path).mode(0o660).owner(uid).group(gid).listen().unwrap();
    assert_eq!(owned(), (uid, gid, 0o660));
    drop(socket);
    let socket = Socket::bind(&path).owner(uid).listen().unwrap();
    assert_eq!(owned(), (uid, getegid().as_raw(), 0o600));
    drop(socket);
    let _socket = Socket::bind(&path).group(gid).listen().unwrap();
    assert_eq!(owned(), (geteuid().as_raw(), gid, 0o600));
}

#[tokio::test]
async fn an_owner_that_may_not_be_set_is_refused_and_nothing_stays() {
    if is_root() {
        return skip("root may set any owner");
    }
    let home = Home::new();
    let path = home.path("daemon.sock");
    let error = Socket::bind(&path).owner(0).listen().unwrap_err();
    assert_refused(
        &error,
        Kind::Io,
        "the owner and group of the socket cannot be set",
        "another path",
    );
    assert_eq!(io_kind(&error), Some(io::ErrorKind::PermissionDenied));
    assert!(!path.exists());
}

#[test]
fn under_umask_zero_the_mode_is_never_looser_than_asked_for() {
    let home = Home::new();
    let Some(calls) = mode_calls(&home, &[("MODE", "666"), ("UMASK", "0"), ("GIVE", "1")]) else {
        return;
    };
    let order = [
        &["fchmod(", ", 0600)"][..],
        &["bind(", "daemon.sock"],
        &["chown", "/proc/self/fd/"],
        &["chmod", "/proc/self/fd/", "0666"],
        &["listen("],
    ];
    let mut at = 0;
    for wanted in order {
        let found =
            calls[at..].iter().position(|call| wanted.iter().all(|part| call.contains(part)));
        at += found.unwrap_or_else(|| panic!("no {wanted:?} from call {at} on in {calls:#?}")) + 1;
    }
    assert_eq!(calls.len(), order.len(), "{calls:#?}");
}

#[test]
fn the_mode_of_a_private_socket_is_set_before_it_exists_and_never_again() {
    let home = Home::new();
    let Some(calls) = mode_calls(&home, &[("UMASK", "0")]) else { return };
    assert_eq!(calls.len(), 3, "{calls:#?}");
    assert!(calls[0].contains("fchmod(") && calls[0].contains(", 0600)"), "{calls:#?}");
    assert!(calls[1].contains("bind(") && calls[2].contains("listen("), "{calls:#?}");
}

#[test]
fn the_new_socket_is_opened_itself_whatever_took_its_place() {
    let home = Home::new();
    let Some(calls) = system_calls(&home, "openat", &[("MODE", "666")]) else { return };
    let opened = calls.iter().find(|call| call.contains("\"daemon.sock\"")).unwrap();
    for flag in ["O_PATH", "O_NOFOLLOW", "O_CLOEXEC"] {
        assert!(opened.contains(flag), "{opened}");
    }
}

#[test]
fn a_umask_that_forbids_everything_does_not_keep_the_owner_out() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let mut server = Server::start(&path, &[("UMASK", "777"), ("MODE", "660")]);
    assert_eq!(server.line(), "bound");
    assert_eq!(mode(&path), 0o660);
}

#[test]
fn no_descriptor_passes_to_a_program_that_is_executed() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let mut server = Server::start(&path, &[("DESCRIPTORS", "1"), ("MODE", "660")]);
    let line = server.line();
    let (kept, open) = line.split_once(" of ").unwrap();
    assert_eq!(kept, "0 kept");
    assert!(open.parse::<u32>().unwrap() >= 4, "the socket, its lock, directory and connection");
}

#[test]
fn outside_of_a_runtime_it_panics_and_leaves_no_socket() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    thread::spawn({
        let path = path.clone();
        move || Socket::bind(path).listen()
    })
    .join()
    .unwrap_err();
    assert!(!path.exists());
}

/// The system calls of a server that concern its socket and its mode. `None` without `strace`.
fn mode_calls(home: &Home, options: &[(&str, &str)]) -> Option<Vec<String>> {
    system_calls(
        home,
        "fchmod,fchmodat,?chmod,?fchmodat2,bind,listen,?chown,?lchown,fchown,fchownat",
        options,
    )
}

fn system_calls(home: &Home, which: &str, options: &[(&str, &str)]) -> Option<Vec<String>> {
    let (trace, path) = (home.path("trace"), home.path("daemon.sock"));
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        skip_tool("strace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "signal=none", "-e", &format!("trace={which}")]);
    command.arg("-o").arg(&trace).arg(env::current_exe().unwrap()).args(ARGS);
    as_server(&mut command, &path, options);
    let mut server = Server::spawn(command);
    assert_eq!(server.line(), "bound");
    server.stop();
    let trace = fs::read_to_string(trace).unwrap();
    Some(trace.lines().filter(|line| line.contains('(')).map(Into::into).collect())
}
