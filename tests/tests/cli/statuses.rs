//! Each exit status, and its message.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader, Seek, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

use kakehi_tests::programs::{Server, binary, has_tool, skip, wait_for};

use crate::support::{Fake, Jobs, Said, Then, client, client_of, said};

#[test]
fn status_0_is_ok() {
    let jobs = Jobs::start();
    for arguments in [&["status"][..], &["run", "exit", "0"], &["list", "-q"], &["--version"]] {
        let said = jobs.said(arguments);
        assert_eq!((said.code, &*said.stderr), (0, ""), "{arguments:?}");
    }
}

#[test]
fn status_1_is_an_error_of_the_server() {
    let server = Server::start(&[]);
    let said = said(client_of(&server.socket(), &["send", r#"{"command":"fail"}"#, "-q"]));
    let text = "error: the request failed\n  why: It failed, as you asked\n";
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "", text), "without a tip");
    let jobs = Jobs::start();
    jobs.said(&["cancel", "x"]).assert_failed(125, &["no such run", "kakehi status"]);
}

#[test]
fn a_run_ends_as_its_job_does() {
    let jobs = Jobs::start();
    for code in [1, 2, 69, 124, 130, 255] {
        let said = jobs.said(&["run", "exit", &code.to_string()]);
        assert_eq!((said.code, &*said.stdout), (code, ""));
        assert_eq!(said.stderr, format!("failed: `exit` ended with exit code {code}\n"));
    }
    let said = jobs.said(&["run", "killed"]);
    assert_eq!(
        (said.code, &*said.stderr),
        (137, "failed: `killed` was killed by signal 9 (SIGKILL)\n")
    );
}

#[test]
fn status_2_is_wrong_usage() {
    for arguments in [&["--timeout", "soon"][..], &["run"], &["unknown"], &["send", "[]"]] {
        let said = said(client(arguments));
        assert_eq!((said.code, &*said.stdout), (2, ""), "{said:?}");
        assert!(said.stderr.starts_with("error: "), "{said:?}");
    }
    said(client(&["send", "7"])).assert_failed(2, &["not a JSON object", "{\"command\":"]);
}

#[test]
fn status_69_is_no_server_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    fs::write(path("file"), "").unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    for (name, words) in [
        ("none", "none"),
        ("none/none", "does not exist"),
        ("file", "is a regular file, not a socket"),
        ("file/none", "file"),
        ("stale", "stale"),
    ] {
        let said = said(client_of(&path(name), &["status"]));
        said.assert_failed(69, &["cannot reach the server", words]);
        assert!(!said.stderr.contains("os error"), "{said:?}");
    }
    // A named socket is the only one that is tried.
    said(client_of(&path("none"), &["demo"])).assert_failed(69, &["cannot reach the server"]);
}

#[test]
fn status_74_is_an_output_that_cannot_be_written() {
    let jobs = Jobs::start();
    for arguments in [&["status"][..], &["run", "lines"], &["list", "--json"], &["man"]] {
        let mut client = jobs.client(arguments);
        client.stdout(File::create("/dev/full").unwrap());
        let said = said(client);
        if arguments.contains(&"--json") {
            assert_eq!((said.code, &*said.stderr), (74, ""));
        } else {
            said.assert_failed(74, &["cannot write to standard output", "No space left"]);
        }
    }
    jobs.wait_until_idle();
}

#[test]
fn a_closed_standard_output_is_an_output_that_cannot_be_written() {
    let jobs = Jobs::start();
    let shell = |line: &str, stdout: Stdio| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{line}; echo ended $? >&2")]);
        shell.env("CLIENT", binary("kakehi")).env("KAKEHI_SOCKET", jobs.server.socket());
        said({
            shell.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
            shell
        })
    };
    for command in ["list", "status", "run both", "man", "--help", "-o json list"] {
        let said = shell(&format!("\"$CLIENT\" {command} >&-"), Stdio::piped());
        assert!(said.stderr.ends_with("ended 74\n"), "{command}: {said:?}");
        assert!(said.stderr.contains("cannot write to standard output"), "{command}: {said:?}");
    }
    let said_of = |stdout: File, redirection: &str| {
        shell(&format!("\"$CLIENT\" list {redirection}"), stdout.into())
    };
    // A null device is not a closed descriptor, also if it is open for reading, as Python's is.
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(said_of(null(), "").stderr, "ended 0\n");
    assert_eq!(shell("\"$CLIENT\" list >/dev/null", Stdio::piped()).stderr, "ended 0\n");
    let mut client = jobs.client(&["list"]);
    client.stdout(null());
    assert_eq!(said(client).code, 0);
}

#[test]
fn a_format_applies_to_results_and_not_to_the_output_of_a_job() {
    let jobs = Jobs::start();
    for arguments in [&["run", "both"][..], &["logs", "x"], &["attach", "x"]] {
        for format in ["json", "yaml", "name", "wide"] {
            let said = jobs.said(&[arguments, &["-o", format]].concat());
            said.assert_failed(2, &["-o does not apply", "--json"]);
        }
    }
    let started = jobs.said(&["run", "both", "--detach", "-o", "json"]).lines().remove(0);
    let run = started["run"].as_str().unwrap();
    let said = jobs.said(&["wait", run, "-o", "json"]);
    assert_eq!((said.code, &said.lines()[0][0]["run"]), (0, &started["run"]), "{said:?}");
    let dry = jobs.said(&["run", "both", "--dry-run", "-o", "json"]).lines().remove(0);
    assert_eq!(dry["job"], "both");
    assert_eq!(jobs.said(&["cancel", "--all", "-o", "yaml"]).stdout, "cancelled: []\n");
}

#[test]
fn top_needs_a_terminal() {
    let jobs = Jobs::start();
    jobs.said(&["top"]).assert_failed(2, &["not a terminal", "kakehi runs", "kakehi status"]);
    let said = jobs.said(&["top", "--json"]);
    assert_eq!((said.code, &said.lines()[0]["error"]), (2, &"usage".into()), "{said:?}");
}

/// What `status` says of a refusal.
fn refused(why: &str) -> Said {
    let answer = format!(
        r#"{{"id":"ID","version":0,"status":"ERROR","message":"because","refused":"{why}"}}"#
    );
    Fake::answers(&[&answer]).said(&["status"])
}

#[test]
fn status_75_is_busy_or_draining() {
    refused("busy").assert_failed(75, &["the server is busy", "because", "try again later"]);
    refused("shutting_down").assert_failed(75, &["shutting down", "because"]);
    // A real server refuses the second connection.
    let server = Server::start(&["--connections", "1", "--control-connections", "0"]);
    let first = wait_for(|| answered(&server.socket()));
    assert!(first.is_some());
    let said = said(client_of(&server.socket(), &["status"]));
    said.assert_failed(75, &[]);
}

/// A connection that the server has accepted.
fn answered(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"{\"id\":\"a\",\"version\":0,\"command\":\"list\"}\0").ok()?;
    let mut answer = vec![];
    BufReader::new(&stream).read_until(0, &mut answer).ok()?;
    String::from_utf8(answer).ok()?.contains("\"OK\"").then_some(stream)
}

#[test]
fn status_76_is_protocol_version_or_size() {
    refused("malformed").assert_failed(76, &["malformed", "because"]);
    refused("too_large").assert_failed(76, &["too large", "because"]);
    refused("too_slow").assert_failed(76, &["too long", "because"]);
    let ok = |id: &str, version: &str| {
        format!(r#"{{"id":"{id}","version":{version},"status":"OK","message":""}}"#)
    };
    for (frame, words) in [
        ("HTTP/1.1 400 Bad Request", &["invalid response", "malformed"][..]),
        ("[]", &["invalid response"]),
        (&ok("another", "0"), &["invalid response", "another"]),
        (&ok("ID", "1"), &["invalid response", "version 1", "version 0"]),
    ] {
        Fake::answers(&[frame]).said(&["status"]).assert_failed(76, words);
    }
    let endless = vec![b' '; 17 * 1024 * 1024];
    let said = Fake::writes(&endless, Then::Stays).said(&["status"]);
    said.assert_failed(76, &["too large", "limit of 16777216 bytes"]);
    let said = Fake::writes(b"{\"id\"", Then::Leaves).said(&["status"]);
    said.assert_failed(76, &["connection ended", "may have done"]);
}

#[test]
fn a_request_over_the_limit_is_76_too_and_not_sent() {
    let jobs = Jobs::start();
    let request = format!(r#"{{"command":"{}"}}"#, "x".repeat(100_000));
    let request = [&*request, &" ".repeat(1_000_000)].concat();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request");
    fs::write(&file, request).unwrap();
    let mut client = jobs.client(&["send"]);
    client.stdin(File::open(file).unwrap());
    said(client).assert_failed(76, &["too large", "was not sent"]);
}

#[test]
fn as_much_is_taken_from_standard_input_as_a_request_may_have() {
    let jobs = Jobs::start();
    let max = kakehi_channel::BufferLimits::default().max;
    for (size, code) in [(max, 0), (max + 1, 76)] {
        let mut file = tempfile::tempfile().unwrap();
        let request = r#"{"command":"status"}"#;
        file.write_all([request, &" ".repeat(size - request.len())].concat().as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut client = jobs.client(&["send"]);
        client.stdin(file);
        let said = said(client);
        assert_eq!(said.code, code, "{size}: {}", said.stderr);
    }
}

#[test]
fn status_77_is_permission() {
    refused("denied").assert_failed(77, &["denies", "because"]);
    let server = Server::start(&[]);
    let uid = rustix::process::geteuid().as_raw();
    let expecting =
        |uid: u32| said(client_of(&server.socket(), &["--server-uid", &uid.to_string(), "list"]));
    assert_eq!(expecting(uid).code, 0);
    expecting(uid + 1).assert_failed(77, &["another user runs the server", "do not trust"]);
}

#[test]
fn status_77_is_said_of_a_socket_of_others_with_the_reason() {
    if !has_tool("setpriv") || !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let binary_for_all = open_to_all(folder.path());
    let asked = |socket: &Path| {
        let mut client = Command::new("setpriv");
        client.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary_for_all);
        client.arg("--socket").arg(socket).arg("status");
        said(client)
    };
    let shut = asked(&server.socket());
    shut.assert_failed(77, &["cannot reach the server", "uid 65534"]);
    // Where the way is open, the socket itself is not.
    fs::set_permissions(server.folder(), Permissions::from_mode(0o711)).unwrap();
    asked(&server.socket()).assert_failed(77, &["cannot reach the server", "0600"]);
}

#[test]
fn without_a_socket_all_places_are_named_in_order() {
    if !has_tool("setpriv") || !rustix::process::geteuid().is_root() {
        return;
    }
    if Path::new("/run/kakehi").exists() {
        return skip("this machine has a kakehid of its own in /run/kakehi");
    }
    let folder = tempfile::tempdir().unwrap();
    let binary_for_all = open_to_all(folder.path());
    let listed = |runtime_dir: Option<&str>| {
        let mut client = Command::new("setpriv");
        client.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary_for_all);
        client.arg("list").env_remove("KAKEHI_SOCKET").env_remove("XDG_RUNTIME_DIR");
        client.envs(runtime_dir.map(|path| ("XDG_RUNTIME_DIR", path)));
        said(client)
    };
    let system = "/run/kakehi/kakehi.sock";
    listed(None).assert_failed(69, &[&format!("no socket at {system}\n"), "--socket PATH"]);
    let both = format!("no socket at /run/user/7/kakehi/kakehi.sock or {system}\n");
    listed(Some("/run/user/7")).assert_failed(69, &[&both, "--socket PATH"]);
}

#[test]
fn a_dead_socket_of_ones_own_is_named_before_the_absent_one_of_the_system() {
    if Path::new("/run/kakehi").exists() {
        return skip("this machine has a kakehid of its own in /run/kakehi");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("kakehi")).unwrap();
    let own = folder.path().join("kakehi/kakehi.sock");
    drop(UnixListener::bind(&own).unwrap());
    for command in ["status", "list", "demo"] {
        let mut client = client(&[command]);
        client.env("XDG_RUNTIME_DIR", folder.path());
        let said = said(client);
        said.assert_failed(69, &["cannot reach the server", own.to_str().unwrap()]);
        let why = said.stderr.lines().nth(1).unwrap();
        assert!(why.ends_with("; /run/kakehi/kakehi.sock does not exist"), "{said:?}");
    }
}

/// A copy of the client that every user can run.
fn open_to_all(folder: &Path) -> std::path::PathBuf {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("kakehi");
    fs::copy(binary("kakehi"), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn status_124_is_a_timeout_or_a_deadline() {
    let silent = Fake::writes(b"", Then::Stays);
    let said = silent.said(&["--timeout", "200ms", "status"]);
    said.assert_failed(
        124,
        &["does not answer", "timed out after 200 ms", "may have done", "--timeout"],
    );
    let said = silent.said(&["--deadline", "200ms", "--timeout", "0", "status"]);
    said.assert_failed(
        124,
        &["deadline passed", "deadline of 200 ms", "may have done", "--deadline"],
    );
}

#[test]
fn a_progress_restarts_the_timeout_and_not_the_deadline() {
    let server = Server::start(&[]);
    let countdown = r#"{"command":{"countdown":{"steps":6,"interval_ms":400}}}"#;
    let asked = |arguments: &[&str]| {
        let mut client = client_of(&server.socket(), &["send", countdown]);
        client.args(arguments);
        said(client).code
    };
    assert_eq!(asked(&["--timeout", "2s"]), 0);
    assert_eq!(asked(&["--timeout", "2s", "--deadline", "300ms"]), 124);
}

#[test]
fn zero_is_no_limit() {
    let server = Server::start(&[]);
    let countdown = r#"{"command":{"countdown":{"steps":1,"interval_ms":50}}}"#;
    let clocks = ["send", countdown, "--timeout", "0", "--deadline", "0"];
    assert_eq!(said(client_of(&server.socket(), &clocks)).code, 0);
}
