//! Running requests of a server other than kakehid.

use std::{
    io::{BufRead, Write},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    sshd::Sshd,
    support::{Fake, said},
    top::serving,
};

/// A server that knows the commands about running requests only, with `count` requests. It lists two
/// of them at once.
fn server(count: usize) -> Fake {
    let runs: Vec<_> = (1..=count).map(|number| format!("{number}-1")).collect();
    let runs = Arc::new(Mutex::new(runs));
    serving(move |command| {
        let runs = &mut *runs.lock().unwrap();
        let listed =
            |run: &String| json!({ "run": run, "id": "x", "command": "walk", "age_ms": 1 });
        let ok = |content: Value| json!({ "status": "OK", "message": "", "content": content });
        if command == "kakehi.running" {
            let running: Vec<_> = runs.iter().take(2).map(listed).collect();
            let more = runs.len() - running.len();
            return ok(json!({ "running": running, "more": more }));
        }
        let Some(id) = command["kakehi.cancel"]["id"].as_str() else {
            return json!({ "status": "ERROR", "message": "no", "refused": "unsupported" });
        };
        match runs.iter().position(|run| run == id) {
            Some(at) => ok(json!({ "cancelled": [listed(&runs.remove(at))] })),
            None => json!({ "status": "ERROR", "message": "no running request has it",
                "content": { "reason": "no_such_run" } }),
        }
    })
}

#[test]
fn all_requests_are_cancelled_one_by_one() {
    let fake = server(5);
    let said = fake.said(&["cancel", "--all"]);
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "cancelled 5 requests\n", ""));
    let said = fake.said(&["cancel", "--all", "-o", "json"]);
    assert_eq!((said.code, &*said.stdout), (0, "{\"cancelled\":[]}\n"));
    let fake = server(1);
    let said = fake.said(&["cancel", "--all", "-o", "json"]).lines().remove(0);
    assert_eq!(said["cancelled"][0]["run"], "1-1");
}

#[test]
fn all_requests_of_several_hosts_are_cancelled() {
    let Some(sshd) = Sshd::start() else { return };
    let fake = server(5);
    let mut client = sshd.client(&fake.socket());
    // This port of the loopback interface has no listener.
    let off = format!("ssh://{}@127.0.0.1:1", sshd.user);
    client.args(["--host", &off, "cancel", "--all"]);
    let said = said(client);
    let row = said.stdout.lines().find(|line| line.contains("  ok  "));
    assert!(row.is_some_and(|row| row.ends_with("  cancelled 5 requests")), "{said:?}");
    assert!(said.code == 69 && said.stderr.contains("1 of 2 hosts ok, 1 not sent"), "{said:?}");
    assert_eq!(fake.said(&["cancel", "--all"]).stdout, "cancelled 0 requests\n");
}

#[test]
fn the_remedy_for_an_unknown_id_is_a_command_that_the_server_has() {
    let said = server(1).said(&["cancel", "nonsense"]);
    said.assert_failed(125, &["no such run", "`kakehi status`"]);
    assert!(!said.stderr.contains("kakehi runs"), "{said:?}");
}

#[test]
fn a_request_is_followed_to_its_final_response() {
    let attach = |last: Value| {
        Fake::start(move |stream, mut request| {
            let id = |mut of: Value, request: &Value| {
                of["id"] = request["id"].clone();
                of["version"] = json!(0);
                format!("{of}\0")
            };
            if request["command"] != json!({ "kakehi.attach": { "id": "7-1" } }) {
                let no = json!({ "status": "ERROR", "message": "no", "refused": "unsupported" });
                stream.get_mut().write_all(id(no, &request).as_bytes()).unwrap();
                let mut frame = vec![];
                stream.read_until(0, &mut frame).unwrap();
                frame.pop();
                request = serde_json::from_slice(&frame).unwrap();
            }
            assert_eq!(request["command"], json!({ "kakehi.attach": { "id": "7-1" } }));
            let step = json!({ "status": "PROCESSING", "message": "step 2" });
            for of in [step, last.clone()] {
                stream.get_mut().write_all(id(of, &request).as_bytes()).unwrap();
            }
        })
        .said(&["attach", "7-1"])
    };
    let said = attach(json!({ "status": "OK", "message": "arrived", "content": 4 }));
    assert_eq!((said.code, &*said.stdout), (0, "arrived\n4\n"), "{said:?}");
    assert!(said.stderr.contains("step 2"), "{said:?}");
    let said = attach(json!({ "status": "ERROR", "message": "later", "refused": "busy" }));
    assert_eq!(said.code, 75, "{said:?}");
}
