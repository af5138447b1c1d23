//! The far end alone: standard input and output joined to the server's socket.

use std::{
    io::Write,
    os::unix::net::UnixListener,
    process::{ChildStdout, Stdio},
};

use super::*;

fn dial(socket: &Path) -> Child {
    let mut command = Command::new(binary("kakehi"));
    command.arg("--socket").arg(socket).arg("dial-stdio").env_remove("KAKEHI_SOCKET");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The next frame, without its NUL.
fn frame(stdout: &mut BufReader<ChildStdout>) -> Value {
    let mut frame = vec![];
    stdout.read_until(0, &mut frame).unwrap();
    serde_json::from_slice(&frame[..frame.len() - 1]).unwrap()
}

fn wait_for_log(server: &Server, words: &str) {
    let seen = wait_for(|| server.log().contains(words).then_some(()));
    assert!(seen.is_some(), "not in the log: {words}\n{}", server.log());
}

#[test]
fn frames_pass_both_ways_at_once_and_nothing_is_added() {
    let server = Server::start(&[]);
    let mut dialed = dial(&server.socket());
    let mut stdin = dialed.stdin.take().unwrap();
    let mut stdout = BufReader::new(dialed.stdout.take().unwrap());
    for number in 0..3 {
        let text = "x".repeat(100_000 * number);
        write!(
            stdin,
            r#"{{"id":"{number}","version":0,"command":{{"echo":{{"text":"{text}"}}}}}}"#
        )
        .unwrap();
        stdin.write_all(b"\0").unwrap();
        let response = frame(&mut stdout);
        assert_eq!(
            (&response["id"], &response["message"]),
            (&number.to_string().into(), &text.into())
        );
    }
    drop(stdin);
    let mut rest = vec![];
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(dialed.wait().unwrap().code(), Some(0));
}

#[test]
fn the_end_of_stdin_is_the_end_of_the_client_and_cancels_its_request() {
    let server = Server::start(&[]);
    let mut dialed = dial(&server.socket());
    let mut stdin = dialed.stdin.take().unwrap();
    let mut stdout = BufReader::new(dialed.stdout.take().unwrap());
    stdin.write_all(b"{\"id\":\"a\",\"version\":0}\0").unwrap();
    assert_eq!(frame(&mut stdout)["status"], "PROCESSING");
    drop(stdin);
    assert_eq!(dialed.wait().unwrap().code(), Some(0));
    wait_for_log(&server, "end=Cancelled");
}

#[test]
fn the_end_of_the_server_is_the_end_of_it() {
    let mut server = Server::start(&[]);
    let mut dialed = dial(&server.socket());
    let mut stdin = dialed.stdin.take().unwrap();
    let mut stdout = BufReader::new(dialed.stdout.take().unwrap());
    stdin.write_all(b"{\"id\":\"a\",\"version\":0}\0").unwrap();
    assert_eq!(frame(&mut stdout)["status"], "PROCESSING");
    server.signal(Signal::KILL);
    server.wait();
    assert_eq!(dialed.wait().unwrap().code(), Some(0), "stdin is open still");
}

#[test]
fn a_reader_that_is_gone_is_the_end_of_it() {
    let server = Server::start(&[]);
    let mut dialed = dial(&server.socket());
    let mut stdin = dialed.stdin.take().unwrap();
    drop(dialed.stdout.take());
    stdin.write_all(b"{\"id\":\"a\",\"version\":0}\0").unwrap();
    assert_eq!(dialed.wait().unwrap().code(), Some(0), "stdin is open still");
    wait_for_log(&server, "end=Cancelled");
}

#[test]
fn no_server_is_told_to_a_person_and_to_the_client_at_the_other_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket: PathBuf = folder.path().join("app.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let output = dial(&socket).wait_with_output().unwrap();
    assert_eq!(code(&output), Some(69));
    assert!(stderr(&output).starts_with("error: no server listens on "), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 3);

    let mut command = Command::new(binary("kakehi"));
    let output = command.arg("--socket").arg(&socket).args(["dial-stdio", "--announce"]).output();
    let output = output.unwrap();
    assert_eq!((code(&output), stdout(&output)), (Some(69), ""));
    let said: Value = serde_json::from_str(stderr(&output)).unwrap();
    assert!(["what", "why", "remedy"].iter().all(|part| said[part].is_string()), "{said}");
}
