//! `kakehi doctor`, as a person or a script runs it.

use std::{
    os::unix::net::UnixListener,
    process::{Command, Output, Stdio},
};

use kakehi_tests::programs::{Server, binary, has_tool};
use serde_json::Value;

use super::*;

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("kakehi"));
    command.args(arguments).env_remove("KAKEHI_SOCKET").stdin(Stdio::null());
    command
}

fn doctor_of(path: &Path) -> Output {
    client(&["--socket"]).arg(path).arg("doctor").output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn a_healthy_server_is_a_list_of_what_is_well_and_code_zero() {
    let server = Server::start(&[]);
    let output = doctor_of(&server.socket());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{text}");
    assert!(output.stderr.is_empty());
    assert!(
        text.lines().count() > 6 && text.lines().all(|line| line.starts_with("ok    ")),
        "{text}"
    );
}

#[test]
fn json_is_one_object_on_one_line() {
    let server = Server::start(&[]);
    let home = Home::new();
    for (path, healthy) in [(server.socket(), true), (home.path("a\n\u{9b}.sock"), false)] {
        let output = client(&["--json", "--socket"]).arg(&path).arg("doctor").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n') && !text.trim_end().contains(char::is_control));
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["healthy"], healthy);
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(findings.iter().all(|finding| finding["ok"] == true), healthy);
        if !healthy {
            let last = findings.last().unwrap();
            assert_eq!(
                (&last["check"], &last["problem"]),
                (&"socket".into(), &"not_running".into())
            );
            assert!(
                last["what"].is_string() && last["why"].is_string() && last["remedy"].is_string()
            );
        }
    }
}

#[test]
fn the_code_is_that_of_the_first_problem() {
    let home = Home::new();
    let silent = home.path("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    drop(UnixListener::bind(home.path("stale.sock")).unwrap());
    fs::write(home.path("file"), "").unwrap();
    for (path, expected, said) in [
        (home.path("missing.sock"), 69, "FAIL  there is no socket at "),
        (home.path("stale.sock"), 69, "FAIL  no server listens on "),
        (home.path("file"), 69, "FAIL  "),
        (silent, 124, "FAIL  the server does not answer within 1.0 s"),
        (home.path(&"x".repeat(108)), 2, "FAIL  the path has "),
    ] {
        let output = doctor_of(&path);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(code(&output), expected, "{text}");
        assert!(text.lines().last().unwrap().starts_with(said), "{text}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn another_user_is_told_which_permission_is_missing() {
    if !geteuid().is_root() {
        return skip("only root can be another user");
    }
    if !has_tool("setpriv") {
        return;
    }
    let home = Home::new();
    // Where the client was built may be out of reach. Copied by another process, so that no fork
    // of this one holds it open for writing when it is run.
    let copied = Command::new("cp").arg(binary("kakehi")).arg(home.path("kakehi")).status();
    assert!(copied.unwrap().success());
    fs::create_dir(home.path("private")).unwrap();
    let doctor = |path: &Path| {
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let mut command = Command::new("setpriv");
        command.args(nobody).arg(home.path("kakehi")).arg("--socket").arg(path).arg("doctor");
        command.output().unwrap()
    };
    chmod(&home.path("private"), 0o700);
    let output = doctor(&home.path("private/app.sock"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 77, "{text}");
    assert!(text.contains("FAIL  no search permission on "), "{text}");

    let _listener = UnixListener::bind(home.path("app.sock")).unwrap();
    chmod(&home.path("app.sock"), 0o600);
    let output = doctor(&home.path("app.sock"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 77, "{text}");
    assert!(text.contains("FAIL  no write permission on "), "{text}");

    let server = Server::start(&["--mode", "666"]);
    chmod(server.folder(), 0o755);
    let output = doctor(&server.socket());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 77, "{text}");
    assert!(text.contains("FAIL  the server does not serve nobody (uid 65534)"), "{text}");
}
