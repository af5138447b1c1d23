//! The effect of each command.

use std::{
    io::{Read, Seek, Write},
    process::Stdio,
};

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
fn run_writes_each_byte_of_a_job_into_a_pipe_or_a_file() {
    let jobs = Jobs::start();
    for arguments in [&["run", "bytes"][..], &["run", "bytes", "--raw"]] {
        let output = jobs.client(arguments).output().unwrap();
        assert_eq!(output.stdout, b"tab\there\n\x1b[31m\xff\nno end", "{arguments:?}");
    }
    let mut file = tempfile::tempfile().unwrap();
    let mut client = jobs.client(&["run", "zeros"]);
    assert!(client.stdout(file.try_clone().unwrap()).status().unwrap().success());
    let mut written = vec![];
    file.rewind().unwrap();
    file.read_to_end(&mut written).unwrap();
    assert_eq!(written.len(), 3_000_000);
    assert!(written.iter().all(|byte| *byte == 0));
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
    assert_eq!(row("JOB"), "JOB       ARGUMENTS  TIMEOUT   ABOUT");
    assert_eq!(row("exit"), "exit      [0-9]+     1 m 30 s  ends with the given code");
    assert_eq!(row("wide"), "wide      [筧]+      -         wide");
    assert_eq!(row("lines"), "lines     -          -");
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
    let id = wait_for(|| Some(jobs.running().first()?["run"].as_str()?.to_owned())).unwrap();
    let status = jobs.said(&["status"]);
    assert!(status.stdout.starts_with("version      0."), "{status:?}");
    for name in ["pid", "uptime", "connections  2", "running      1", "\nRUN ", &id, "  run trap"] {
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
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "stopped\n", ""));
    assert!(!jobs.server.socket().exists(), "the server has ended");
    assert!(jobs.server.wait().success());
}

#[test]
fn stop_returns_only_after_the_jobs_and_the_server_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let [file, ended] = ["jobs.toml", "ended"].map(|name| folder.path().join(name));
    let script = format!(
        "trap \"sleep 2; touch {}; exit\" TERM; echo begun; while :; do sleep 0.05; done",
        ended.display()
    );
    std::fs::write(&file, format!("[job.a]\nrun = ['sh', '-c', '{script}']\n")).unwrap();
    let server = Server::start(&["--jobs", file.to_str().unwrap(), "--drain", "100ms"]);
    let mut running = client_of(&server.socket(), &["run", "a"]);
    let mut running = running.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    running.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let said = said(client_of(&server.socket(), &["stop"]));
    // A process that has ended is a zombie until this test, its parent, waits for it.
    let stat = format!("/proc/{}/stat", server.pid().as_raw_nonzero());
    let stat = std::fs::read_to_string(stat).unwrap();
    assert_eq!((said.code, &*said.stdout), (0, "stopped\n"), "{said:?}");
    assert!(stat.rsplit_once(") ").unwrap().1.starts_with('Z'), "{stat}");
    assert!(ended.exists(), "the job had its time to end");
    running.wait().unwrap();
}

#[test]
fn status_counts_the_same_in_each_format() {
    let jobs = Jobs::with("[job.one]\nrun = ['sh', '-c', 'echo begun; sleep 100']\n");
    let mut clients: Vec<_> = ["one", "one", "silent"]
        .map(|job| jobs.client(&["run", job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
        .into_iter()
        .collect();
    // Two runs go on, and one waits for its turn.
    assert!(wait_for(|| (jobs.running().len() == 3).then_some(())).is_some());
    let content = jobs.said(&["status", "-o", "json"]).lines().remove(0);
    let listed = content["running"].as_array().unwrap();
    assert_eq!((listed.len(), &content["counters"]["running"]), (3, &3.into()), "{content}");
    for format in ["table", "wide"] {
        let table = jobs.said(&["status", "-o", format]).stdout;
        let row = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("{table}")).split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(row("running "), "3", "{table}");
        assert_eq!(row("connections "), content["connections"].to_string(), "{table}");
        let rows = table.lines().skip_while(|line| !line.starts_with("RUN ")).skip(1);
        assert_eq!(rows.count(), 3, "{table}");
    }
    let names = jobs.said(&["status", "-o", "name"]).stdout;
    let runs: Vec<_> = listed.iter().map(|one| one["run"].as_str().unwrap()).collect();
    assert_eq!(names.lines().collect::<Vec<_>>(), runs);
    let last = jobs.said(&["status", "--json"]).lines().pop().unwrap();
    assert!(last["message"].as_str().unwrap().ends_with(" 3 requests running"), "{last}");
    assert_eq!(jobs.said(&["cancel", "--all"]).code, 0);
    for client in &mut clients {
        client.as_mut().unwrap().wait().unwrap();
    }
}

#[test]
fn a_run_without_a_required_argument_is_refused_with_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let jobs = Jobs::with(&format!(
        "[job.restore]\nrun = ['sh', '-c', 'touch {}']\nargs = [\n\
         {{ name = 'host', pattern = '[a-z]+', required = true }},\n\
         {{ name = 'target', choices = ['staging', 'production'], required = true }},\n\
         {{ name = 'depth', pattern = '[0-9]+' }}]\n",
        started.display()
    ));
    let list = jobs.said(&["list"]).stdout;
    let row = list.lines().find(|line| line.starts_with("restore ")).unwrap();
    assert!(row.contains(" <host> <target> [depth] "), "{list}");
    for (arguments, words) in [
        (&[][..], "`restore` needs argument 1 (host), which must match `[a-z]+`"),
        (&["db"], "`restore` needs argument 2 (target), which must be one of staging, production"),
        (&["7"], "argument 1 (host) of `restore` must match `[a-z]+`"),
        (&["db", "moon"], "argument 2 (target) of `restore` must be one of staging, production"),
    ] {
        for option in [&[][..], &["--detach"], &["--dry-run"]] {
            let said = jobs.said(&[&["run"], option, &["restore"], arguments].concat());
            assert_eq!((said.code, &*said.stdout), (125, ""), "{said:?}");
            assert!(said.stderr.contains(words), "{words}: {said:?}");
        }
    }
    assert_eq!(jobs.said(&["runs"]).stdout, "");
    assert!(!started.exists(), "nothing was started");
    assert_eq!(jobs.said(&["run", "restore", "db", "staging"]).code, 0);
    assert!(started.exists());
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
    line(&["request{id=\"", "the request has ended outcome=\"ok\" elapsed="]);
}

#[test]
fn a_server_that_describes_no_commands_is_told_apart() {
    let said = |fake: &Fake, arguments: &[&str]| fake.said(arguments);
    let fields = r#""id":"ID","version":0,"message":"""#;
    let refused = format!(r#"{{{fields},"status":"ERROR","refused":"unsupported"}}"#);
    let empty = format!(
        r#"{{{fields},"status":"OK","content":{{"name":"a","version":"1","commands":[]}}}}"#
    );
    let refusing = Fake::answers(&[&refused]);
    for arguments in [&["describe"][..], &["call", "warm"]] {
        let words = ["the server does not describe its commands", "kakehi send"];
        said(&refusing, arguments).assert_failed(76, &words);
    }
    let described = said(&Fake::answers(&[&empty]), &["describe"]);
    assert_eq!(described.code, 0, "{described:?}");
    assert!(
        described.stdout.contains("does not describe its commands; send them by `kakehi send`")
    );
    let called = said(&Fake::answers(&[&empty]), &["call", "warm"]);
    called.assert_failed(2, &["does not describe its commands", "kakehi send"]);
}

#[test]
fn only_a_command_of_kakehid_has_a_hint_to_its_status() {
    let hints = |arguments: &[&str]| {
        let said = Fake::writes(b"", crate::support::Then::Leaves).said(arguments);
        assert_eq!(said.code, 76, "{said:?}");
        said.stderr.contains("`kakehi status`")
    };
    assert!(hints(&["run", "job"]));
    assert!(!hints(&["send", "{}"]) && !hints(&["call", "warm"]));
}

#[test]
fn status_prints_metrics_in_the_text_format_of_prometheus() {
    let jobs = Jobs::start();
    jobs.said(&["run", "both"]);
    jobs.said(&["run", "missing"]);
    let said = jobs.said(&["status", "--prometheus"]);
    assert_eq!((said.code, &*said.stderr), (0, ""));
    let samples = exposition(&said.stdout);
    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("{samples:?}"));
    // The lot of them, without the request itself.
    assert!((value("kakehi_server_requests_total{outcome=\"ok\"}") - 1.0).abs() < 0.1);
    assert!((value("kakehi_server_requests_total{outcome=\"refused\"}") - 1.0).abs() < 0.1);
    assert!(value("kakehi_server_received_bytes_total") > 100.0);
    assert!(value("kakehid_uptime_seconds") > 0.0);

    let said = jobs.said(&["status", "--prometheus", "--json"]);
    assert_eq!(said.code, 2);
}

/// The samples of a text in the exposition format 0.0.4, which is checked strictly.
fn exposition(text: &str) -> std::collections::BTreeMap<String, f64> {
    let is_name = |name: &str| {
        let first = name.chars().next();
        first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (mut samples, mut families) =
        (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    let (mut helped, mut family) = (String::new(), String::new());
    assert!(text.ends_with('\n'), "the last line has an end");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help has a text");
            assert!(is_name(name) && !text.is_empty(), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a name");
            assert_eq!(name, helped, "the help comes first");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert_eq!(kind, if name.ends_with("_total") { "counter" } else { "gauge" }, "{line}");
            name.clone_into(&mut family);
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, family, "samples follow their type");
            let labels = labels.strip_suffix('}').expect("labels end");
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once('=').expect("a label has a value");
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                assert!(is_name(name) && value.is_some_and(|v| !v.contains('"')), "{line}");
            }
            let value = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

#[test]
fn a_command_is_not_sent_if_the_description_does_not_come() {
    use crate::support::Then;
    let silent = Fake::writes(b"", Then::Stays);
    let gone = Fake::writes(b"{", Then::Leaves);
    for (fake, code, word) in [(&silent, 124, "timeout"), (&gone, 76, "disconnected")] {
        let said = fake.said(&["--timeout", "200ms", "call", "warm"]);
        said.assert_failed(code, &["the command was not sent"]);
        assert!(!said.stderr.contains("may have done"), "{said:?}");
        let said = fake.said(&["--timeout", "200ms", "--json", "call", "warm"]);
        let last = said.lines().pop().unwrap();
        let facts = (said.code, &last["error"], &last["outcome"]);
        assert_eq!(facts, (code, &word.into(), &"not_sent".into()), "{said:?}");
        let said = fake.said(&["--timeout", "200ms", "describe"]);
        said.assert_failed(code, &[]);
        assert!(!said.stderr.contains("may have done"), "{said:?}");
    }
}

#[test]
fn the_help_of_a_hostile_server_does_not_reach_the_terminal_as_it_is() {
    let evil = "x\u{1b}]0;pwned\u{7}\u{202e}\u{9b}31m";
    let properties = serde_json::json!({
        (evil): { "type": "string" },
        "word": { "enum": [evil, "b"], "description": evil, "default": evil, "title": evil },
    });
    let answer = serde_json::json!({ "id": "ID", "version": 0, "status": "OK", "message": "",
        "content": { "name": evil, "version": evil, "commands": [{ "name": "warm", "text": evil,
            "read_only": false, "allowed": true,
            "arguments": { "type": "object", "properties": properties } }] } });
    let fake = Fake::answers(&[&answer.to_string()]);
    for (rest, code) in [("--help", 0), ("-h", 0), ("--word=c", 2), ("--other", 2)] {
        let said = fake.said(&["call", "warm", rest]);
        assert_eq!(said.code, code, "{said:?}");
        let shown = said.stdout + &said.stderr;
        let is_harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!shown.contains(is_harmful), "{rest}: {shown:?}");
    }
    let help = fake.said(&["call", "warm", "--help"]).stdout;
    assert!(help.contains("x\\x1b]0;pwned\\x07\\u{202e}\\u{9b}31m"), "{help}");
}
