//! The service manager: what it is told, what it hands over, and the units for it.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use kakehi_tests::programs::{PATIENCE, binary, has_tool, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::support::Client;

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist");

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
    let mut server = Command::new(binary("server"))
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
        .arg(binary("server"))
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
    let service = fs::read_to_string(Path::new(DIST).join("kakehi.service")).unwrap();
    let server = binary("server");
    let installed = service.replace("/usr/local/bin/server", server.to_str().unwrap());
    assert_ne!(installed, service);
    fs::write(folder.path().join("kakehi.service"), installed).unwrap();
    fs::copy(Path::new(DIST).join("kakehi.socket"), folder.path().join("kakehi.socket")).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "./kakehi.service", "./kakehi.socket"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "./kakehi.service"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_example_of_a_jobs_file_is_one() {
    let output = Command::new(binary("server"))
        .args(["--check", "--jobs"])
        .arg(Path::new(DIST).join("jobs.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(output.stdout, b"ok, 2 jobs\n");
}
