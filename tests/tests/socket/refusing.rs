//! Errors of system calls.

use std::{
    env,
    error::Error,
    os::unix::{fs::symlink, process::CommandExt},
    process::Command,
};

use kakehi_server::{BindErrorKind as Kind, Socket};
use rustix::process::geteuid;

use super::{
    Home, NOBODY, assert_refused, chmod, io_kind, is_root,
    other::{ARGS, Server, another_process, as_server},
    skip,
};

#[test]
fn a_file_system_that_cannot_be_written_to_is_named() {
    let home = Home::new();
    let Some(line) = on_tmpfs(&home, "ro") else { return };
    assert!(line.starts_with("refused Io: cannot listen on "), "{line}");
    assert!(line.contains("Read-only file system"), "{line}");
    assert!(line.ends_with("; choose a path on a file system that can be written to"), "{line}");
}

#[test]
fn a_full_file_system_is_named() {
    let home = Home::new();
    // One inode for its root; then one more, for the lock file.
    for (inodes, why) in
        [(1, "daemon.sock.lock cannot be opened"), (2, "the socket cannot be bound")]
    {
        let Some(line) = on_tmpfs(&home, &format!("nr_inodes={inodes}")) else { return };
        assert!(line.contains(&format!("{why}: No space left on device")), "{line}");
        assert!(line.contains("; free space and inodes on that file system, or "), "{line}");
    }
}

#[test]
fn a_directory_that_forbids_it_is_named() {
    let home = Home::new();
    chmod(home.dir(), 0o755);
    let mut command = another_process(&home.path("daemon.sock"), &[]);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    } else {
        chmod(home.dir(), 0o500);
    }
    let mut server = match command.spawn() {
        Ok(child) => Server::new(child),
        Err(error) => return skip(&format!("the user `nobody` cannot run this test: {error}")),
    };
    let line = server.line();
    chmod(home.dir(), 0o700);
    assert!(line.contains("daemon.sock.lock cannot be opened: Permission denied"), "{line}");
    let uid = if is_root() { NOBODY } else { geteuid().as_raw() };
    assert!(
        line.ends_with(&format!("; give uid {uid} the permission, or choose another path")),
        "{line}"
    );
}

#[test]
fn without_descriptors_to_spare_it_says_so_and_leaves_no_socket() {
    let mut refusals = vec![];
    for spare in 0..16 {
        let home = Home::new();
        let path = home.path("daemon.sock");
        let mut server = Server::start(&path, &[("SPARE", &spare.to_string())]);
        let line = server.line();
        if line == "bound" {
            break;
        }
        assert!(line.ends_with("; raise the limit of open files (ulimit -n)"), "{line}");
        assert!(!path.exists());
        refusals.push(line);
    }
    for what in
        ["the directory ", "its lock file ", "a socket cannot be created", "the new socket "]
    {
        assert!(refusals.iter().any(|line| line.contains(what)), "no {what:?} in {refusals:#?}");
    }
}

#[tokio::test]
async fn an_error_of_the_system_is_the_source() {
    let home = Home::new();
    let looped = home.path("loop");
    symlink(&looped, &looped).unwrap();
    let error = Socket::bind(looped.join("daemon.sock")).listen().unwrap_err();
    let opened = format!("the directory {} cannot be opened", looped.display());
    assert_refused(&error, Kind::Io, &opened, "choose another path");
    assert!(error.source().is_some() && io_kind(&error).is_some());
    assert!(format!("{error:?}").contains("Io"));
}

/// The output of a server on its own file system. `None` where it cannot be mounted.
fn on_tmpfs(home: &Home, options: &str) -> Option<String> {
    const SCRIPT: &str = r#"mount -t tmpfs -o "$1,mode=700" tmpfs "$2" && shift 2 && exec "$@""#;
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-r", "-m", "sh", "-c", SCRIPT, "sh", options]).arg(home.dir());
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        skip("no file system of its own, by unshare");
        return None;
    }
    let mut command = unshare();
    command.arg(env::current_exe().unwrap()).args(ARGS);
    as_server(&mut command, &home.path("daemon.sock"), &[]);
    Some(Server::spawn(command).line())
}
