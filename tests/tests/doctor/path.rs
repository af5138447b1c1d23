//! The way to the socket.

use std::{
    fs,
    os::{
        fd::AsRawFd,
        unix::{fs::symlink, net::UnixListener},
    },
};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::*;

#[test]
fn a_socket_that_is_not_there_is_one_of_a_server_that_does_not_run() {
    let home = Home::new();
    let path = home.path("app.sock");
    let report = examine(&path);
    let what = format!("there is no socket at {}", path.display());
    let finding = problem(&report, Check::Socket, Problem::NotRunning, &what);
    assert!(remedy(finding).contains("start the server"));
    let directory = format!("{} is a directory: owner ", home.0.path().display());
    assert!(report.findings.iter().any(|finding| finding.what.starts_with(&directory)), "{report}");
}

#[test]
fn a_directory_that_is_not_there_is_named_and_can_be_created() {
    let home = Home::new();
    let report = examine(home.path("missing/kakehi/app.sock"));
    let what = format!("{} does not exist", home.path("missing").display());
    let finding = problem(&report, Check::Directory, Problem::NotRunning, &what);
    let create = format!("mkdir -p -m 700 {}", home.path("missing/kakehi").display());
    assert!(remedy(finding).ends_with(&create), "{finding}");
}

#[test]
fn what_is_no_socket_is_called_what_it_is() {
    let home = Home::new();
    fs::write(home.path("file"), "").unwrap();
    fs::create_dir(home.path("directory")).unwrap();
    mknodat(CWD, home.path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    symlink("file", home.path("link")).unwrap();
    for (name, what) in [
        ("file", "file is a regular file, not a socket"),
        ("link", "link is a regular file, not a socket"),
        ("directory", "directory is a directory, not a socket"),
        ("pipe", "pipe is a named pipe, not a socket"),
    ] {
        let report = examine(home.path(name));
        let finding = problem(&report, Check::Socket, Problem::NotASocket, what);
        assert!(!remedy(finding).contains("rm "), "it may be any file of the system: {finding}");
        let is_another = remedy(finding).contains("name another path");
        assert_eq!(is_another, name != "directory", "{finding}");
    }
    let report = examine(home.path("file/app.sock"));
    let what = "file is a regular file, not a directory";
    problem(&report, Check::Directory, Problem::NotASocket, what);
}

#[test]
fn a_symbolic_link_is_followed_and_named() {
    let home = Home::new();
    let _listener = UnixListener::bind(home.path("app.sock")).unwrap();
    fs::create_dir(home.path("real")).unwrap();
    symlink("real", home.path("directory")).unwrap();
    symlink("../app.sock", home.path("real/link")).unwrap();
    let report = examine_for(SHORT, home.path("directory/link"));
    problem(&report, Check::Answer, Problem::NoAnswer, "does not answer");
    let links: Vec<_> = report.findings.iter().filter(|f| f.check == Check::Link).collect();
    assert_eq!(
        links[0].what,
        format!("{} is a symbolic link to real", home.path("directory").display())
    );
    assert!(
        links[1].what.ends_with("directory/link is a symbolic link to ../app.sock"),
        "{report}"
    );
}

#[test]
fn a_symbolic_link_to_nothing_is_followed_to_where_it_ends() {
    let home = Home::new();
    symlink("gone.sock", home.path("link")).unwrap();
    symlink("link", home.path("first")).unwrap();
    let what = format!(
        "the symbolic link {} leads to {}, which does not exist",
        home.path("link").display(),
        home.path("gone.sock").display()
    );
    let report = examine(home.path("first"));
    problem(&report, Check::Socket, Problem::NotRunning, &what);

    symlink("/nowhere/at/all", home.path("far")).unwrap();
    let report = examine(home.path("far/app.sock"));
    let finding = problem(&report, Check::Directory, Problem::NotRunning, "leads to /nowhere,");
    assert!(!remedy(finding).contains("mkdir"), "{finding}");

    symlink("circle", home.path("circle")).unwrap();
    for path in ["circle", "circle/app.sock"] {
        let report = examine(home.path(path));
        problem(&report, Check::Link, Problem::NotASocket, "circle leads nowhere");
        assert!(report.findings.len() < 10, "it is gone round once: {report}");
    }
}

#[test]
fn a_path_that_no_socket_can_have_is_refused() {
    let long = "x".repeat(108);
    for (path, what) in [
        ("", "the path is empty"),
        ("/", "the path / names a directory"),
        (".", "the path . names a directory"),
        ("/run/", "the path /run/ names a directory"),
        ("/run/a\0b", r"the path /run/a\u{0}b contains a NUL byte"),
        (&long, "the path has 108 bytes; the maximum for a socket is 107"),
    ] {
        let report = examine(path);
        problem(&report, Check::Path, Problem::InvalidPath, what);
    }
    let report = examine(format!("/run/it's {long}"));
    let finding = problem(&report, Check::Path, Problem::InvalidPath, "the path has 118 bytes");
    assert!(!remedy(finding).contains("cd "), "its name alone is too long: {finding}");
    let report = examine(format!("/run/it's {}/app.sock", "x".repeat(100)));
    let finding = problem(&report, Check::Path, Problem::InvalidPath, "the path has 119 bytes");
    assert!(remedy(finding).contains(r"cd '/run/it'\''s xx"), "{finding}");

    let report = examine(&long[1..]);
    problem(&report, Check::Socket, Problem::NotRunning, "there is no socket at ");
}

#[test]
fn a_relative_path_is_gone_from_where_the_process_is() {
    let report = examine("../no/such/app.sock");
    let here = std::env::current_dir().unwrap();
    let directories = report.findings.iter().filter(|finding| finding.check == Check::Directory);
    let first = directories.map(|finding| &finding.what).next().unwrap();
    assert!(first.starts_with(&format!("{} is a directory", here.display())), "{report}");
    problem(&report, Check::Directory, Problem::NotRunning, "../no does not exist");
}

#[test]
fn a_link_that_is_not_what_its_text_says_is_followed_all_the_same() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let socket = open(&path, OFlags::PATH, Mode::empty()).unwrap();
    fs::remove_file(&path).unwrap();
    let report = examine_for(SHORT, format!("/proc/self/fd/{}", socket.as_raw_fd()));
    assert!(report.to_string().contains("app.sock (deleted)"), "{report}");
    problem(&report, Check::Answer, Problem::NoAnswer, "does not answer");

    let directory = open(home.0.path(), OFlags::PATH, Mode::empty()).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    let report = examine_for(SHORT, format!("/proc/self/fd/{}/app.sock", directory.as_raw_fd()));
    problem(&report, Check::Answer, Problem::NoAnswer, "does not answer");
}

#[test]
fn what_a_terminal_would_obey_is_escaped() {
    let home = Home::new();
    let report = examine(home.path("a\x1b[2J\u{202e}\n\u{9b}b/app.sock"));
    let shown = r"a\u{1b}[2J\u{202e}\n\u{9b}b";
    let finding = problem(&report, Check::Directory, Problem::NotRunning, shown);
    assert!(remedy(finding).contains(r"$'/"), "{finding}");
    assert!(report.path.contains(shown));
    let all = report.to_string() + &serde_json::to_string(&report).unwrap();
    assert!(all.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{all:?}");
}
