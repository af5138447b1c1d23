//! systemd: notifications, socket activation, and the units.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use kakehi_tests::programs::{PATIENCE, binary, has_tool, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::support::Client;

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");

#[test]
fn the_service_manager_hears_ready_watchdog_reloading_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut text = [0; 500];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..length].into()).unwrap()
    };
    let hear_next = || loop {
        let heard = hear();
        if heard != "WATCHDOG=1\n" {
            return heard;
        }
    };
    let mut server = Command::new(binary("kakehid"))
        .arg("--socket")
        .arg(folder.path().join("socket"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&server);
    assert_eq!(hear_next(), "READY=1\n");
    assert!(folder.path().join("socket").exists(), "it listens before it is ready");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1\n");
    }
    kill_process(pid, Signal::HUP).unwrap();
    assert!(hear_next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear_next(), "READY=1\n");
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(hear_next(), "STOPPING=1\n");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_stays() {
    if !has_tool("systemd-socket-activate") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut server = Command::new("systemd-socket-activate")
        .arg("-l")
        .arg(&path)
        .arg(binary("kakehid"))
        .arg("--demo")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_for(|| path.exists().then_some(())).is_some());
    let mut client = Client::connect(&path);
    client.send("ID-1", serde_json::json!({ "echo": { "text": "handed over" } }));
    assert_eq!(client.last()["message"], "handed over");
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(path.exists());
}

#[test]
fn the_units_are_what_systemd_takes() {
    if !has_tool("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let units = ["kakehid.service", "kakehid.socket", "kakehi-run@.service", "kakehi-run@.timer"];
    for unit in units {
        let text = fs::read_to_string(Path::new(PACKAGING).join(unit)).unwrap();
        let text = text.replace("/usr/bin/kakehid", binary("kakehid").to_str().unwrap());
        let text = text.replace("/usr/bin/kakehi ", &format!("{} ", binary("kakehi").display()));
        // The user of the package is not on this machine.
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "./kakehid.service", "./kakehid.socket", "./kakehi-run@disk.timer"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "./kakehid.service"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn systemd_creates_the_users_and_groups_of_the_package() {
    if !has_tool("systemd-sysusers") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let output = Command::new("systemd-sysusers")
        .arg("--dry-run")
        .arg(format!("--root={}", root.path().display()))
        .arg(Path::new(PACKAGING).join("sysusers.conf"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for wanted in ["kakehid", "group 'kakehi'"] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn the_packaged_jobs_are_right() {
    if !has_tool("tar") || !has_tool("df") {
        return;
    }
    // The group `kakehi` is not on this machine.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(Path::new(PACKAGING).join("jobs.d")).unwrap() {
        let path = entry.unwrap().path();
        let jobs = fs::read_to_string(&path).unwrap();
        let known = jobs.replace(r#"groups = ["kakehi"]"#, r#"groups = ["daemon"]"#);
        fs::write(folder.path().join(path.file_name().unwrap()), known).unwrap();
    }
    let output = Command::new(binary("kakehid"))
        .args(["--check", "--jobs"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(output.stdout, b"ok, 2 jobs\n");
}

#[test]
fn the_manual_page_of_the_daemon_renders_and_has_each_option() {
    let output = Command::new(binary("kakehid")).arg("--man").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let page = String::from_utf8(output.stdout).unwrap();
    let help = Command::new(binary("kakehid")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let options: Vec<_> = options.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(options.len() > 15, "{options:?}");
    for option in options {
        assert!(
            page.contains(&format!("\\-\\-{}", option.replace('-', "\\-"))),
            "{option}: {page}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kakehid.8");
    fs::write(&path, &page).unwrap();
    if has_tool("mandoc") {
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output();
        let lint = lint.unwrap();
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    }
}
