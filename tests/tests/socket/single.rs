//! One server per path.

use std::{
    env,
    fs::{self, File},
    io::{Seek, Write},
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
};

use kakehi_server::{BindErrorKind as Kind, Socket};
use rustix::fs::OFlags;

use super::{Home, assert_refused, give, is_root, make_fifo, other::Server, skip};

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_is_gone() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let first = Socket::bind(&path).listen().unwrap();
    let error = Socket::bind(&path).listen().unwrap_err();
    let why =
        format!("another server holds it (pid {}, by {}.lock)", std::process::id(), path.display());
    assert_refused(&error, Kind::Locked, &why, "stop that server, or choose another path");
    assert!(error.is_in_use());
    assert_eq!(error.path(), Some(path.as_path()));

    drop(first);
    assert_eq!(fs::read_to_string(home.path("daemon.sock.lock")).unwrap(), "", "no pid is left");
    Socket::bind(&path).listen().unwrap();
}

#[tokio::test]
async fn a_holder_is_not_named_by_what_an_earlier_one_wrote() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let mut earlier = Command::new(env::current_exe().unwrap());
    let mut earlier = earlier.arg("--list").stdout(Stdio::null()).spawn().unwrap();
    let dead = earlier.id();
    earlier.wait().unwrap();

    let mut lock = File::create(home.path("daemon.sock.lock")).unwrap();
    lock.lock().unwrap();
    for text in [format!("{dead}\n"), "1".into(), "1\n2".into(), "-1\n".into(), "0".repeat(99)] {
        lock.set_len(0).unwrap();
        lock.rewind().unwrap();
        lock.write_all(text.as_bytes()).unwrap();
        let error = Socket::bind(&path).listen().unwrap_err();
        let why = format!("another server holds it (by {}.lock)", path.display());
        assert_refused(&error, Kind::Locked, &why, "stop that server, or choose another path");
        assert_eq!(fs::read_to_string(home.path("daemon.sock.lock")).unwrap(), text);
    }
}

#[tokio::test]
async fn a_server_whose_lock_file_was_removed_is_still_not_replaced() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let _first = Socket::bind(&path).listen().unwrap();
    fs::remove_file(home.path("daemon.sock.lock")).unwrap();
    assert_eq!(Socket::bind(&path).listen().unwrap_err().kind(), Kind::InUse);
}

#[tokio::test]
async fn opening_a_lock_file_waits_for_nothing_and_no_child_inherits_it() {
    let home = Home::new();
    let _server = Socket::bind(home.path("daemon.sock")).listen().unwrap();
    let lock = home.path("daemon.sock.lock");
    let mut descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
    let held = descriptors.find(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == lock)).unwrap();
    let info = Path::new("/proc/self/fdinfo").join(held.file_name());
    let info = fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    let wanted = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    assert_eq!(flags & wanted, wanted, "{flags:o}");
}

#[tokio::test]
async fn a_lock_file_that_is_not_a_plain_file_of_ours_is_refused() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    let lock = home.path("daemon.sock.lock");
    let precious = home.path("precious");
    fs::write(&precious, "precious").unwrap();
    let refused = |why: &str| {
        let error = Socket::bind(&path).listen().unwrap_err();
        let why = format!("its lock file {} {why}", lock.display());
        assert_refused(&error, Kind::InsecureLock, &why, "remove that file");
        assert!(!path.exists() && fs::symlink_metadata(&lock).is_ok());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    };

    symlink(&precious, &lock).unwrap();
    refused("is not a regular file");
    fs::remove_file(&lock).unwrap();

    symlink(home.path("nowhere"), &lock).unwrap();
    refused("is not a regular file");
    assert!(!home.path("nowhere").exists());
    fs::remove_file(&lock).unwrap();

    fs::create_dir(&lock).unwrap();
    refused("is not a regular file");
    fs::remove_dir(&lock).unwrap();

    make_fifo(&lock);
    refused("is not a regular file");
    fs::remove_file(&lock).unwrap();

    fs::hard_link(&precious, &lock).unwrap();
    refused("has other hard links");
    fs::remove_file(&lock).unwrap();

    if !is_root() {
        return skip("only root can give a lock file to another user");
    }
    fs::write(&lock, "").unwrap();
    give(&lock);
    refused("belongs to uid 65534");
}

#[test]
fn of_ten_servers_that_race_for_a_path_one_wins_and_nine_say_why() {
    let home = Home::new();
    let path = home.path("daemon.sock");
    // First over nothing, then over what a killed server left.
    for round in 0..6 {
        let mut servers: Vec<_> =
            (0..10).map(|_| Server::start(&path, &[("STARTING_GUN", "1")])).collect();
        for server in &mut servers {
            assert_eq!(server.line(), "ready");
        }
        for server in &mut servers {
            server.go();
        }
        let lines: Vec<_> = servers.iter_mut().map(Server::line).collect();
        let winners: Vec<_> = (0..10).filter(|&i| lines[i] == "bound").collect();
        assert_eq!(winners.len(), 1, "round {round}: {lines:#?}");

        let winner = &mut servers[winners[0]];
        let named = format!("(pid {}, by ", winner.child.id());
        let held = format!(
            "refused Locked: cannot listen on {}: another server holds it (",
            path.display()
        );
        for line in lines.iter().filter(|line| *line != "bound") {
            assert!(line.starts_with(&held), "{line}");
            assert!(!line.contains("pid") || line.contains(&named), "{line}");
        }
        UnixStream::connect(&path).unwrap();
        winner.child.kill().unwrap();
        winner.child.wait().unwrap();
        assert!(path.exists());
    }
}
