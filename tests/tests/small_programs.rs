//! The small `server` and `client` programs of the README.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use kakehi_tests::programs::{binary, skip};

/// A program whose default socket is in `folder`.
fn program(name: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary(name));
    command.args(arguments).env_remove("KAKEHI_SOCKET").env("XDG_RUNTIME_DIR", folder);
    command.stdin(Stdio::null());
    command
}

fn client(folder: &Path, arguments: &[&str]) -> Output {
    program("client", folder, arguments).output().unwrap()
}

fn journey() -> String {
    "processing: Not done yet\n".repeat(10) + "success: Done\n"
}

/// A `server` process that is killed when dropped.
struct Server(Child);

impl Server {
    /// Starts a server and waits until it listens.
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = program("server", folder, arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_client_without_a_server_starts_one_inside_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = client(folder.path(), &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), journey());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("no server listens on "), "{stderr}");
    assert!(stderr.trim_end().ends_with("starting one in this process"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
}

#[test]
fn a_client_without_a_default_socket_starts_a_server_inside_itself() {
    // Root has a default socket without the variable.
    if rustix::process::geteuid().is_root() {
        return skip("only an ordinary user has no default socket");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = program("client", folder.path(), &[]);
    let output = command.env_remove("XDG_RUNTIME_DIR").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), journey());
}

#[test]
fn a_client_talks_to_the_server_on_the_default_path() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), &[]);
    let output = client(folder.path(), &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), journey());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn both_programs_take_the_path_of_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let socket = ["--socket", path.to_str().unwrap()];
    let output = client(folder.path(), &socket);
    assert_eq!(output.status.code(), Some(1), "no server listens: {output:?}");
    let _server = Server::start(folder.path(), &socket);
    let output = client(folder.path(), &[&socket[..], &["--timeout", "5"]].concat());
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_timeout_ends_the_client_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let output = client(folder.path(), &["--socket", path.to_str().unwrap(), "--timeout", "0.2"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: "), "{stderr}");
}

#[test]
fn wrong_usage_is_an_error_with_the_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--socket"][..], &["--timeout", "soon"], &["countdown"]] {
        for name in ["client", "server"] {
            let output = program(name, folder.path(), arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} {arguments:?}: {output:?}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.starts_with(&format!("error: usage: {name} ")), "{stderr}");
        }
    }
}
