//! Sockets that exist already.

use std::{
    env,
    io::Read,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kakehi_server::Socket;

use super::{
    Home, PATIENCE,
    other::{ARGS, ROLE, Server, is_private_and_non_blocking},
    skip_tool,
};

#[tokio::test]
async fn a_socket_from_std_does_not_block_and_stays() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let socket = Socket::from_std(UnixListener::bind(&path).unwrap()).unwrap();
    assert_eq!(socket.path(), Some(path.as_path()));
    assert!(is_private_and_non_blocking(&socket));
    UnixStream::connect(&path).unwrap();
    socket.accept().await.unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn a_socket_from_systemd_is_taken_once_and_stays() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let Some(line) = activated(&path, "listener", "self", "1") else { return };
    assert_eq!(line, format!("private socket at {}, then none", path.display()));
    assert!(path.exists());
}

#[test]
fn without_activation_there_is_no_socket_from_systemd() {
    for (pid, count) in [("1", "1"), ("self", "0"), ("self", "unset"), ("unset", "1")] {
        let home = Home::new();
        let path = home.path("daemon.sock");
        let Some(line) = activated(&path, "listener", pid, count) else { return };
        assert_eq!(line, "none", "LISTEN_PID {pid}, LISTEN_FDS {count}");
    }
}

#[test]
fn what_is_not_one_listening_unix_stream_is_refused_from_systemd() {
    for (kind, pid, count, why) in [
        ("listener", "self", "2", "systemd passed 2 sockets, not 1"),
        ("listener", "self", "many", "LISTEN_FDS=\"many\" is not a number"),
        ("listener", "me", "1", "LISTEN_PID=\"me\" is not a number"),
        ("datagram", "self", "1", "fd 3 is not a valid unix stream socket"),
        ("tcp", "self", "1", "fd 3 is not a valid unix stream socket"),
        ("file", "self", "1", "fd 3 is not a socket"),
        ("closed", "self", "1", "fd 3 is not a socket"),
        ("connected", "self", "1", "the socket does not listen"),
    ] {
        let home = Home::new();
        let Some(line) = activated(&home.path("daemon.sock"), kind, pid, count) else { return };
        let start = "refused Activation: cannot listen on the socket from systemd: ";
        assert_eq!(
            line,
            format!(
                "{start}{why}; in the .socket unit, give one ListenStream=/PATH, and Accept=no"
            )
        );
    }
}

#[test]
fn the_tool_of_systemd_hands_over_a_socket_that_works() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let mut tool = Command::new("systemd-socket-activate");
    tool.arg("-l").arg(&path).args(["-E", &format!("{ROLE}=activated")]);
    tool.arg(env::current_exe().unwrap()).args(ARGS);
    tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = tool.spawn() else { return skip_tool("systemd-socket-activate") };
    let _server = Server::new(child);

    let since = Instant::now();
    let mut client = loop {
        match UnixStream::connect(&path) {
            Ok(client) => break client,
            Err(error) if since.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, format!("welcome to {}", path.display()));
    assert!(path.exists());
}

/// The output of a process that is activated as systemd does. `None` without Python.
fn activated(path: &Path, kind: &str, pid: &str, count: &str) -> Option<String> {
    const SYSTEMD: &str = r#"
import os, socket, sys
kind, path, pid, count = sys.argv[1:5]
if kind == "listener":
    given = socket.socket(socket.AF_UNIX)
    given.bind(path)
    given.listen()
elif kind == "datagram":
    given = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    given.bind(path)
elif kind == "tcp":
    given = socket.create_server(("127.0.0.1", 0))
elif kind == "connected":
    given, other = socket.socketpair()
else:
    given = open("/dev/null")
os.dup2(given.fileno(), 3)
os.set_inheritable(3, True)
if kind == "closed":
    os.close(3)
for name, value in ("LISTEN_PID", pid), ("LISTEN_FDS", count):
    if value != "unset":
        os.environ[name] = str(os.getpid()) if value == "self" else value
os.execv(sys.argv[5], sys.argv[5:])
"#;
    let mut command = Command::new("python3");
    command.args(["-c", SYSTEMD, kind]).arg(path).args([pid, count]);
    command.arg(env::current_exe().unwrap()).args(ARGS);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).env(ROLE, "systemd");
    let Ok(child) = command.spawn() else {
        skip_tool("python3");
        return None;
    };
    Some(Server::new(child).line())
}
