//! What stands between here and there: one clear error in three parts for each.

use std::{net::TcpListener, os::unix::process::CommandExt, process::Stdio};

use super::*;

/// One error of three lines, and nothing else.
#[track_caller]
fn assert_one_error(output: &Output, expected: i32, parts: [&str; 3]) {
    let said = stderr(output);
    assert_eq!(code(output), Some(expected), "{said}");
    assert_eq!(stdout(output), "");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, part) in lines.iter().zip(parts) {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    assert!(!said.trim_end_matches('\n').replace('\n', "").contains(char::is_control));
}

#[test]
fn a_wrong_key_is_one_clear_error() {
    let Some(sshd) = Sshd::start() else { return };
    let mut client = sshd.client(Path::new("/nowhere"));
    let client = client.env("SSH_CONFIG", sshd.path("ssh_config.wrong"));
    let output = client.arg("status").output().unwrap();
    let there = format!("cannot log in to {}@127.0.0.1", sshd.user);
    let by_hand = format!("ssh -p {} {}@127.0.0.1 true", sshd.port, sshd.user);
    assert_one_error(&output, 77, [&there, "why: Permission denied (publickey)", &by_hand]);

    let output = client.arg("--json").output().unwrap();
    let line: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&line["error"], &line["outcome"]), (&"permission".into(), &"not_sent".into()));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_machine_without_the_client_is_one_clear_error() {
    let Some(sshd) = Sshd::start() else { return };
    let mut client = sshd.client(Path::new("/nowhere"));
    let output = client.env("KAKEHI_REMOTE_CLIENT", "no-such-client").arg("status").output();
    let parts = ["cannot find", "no-such-client", "KAKEHI_REMOTE_CLIENT="];
    assert_one_error(&output.unwrap(), 69, parts);

    let mut client = sshd.client(Path::new("/nowhere"));
    let output = client.env("KAKEHI_REMOTE_CLIENT", sshd.path("host.pub")).arg("status").output();
    assert_one_error(&output.unwrap(), 69, ["cannot run", "denied", "install kakehi"]);

    let mut client = sshd.client(Path::new("/nowhere"));
    let output = client.env("KAKEHI_REMOTE_CLIENT", "true").arg("status").output().unwrap();
    assert_one_error(&output, 76, ["is not kakehi", "login script", "true doctor"]);
}

#[test]
fn a_machine_without_the_server_is_told_by_the_doctor_there() {
    let Some(sshd) = Sshd::start() else { return };
    let socket = sshd.path("app.sock");
    let output = sshd.client(&socket).arg("status").output().unwrap();
    let what = format!("on {}@127.0.0.1, there is no socket at {}", sshd.user, socket.display());
    assert_one_error(&output, 69, [&what, "why: no server listens there", "start the server"]);

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let output = sshd.client(&socket).arg("status").output().unwrap();
    assert_one_error(
        &output,
        69,
        ["no server listens on", "remains from a server", "start the server"],
    );

    let long = sshd.path(&"x".repeat(108));
    let output = sshd.client(&long).arg("status").output().unwrap();
    assert_one_error(&output, 2, ["the path has", "no room", "choose a shorter path"]);
}

#[test]
fn a_machine_that_does_not_answer_is_not_waited_for_longer_than_asked() {
    let Some(sshd) = Sshd::start() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ssh://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let start = Instant::now();
    let client = sshd
        .client_of(&url)
        .args(["--timeout", "500ms", "status"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ssh = ssh_of(&client);
    let output = client.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let parts = ["cannot connect to 127.0.0.1 in time", "within 500ms", "--timeout"];
    assert_one_error(&output, 124, parts);
    wait_for_end(ssh);

    drop(silent);
    let output = sshd.client_of(&url).arg("status").output().unwrap();
    assert_one_error(&output, 69, ["cannot connect to 127.0.0.1", "refused", "check the login"]);
}

#[test]
fn ctrl_c_before_there_is_a_connection_ends_ssh_too() {
    let Some(sshd) = Sshd::start() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ssh://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let mut client = sshd.client_of(&url);
    let client = client.arg("status").stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = client.process_group(0).spawn().unwrap();
    let ssh = ssh_of(&client);
    kill_process_group(pid_of(&client), Signal::INT).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_one_error(
        &output,
        130,
        ["interrupted before the request was sent", "not connected", "try"],
    );
    wait_for_end(ssh);
}

#[test]
fn a_machine_without_ssh_and_a_url_that_is_none_are_told() {
    let mut client = Command::new(binary("kakehi"));
    let output =
        client.args(["--host", "ssh://127.0.0.1", "list"]).env("PATH", "/nowhere").output();
    assert_one_error(&output.unwrap(), 69, ["cannot find ssh", "no folder of PATH", "install"]);

    let mut client = Command::new(binary("kakehi"));
    let output = client.args(["--host", "ssh://-oProxyCommand=id", "list"]).output().unwrap();
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("the host is not valid"), "{}", stderr(&output));
}
