//! A request that goes to another machine, and its answers.

use std::{
    io::Write,
    os::unix::{fs::symlink, net::UnixStream, process::CommandExt},
    process::Stdio,
};

use super::*;

#[test]
fn progress_comes_while_the_job_runs_and_the_answer_is_the_result() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let countdown = r#"{"command":{"countdown":{"steps":3,"interval_ms":300}}}"#;
    let mut client = sshd
        .client(&server.socket())
        .args(["--json", "send", countdown])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let seen: Vec<(Value, Instant)> =
        lines.map(|line| (serde_json::from_str(&line.unwrap()).unwrap(), Instant::now())).collect();
    assert_eq!(client.wait().unwrap().code(), Some(0));
    let statuses: Vec<_> = seen.iter().map(|(line, _)| line["status"].clone()).collect();
    assert_eq!(statuses, ["PROCESSING", "PROCESSING", "PROCESSING", "OK"]);
    let (first, last) = (seen[0].1, seen[3].1);
    assert!(last - first > Duration::from_millis(600), "it came all at once");
}

#[test]
fn a_job_there_is_as_one_here() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let output = sshd.client(&server.socket()).args(["run", "fails"]).output().unwrap();
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    assert_eq!(stdout(&output), "out\n");
    assert!(stderr(&output).contains("err\n"), "{}", stderr(&output));
}

#[test]
fn ctrl_c_cancels_the_job_there_and_shows_how_it_ended() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let (mut client, job) = staying(&sshd, &server, true);
    let ssh = ssh_of(&client);
    // As a terminal does: ssh gets it too.
    kill_process_group(pid_of(&client), Signal::INT).unwrap();
    wait_for_end(job);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "ERROR");
    assert!(last["message"].as_str().unwrap().contains("cancelled"), "it is the server's: {said}");
    wait_for_end(ssh);
}

#[test]
fn a_client_that_is_killed_takes_the_job_there_with_it() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let (mut client, job) = staying(&sshd, &server, false);
    let ssh = ssh_of(&client);
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for_end(job);
    wait_for_end(ssh);
}

#[test]
fn an_ssh_that_is_killed_is_told_and_takes_the_job_there_with_it() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let (client, job) = staying(&sshd, &server, false);
    kill_process(Pid::from_raw(ssh_of(&client)).unwrap(), Signal::KILL).unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(code(&output), Some(76));
    let told = stderr(&output);
    assert!(
        told.contains("lost the connection") && told.contains("ssh was ended by signal 9"),
        "{told}"
    );
    wait_for_end(job);
}

/// Runs the job that stays; gives its process id too.
fn staying(sshd: &Sshd, server: &Server, as_json: bool) -> (Child, i32) {
    let mut command = sshd.client(&server.socket());
    let mut client = command
        .args(if as_json { &["--json", "run", "stays"][..] } else { &["run", "stays"] })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(client.stdout.take().unwrap());
    let mut pid = None;
    while pid.is_none() {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it ended");
        let said = serde_json::from_str::<Value>(&line).ok().filter(Value::is_object);
        let text = said.map_or(line, |said| said["message"].as_str().unwrap().to_owned());
        pid = text.trim().parse().ok();
    }
    assert!(reader.buffer().is_empty());
    client.stdout = Some(reader.into_inner());
    (client, pid.unwrap())
}

#[test]
fn a_refusal_of_the_connection_is_the_answer() {
    let Some(sshd) = Sshd::start() else { return };
    let server = Server::start(&["--connections", "1", "--control-connections", "0"]);
    let _only = wait_for(|| connection(&server)).expect("it is taken once others have gone");
    let output = sshd.client(&server.socket()).arg("status").output().unwrap();
    assert_eq!(code(&output), Some(75), "{}", stderr(&output));
}

/// One that the server has taken.
fn connection(server: &Server) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"{\"id\":\"a\",\"version\":0,\"command\":\"status\"}\0").ok()?;
    let mut answer = vec![];
    BufReader::new(&stream).read_until(0, &mut answer).ok()?;
    String::from_utf8(answer).unwrap().contains("\"OK\"").then_some(stream)
}

#[test]
fn any_path_is_one_word_for_the_shell_there() {
    let (Some(sshd), server) = (Sshd::start(), server()) else { return };
    let socket = sshd.path(r#"it's a "$(touch hacked)" \ !x & 筧;.sock"#);
    symlink(server.socket(), &socket).unwrap();
    let output = sshd.client(&socket).args(["run", "fails"]).output().unwrap();
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
}

#[test]
fn what_login_scripts_write_is_left_out() {
    let noise = "ForceCommand echo welcome; echo welcome >&2; eval \"$SSH_ORIGINAL_COMMAND\"";
    let (Some(sshd), server) = (Sshd::start_with(noise), server()) else { return };
    let output = sshd.client(&server.socket()).args(["run", "fails"]).output().unwrap();
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    assert_eq!(stdout(&output), "out\n");
    assert!(!stderr(&output).contains("welcome"));
}
