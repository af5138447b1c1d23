//! The rights of callers, and the jobs that they see.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kakehi_tests::programs::{Server, binary, wait_for};
use serde_json::json;

use super::support::{
    Client, Jobs, alive, ask_as, ask_as_member, can_be_another_user, run, tell_as, unique_seconds,
    wait_until_alive,
};

/// A user and a group without rights, by number.
const NOBODY: u32 = 65_534;
const DAEMON: u32 = 1;

const TWO_JOBS: &str = "[job.ours]\nrun = ['true']\nabout = 'for us'\n\
    [job.theirs]\nrun = ['echo', 'hello']\nabout = 'for them'\nargs = ['^[a-z]+$']\ntimeout = '1m'\n\
    allow = { users = ['nobody'] }\n";

fn open(jobs: &str) -> Jobs {
    let jobs = Jobs::with_flags(jobs, &["--mode", "666"]);
    jobs.open_folder();
    jobs
}

fn started(jobs: &Jobs, id: &str, job: &str) -> Client {
    let mut client = jobs.client();
    client.send(id, run(job, &[]));
    client.progress();
    client
}

#[test]
fn list_returns_the_declarations_of_the_jobs() {
    // The declaration of `theirs` is shown to root and to the server's user.
    let jobs = Jobs::start(&TWO_JOBS.replace("allow = { users = ['nobody'] }\n", ""));
    let last = jobs.ask("list").pop().unwrap();
    assert_eq!(last["message"], "2 jobs: ours, theirs");
    assert_eq!(
        last["content"],
        json!([
            { "job": "ours", "about": "for us", "args": [], "arguments": [], "at_once": 1,
              "when_client_leaves": "kill" },
            { "job": "theirs", "about": "for them", "args": ["^[a-z]+$"],
              "arguments": [{ "pattern": "^[a-z]+$", "required": false, "secret": false }], "timeout_ms": 60_000,
              "at_once": 1, "when_client_leaves": "kill" },
        ]),
    );
}

#[test]
fn a_user_runs_and_sees_only_what_the_file_allows() {
    let jobs = open(TWO_JOBS);
    let Some(listed) = ask_as(NOBODY, &jobs, "ID-1", "list") else { return };
    assert_eq!(listed["message"], "1 job: theirs");
    assert_eq!(listed["content"].as_array().unwrap().len(), 1);
    let ran = ask_as(NOBODY, &jobs, "ID-2", run("theirs", &[])).unwrap();
    assert_eq!((&ran["status"], &ran["content"]["stdout_lines"]), (&json!("OK"), &json!(1)));
    let denied = ask_as(NOBODY, &jobs, "ID-3", run("ours", &[])).unwrap();
    assert_eq!(denied["message"], "uid 65534 may not run `ours`");
    assert_eq!((&denied["status"], &denied["refused"]), (&json!("ERROR"), &json!("denied")));
    // Root may run a job that does not name root.
    assert_eq!(jobs.run("theirs", &[])["status"], "OK");
}

#[test]
fn a_user_whom_no_job_allows_is_refused_every_command() {
    let jobs = open(TWO_JOBS);
    for command in [json!("status"), json!("list"), run("theirs", &[]), json!("countdown")] {
        let Some(last) = ask_as(DAEMON, &jobs, "ID-1", command.clone()) else { return };
        assert_eq!(last["message"], "uid 1 may not use this server", "{command}");
        assert_eq!(last["refused"], "denied");
    }
}

#[test]
fn the_members_of_a_group_may_run_what_the_group_may() {
    let jobs = open("[job.a]\nrun = ['true']\nallow = { groups = ['daemon'] }");
    // As the process has it, and as the system's list of users has it.
    for (uid, gid) in [(NOBODY, DAEMON), (DAEMON, NOBODY)] {
        let ran = ask_as_member(uid, gid, &jobs, "ID-1", run("a", &[]));
        let Some(last) = ran else { return };
        assert_eq!(last["status"], "OK", "{uid} {gid}: {last}");
    }
    let last = ask_as(NOBODY, &jobs, "ID-1", run("a", &[])).unwrap();
    assert_eq!(last["refused"], "denied");
}

#[test]
fn without_jobs_other_users_cannot_even_connect() {
    let server = Server::start(&["--mode", "666"]);
    let everybody = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(server.folder(), everybody).unwrap();
    let Some(last) = tell_as(NOBODY, NOBODY, &server, "") else { return };
    assert_eq!((&last["id"], &last["refused"]), (&json!(""), &json!("denied")));
}

#[test]
fn the_socket_has_the_mode_and_the_group_that_were_asked_for() {
    // Only root can give it to any group.
    let root = rustix::process::geteuid().is_root();
    let own = rustix::process::getegid().as_raw();
    let (group, gid) = if root { ("daemon".to_owned(), DAEMON) } else { (own.to_string(), own) };
    let jobs = Jobs::with_flags(TWO_JOBS, &["--mode", "660", "--group", &group]);
    let socket = std::fs::metadata(jobs.server.socket()).unwrap();
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o660, gid));
    let jobs = Jobs::start(TWO_JOBS);
    let socket = std::fs::metadata(jobs.server.socket()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_server_makes_the_folder_of_its_socket_for_the_group() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("new/socket");
    let mut server = std::process::Command::new(binary("kakehid"))
        .args(["--mode", "660", "--group", "daemon", "--socket"])
        .arg(&socket)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_for(|| socket.exists().then_some(())).is_some());
    let made = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!((made.permissions().mode() & 0o777, made.gid()), (0o710, DAEMON));
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn status_tells_how_the_server_is_and_what_runs() {
    let jobs = Jobs::start("[job.a]\nrun = ['sh', '-c', 'echo started; sleep 1000']");
    let _client = started(&jobs, "ID-a", "a");
    let mut demo = jobs.client();
    demo.send("ID-demo", "countdown");
    demo.progress();
    let last = jobs.ask("status").pop().unwrap();
    let status = &last["content"];
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], jobs.server.pid().as_raw_nonzero().get());
    assert_eq!(status["connections"], 3);
    assert!(status["uptime_ms"].is_u64() && status["counters"]["accepted"].is_u64());
    let running = status["running"].as_array().unwrap();
    let told: Vec<_> = running
        .iter()
        .map(|entry| json!([entry["id"], entry["command"], entry["job"], entry["uid"]]))
        .collect();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        told,
        [json!(["ID-a", "run", "a", uid]), json!(["ID-demo", "countdown", null, uid])]
    );
    assert!(running[0]["age_ms"].is_u64() && running[0]["pid"].is_u64());
    assert!(last["message"].as_str().unwrap().contains("3 connections, 2 requests running"));
}

#[test]
fn requests_of_other_users_are_hidden_unless_their_job_is_allowed() {
    if !can_be_another_user() {
        return;
    }
    let jobs = open(
        "[job.secret]\nrun = ['sh', '-c', 'echo started; sleep 1000']\n\
         [job.shared]\nrun = ['sh', '-c', 'echo started; sleep 1000']\nallow.users = ['nobody']",
    );
    let _secret = started(&jobs, "ID-secret", "secret");
    let _shared = started(&jobs, "ID-shared", "shared");
    let Some(last) = ask_as(NOBODY, &jobs, "ID-1", "status") else { return };
    let running = last["content"]["running"].as_array().unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!(running[0]["job"], "shared");
}

#[test]
fn the_response_to_cancel_comes_after_the_end_of_the_job() {
    let seconds = unique_seconds();
    let jobs =
        Jobs::start(&format!("[job.a]\nrun = ['sh', '-c', 'echo started; sleep {seconds}']"));
    let mut client = started(&jobs, "ID-a", "a");
    let mut waiting = jobs.client();
    waiting.send("ID-b", run("a", &[]));
    waiting.progress();

    let last = jobs.ask(json!({ "cancel": { "id": "ID-b" } })).pop().unwrap();
    assert_eq!(last["content"]["cancelled"][0]["waiting"], true);
    assert_eq!(
        waiting.last()["message"],
        format!("cancelled by uid {}", rustix::process::geteuid().as_raw())
    );

    let last = jobs.ask(json!({ "cancel": { "id": "ID-a" } })).pop().unwrap();
    assert_eq!((&last["status"], &last["message"]), (&json!("OK"), &json!("cancelled \"ID-a\"")));
    assert_eq!(last["content"]["cancelled"][0]["job"], "a");
    assert!(alive(&seconds).is_empty());
    let ended = client.last();
    let who = format!("`a` was ended: cancelled by uid {}", rustix::process::geteuid().as_raw());
    assert_eq!((&ended["status"], &ended["message"]), (&json!("ERROR"), &json!(who)));
    assert_eq!(
        (&ended["content"]["signal"], &ended["content"]["ended_by"]),
        (&json!(15), &json!("cancel"))
    );

    let last = jobs.ask(json!({ "cancel": { "id": "ID-a" } })).pop().unwrap();
    assert_eq!(last["message"], "no running request has the id \"ID-a\"");
}

#[test]
fn a_run_is_cancelled_by_its_own_id_or_a_unique_prefix_though_labels_collide() {
    let jobs = Jobs::start("[job.a]\nrun = ['sh', '-c', 'echo started; sleep 1000']\nat_once = 3");
    let _clients = [0; 3].map(|_| started(&jobs, "1-1", "a"));
    let ids = || -> Vec<_> {
        jobs.running().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
    };
    let cancel = |id: &str| jobs.ask(json!({ "cancel": { "id": id } })).pop().unwrap();
    let all = ids();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    let last = cancel("1-1");
    let message = format!("\"1-1\" is ambiguous: it stands for {}", all.join(", "));
    assert_eq!((&last["status"], &last["message"]), (&json!("ERROR"), &json!(message)));
    assert_eq!(cancel(&all[1][..1])["status"], "ERROR");
    assert_eq!(cancel(&all[1])["content"]["cancelled"][0]["run"], all[1].as_str());
    assert_eq!(ids(), [&*all[0], &*all[2]]);
    assert_eq!(cancel(&all[0])["status"], "OK");
    assert_eq!(cancel(&all[2][..6])["status"], "OK");
    assert!(ids().is_empty());
}

#[test]
fn arguments_are_in_status_and_in_the_log_unless_they_are_secret() {
    let jobs = Jobs::start(
        "[job.a]\nrun = ['sh', '-c', 'echo started; sleep 1000']\n\
         args = ['[a-z]+', { pattern = '[a-z]+', secret = true }]",
    );
    let mut client = jobs.client();
    client.send("ID-1", run("a", &["open", "hidden"]));
    client.progress();
    assert_eq!(jobs.running()[0]["args"], json!(["open", "***"]));
    let log = jobs.server.log();
    assert!(log.contains(r#"args=["open", "***"]"#) && !log.contains("hidden"), "{log}");
}

#[test]
fn a_demo_can_be_cancelled_too() {
    let jobs = Jobs::start("");
    let mut demo = jobs.client();
    demo.send("ID-demo", "countdown");
    demo.progress();
    assert_eq!(jobs.ask(json!({ "cancel": { "id": "ID-demo" } })).pop().unwrap()["status"], "OK");
    assert!(demo.last()["message"].as_str().unwrap().starts_with("cancelled by uid"));
}

#[test]
fn another_user_cannot_cancel_a_job_and_root_can() {
    if !can_be_another_user() {
        return;
    }
    let seconds = unique_seconds();
    let script = format!("echo started; sleep {seconds}");
    let jobs = open(&format!("[job.a]\nrun = ['sh', '-c', '{script}']\nallow.users = ['nobody']"));
    let mut ours = started(&jobs, "ID-ours", "a");
    let cancel = |id: &str| json!({ "cancel": { "id": id } });
    let Some(last) = ask_as(NOBODY, &jobs, "ID-1", cancel("ID-ours")) else { return };
    assert_eq!(last["message"], "only root and the user who started \"ID-ours\" may cancel it");
    assert_eq!(last["refused"], "denied");
    wait_until_alive(&format!("sleep {seconds}"), 2);

    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| ask_as(NOBODY, &jobs, "ID-theirs", run("a", &[])));
        assert!(wait_for(|| (jobs.running().len() == 2).then_some(())).is_some());
        assert_eq!(jobs.ask(cancel("ID-theirs")).pop().unwrap()["status"], "OK");
        assert_eq!(theirs.join().unwrap().unwrap()["message"], "cancelled by uid 0");
    });
    jobs.ask(cancel("ID-ours"));
    assert_eq!(ours.last()["content"]["ended_by"], "cancel");
}

#[test]
fn a_run_that_a_caller_may_not_see_does_not_exist_for_it() {
    if !can_be_another_user() {
        return;
    }
    let jobs = open(
        "[job.ours]\nrun = ['sleep', '1000']\n[job.theirs]\nrun = ['true']\nallow.users = ['nobody']",
    );
    let started = jobs.ask(json!({ "run": { "job": "ours", "detach": true } })).pop().unwrap();
    let run = started["content"]["run"].as_str().unwrap();
    for command in ["cancel", "attach", "logs", "wait", "rerun"] {
        let asked = |id: &str| match command {
            "cancel" => json!({ "cancel": { "id": id } }),
            "wait" => json!({ "wait": { "runs": [id] } }),
            _ => json!({ command: { "run": id } }),
        };
        let answer = |id: &str| ask_as(NOBODY, &jobs, "ID-1", asked(id));
        // The second one was never given to any run.
        let (Some(hidden), Some(none)) = (answer(run), answer("zzzzzzz")) else { return };
        assert_eq!(hidden["content"]["reason"], "no_such_run", "{command}: {hidden}");
        let text = hidden.to_string().replace(run, "zzzzzzz");
        assert_eq!(text, none.to_string(), "{command}");
    }
    assert_eq!(jobs.ask(json!({ "cancel": { "id": run } })).pop().unwrap()["status"], "OK");
}

#[test]
fn the_runs_of_a_job_that_does_not_exist_cannot_be_cancelled() {
    let gate = super::support::Gate::closed();
    let jobs = Jobs::start(&format!("[job.backup]\nrun = ['sh', '-c', '{}']", gate.wait()));
    let cancel = |job: &str| jobs.ask(json!({ "cancel": { "job": job } })).pop().unwrap();
    let last = cancel("bakup");
    assert_eq!(
        (&last["message"], &last["status"]),
        (&json!("there is no job `bakup`"), &json!("ERROR"))
    );
    assert_eq!(last["content"], json!({ "reason": "no_such_job", "similar": ["backup"] }));
    assert_eq!(cancel("backup")["message"], "cancelled 0 requests");
    // A job that was removed may still have a run.
    let started = jobs.ask(json!({ "run": { "job": "backup", "detach": true } })).pop().unwrap();
    assert_eq!(started["status"], "OK");
    jobs.rewrite("[job.b]\nrun = ['true']\n");
    jobs.ask("reload");
    assert_eq!(cancel("backup")["message"], "cancelled 1 request");
    assert_eq!(cancel("backup")["content"]["reason"], "no_such_job");
}

#[test]
fn only_root_and_the_servers_user_may_stop_it() {
    let mut jobs = open(TWO_JOBS);
    let Some(last) = ask_as(NOBODY, &jobs, "ID-1", "stop") else { return };
    assert_eq!(last["message"], "uid 65534 may not stop this daemon");
    assert_eq!(last["refused"], "denied");
    let last = jobs.ask("stop").pop().unwrap();
    assert_eq!((&last["status"], &last["message"]), (&json!("OK"), &json!("stopping")));
    assert!(jobs.server.wait().success());
    assert!(!jobs.server.socket().exists());
}

#[test]
fn an_unknown_command_is_refused_with_the_known_ones() {
    let jobs = Jobs::start(TWO_JOBS);
    let last = jobs.ask("lst").pop().unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(message.contains("unknown command `lst`: there are run, list, status"), "{message}");
    assert_eq!(last["refused"], "malformed");
    let last = jobs.ask(json!({ "run": { "job": "ours", "arg": [] } })).pop().unwrap();
    assert!(last["message"].as_str().unwrap().contains("unknown field `arg`"), "{last}");
}

#[test]
fn long_ids_and_names_fill_neither_the_log_nor_status() {
    let jobs = Jobs::start("[job.a]\nrun = ['true']\n");
    let mut client = jobs.client();
    let megabyte = "x".repeat(1_000_000);
    client.send(&megabyte, "list");
    let refused = client.last();
    assert_eq!(refused["message"], "the id has 1000000 bytes, more than 256");
    assert_eq!(
        (refused["refused"].as_str(), refused["id"].as_str()),
        (Some("other"), Some(&*megabyte))
    );
    client.send(&"x".repeat(256), run(&megabyte, &[]));
    assert_eq!(client.last()["message"].as_str().map(str::len), Some(256 + 18));
    client.send("a\n2026-01-01 INFO forged", "list");
    client.last();
    let log = jobs.server.log();
    assert!(log.len() < 4096, "{} bytes of log", log.len());
    assert!(log.contains("a\\n2026-01-01") && !log.contains("\n2026-01-01"), "{log}");
}
