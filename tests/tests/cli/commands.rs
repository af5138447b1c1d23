//! What each command does.

use std::{io::Write, process::Stdio};

use kakehi_tests::programs::{Server, wait_for};

use crate::support::{Fake, Jobs, client, client_of, said};

#[test]
fn run_keeps_the_jobs_two_streams_apart_and_adds_nothing() {
    let jobs = Jobs::start();
    let said = jobs.said(&["run", "both"]);
    assert_eq!((said.code, &*said.stdout), (0, "to stdout\n"));
    assert_eq!(said.stderr, "to stderr\n");
}

#[test]
fn run_restores_each_byte_of_a_job_with_raw_and_is_harmless_without() {
    let jobs = Jobs::start();
    let output = jobs.client(&["run", "bytes", "--raw"]).output().unwrap();
    assert_eq!(output.stdout, b"tab\there\n\x1b[31m\xff\nno end");
    let said = jobs.said(&["run", "bytes"]);
    assert_eq!(said.stdout, "tab\\there\n\\x1b[31m\\xff\nno end");
}

#[test]
fn run_joins_the_pieces_of_a_long_line() {
    let jobs = Jobs::start();
    assert_eq!(jobs.said(&["run", "long"]).stdout, "x".repeat(200_000) + "\nend\n");
}

#[test]
fn list_is_an_aligned_table_whatever_the_width_of_the_characters() {
    let jobs = Jobs::start();
    let said = jobs.said(&["list"]);
    assert_eq!((said.code, &*said.stderr), (0, ""));
    let row = |name: &str| said.stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(row("JOB"), "JOB       ARGS    TIMEOUT  ABOUT");
    assert_eq!(row("exit"), "exit      [0-9]+  1m 30s   ends as it is told");
    assert_eq!(row("wide"), "wide      [筧]+   -        wide");
    assert_eq!(row("lines"), "lines     -       -");
}

#[test]
fn a_list_of_no_jobs_is_nothing_but_a_note() {
    let server = Server::start(&[]);
    let said = said(client_of(&server.socket(), &["list"]));
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", "note: no jobs\n"));
}

#[test]
fn status_tells_what_runs_and_cancel_ends_it() {
    let jobs = Jobs::start();
    let mut running =
        jobs.client(&["run", "trap"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let id = wait_for(|| Some(jobs.running().first()?["id"].as_str()?.to_owned())).unwrap();
    let status = jobs.said(&["status"]);
    assert!(status.stdout.starts_with("version      0."), "{status:?}");
    for name in ["pid", "uptime", "connections  2", "running      1", "\nID ", &id, " trap "] {
        assert!(status.stdout.contains(name), "{name}: {status:?}");
    }
    let cancelled = jobs.said(&["cancel", &id]);
    assert_eq!((cancelled.code, cancelled.stdout), (0, format!("cancelled \"{id}\"\n")));
    assert_eq!(running.wait().unwrap().code(), Some(5), "it ends as the job does");
    jobs.wait_until_idle();
}

#[test]
fn stop_stops_the_server() {
    let mut jobs = Jobs::start();
    let said = jobs.said(&["stop"]);
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "stopping\n", ""));
    assert!(jobs.server.wait().success());
}

#[test]
fn send_takes_a_request_from_an_argument_or_from_standard_input() {
    let server = Server::start(&[]);
    let request = r#"{"command":{"echo":{"text":"héllo"}}}"#;
    assert_eq!(said(client_of(&server.socket(), &["send", request])).stdout, "héllo\n");
    for arguments in [&["send"][..], &["send", "-"]] {
        let mut client = client_of(&server.socket(), arguments);
        let mut client = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        assert_eq!(client.wait_with_output().unwrap().stdout, "héllo\n".as_bytes());
    }
}

#[test]
fn send_fills_in_what_is_absent_and_leaves_the_rest_alone() {
    let mirror = Fake::start(|stream, request| {
        let (id, text) = (&request["id"], request.to_string());
        let answer = serde_json::json!({
            "id": id, "version": 0, "status": "OK", "message": "", "content": text,
        });
        stream.get_mut().write_all(format!("{answer}\0").as_bytes()).unwrap();
    });
    let sent = |arguments: &[&str]| -> serde_json::Value {
        let content: String = serde_json::from_str(&mirror.said(arguments).stdout).unwrap();
        serde_json::from_str(&content).unwrap()
    };
    let given = r#"{"id":"a","version":3,"timeout_ms":0,"deadline_ms":7,"worker_id":1,"x":[null]}"#;
    assert_eq!(sent(&["send", given]), serde_json::from_str::<serde_json::Value>(given).unwrap());
    let filled = sent(&["send", "{}", "--deadline", "5s"]);
    assert_eq!((&filled["version"], &filled["timeout_ms"]), (&0.into(), &30_000.into()));
    assert!(filled["deadline_ms"].as_u64().is_some_and(|ms| (4_500..=5_500).contains(&ms)));
    assert!(filled["id"].as_str().is_some_and(|id| !id.is_empty()));
    let unlimited = sent(&["send", "{}", "--timeout", "0"]);
    assert!(unlimited.get("timeout_ms").is_none() && unlimited.get("deadline_ms").is_none());
}

#[test]
fn the_socket_is_that_of_the_option_then_of_the_variable_then_the_default() {
    let [first, second, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let start = |name: &str, folder: &std::path::Path| {
        std::fs::create_dir(folder.join("kakehi")).unwrap();
        let path = folder.join("kakehi/kakehi.sock");
        let answer = format!(r#"{{"id":"ID","version":0,"status":"OK","message":"{name}"}}"#);
        let fake = Fake::answers(&[&answer]);
        std::os::unix::fs::symlink(fake.socket(), &path).unwrap();
        (fake, path)
    };
    let (_option, option) = start("option", first.path());
    let (_variable, variable) = start("variable", second.path());
    let (_default, _) = start("default", third.path());
    let asked = |arguments: &[&str], variables: &[(&str, &std::path::Path)]| {
        let mut client = client(arguments);
        said({
            client.arg("status").envs(variables.iter().copied());
            client
        })
        .stdout
    };
    let option = ["--socket", option.to_str().unwrap()];
    let (variable, default) = (("KAKEHI_SOCKET", &*variable), ("XDG_RUNTIME_DIR", third.path()));
    assert_eq!(asked(&option, &[variable, default]), "option\n");
    assert_eq!(asked(&[], &[variable, default]), "variable\n");
    assert_eq!(asked(&[], &[default]), "default\n");
}

#[test]
fn quiet_says_nothing_but_results_and_verbose_tells_what_happens() {
    let server = Server::start(&[]);
    let countdown = r#"{"command":{"countdown":{"steps":2,"interval_ms":1}}}"#;
    let asked = |argument: &str| said(client_of(&server.socket(), &["send", countdown, argument]));
    let plain = said(client_of(&server.socket(), &["send", countdown]));
    assert_eq!(plain.stderr, "processing: Not done yet\n".repeat(2));
    let quiet = asked("-q");
    assert_eq!((&*quiet.stdout, &*quiet.stderr), ("Done\n", ""));
    let verbose = asked("-v");
    assert_eq!(verbose.stdout, "Done\n");
    let lines: Vec<_> = verbose.stderr.lines().collect();
    let line = |words: &[&str]| {
        let found = lines.iter().find(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no line with {words:?} in {verbose:?}"))
    };
    let connected = line(&["connected path=", "DEBUG kakehi_client::"]);
    // Seconds since its start, so that what takes long is seen.
    assert!(connected.trim_start().split(' ').next().unwrap().parse::<f64>().is_ok());
    line(&[" request id=\"", " outcome=\"ok\": the request has ended outcome=\"ok\" elapsed="]);
}
