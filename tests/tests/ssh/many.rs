//! One request to several machines.

use std::process::Stdio;

use super::*;

/// Three machines: two with a server each, and one that is off. The servers have `JOBS`.
struct Machines {
    sshd: [Sshd; 2],
    _servers: [Server; 2],
    file: tempfile::NamedTempFile,
}

impl Machines {
    fn start() -> Option<Self> {
        let servers = [server(), server()];
        let with = |server: &Server| {
            Sshd::start_with(&format!("SetEnv KAKEHI_SOCKET={}", server.socket().display()))
        };
        let sshd = [with(&servers[0])?, with(&servers[1])?];
        let file = tempfile::NamedTempFile::new().unwrap();
        let [one, two] = [0, 1]
            .map(|index: usize| format!("{}@127.0.0.1:{}", sshd[index].user, sshd[index].port));
        fs::write(
            file.path(),
            format!("# the machines\n{one}\n\n  ssh://{two} # the second\n{one}\n"),
        )
        .unwrap();
        Some(Self { sshd, _servers: servers, file })
    }

    fn name(&self, index: usize) -> String {
        format!("{}@127.0.0.1:{}", self.sshd[index].user, self.sshd[index].port)
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let known: Vec<_> = self
            .sshd
            .iter()
            .map(|sshd| fs::read_to_string(sshd.path("known_hosts")).unwrap())
            .collect();
        fs::write(self.sshd[0].path("known_hosts"), known.join("\n")).unwrap();
        // Each machine knows the key of the other one.
        let key = fs::read_to_string(self.sshd[0].path("user.pub")).unwrap();
        let other = self.sshd[1].path("user.pub");
        let mut keys = fs::read_to_string(&other).unwrap();
        if !keys.contains(key.trim()) {
            keys.push_str(&key);
            fs::write(other, keys).unwrap();
        }
        let mut command = self.sshd[0].client_of(&format!("ssh://{}", self.name(0)));
        command.args(arguments);
        command
    }

    fn all(&self, arguments: &[&str]) -> Command {
        let hosts = format!("@{}", self.file.path().display());
        self.client(&[&["--hosts", &hosts], arguments].concat())
    }
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_machine_has_a_row_and_lines_with_its_name() {
    let Some(machines) = Machines::start() else { return };
    let output = machines.all(&["run", "fails"]).output().unwrap();
    let text = stdout(&output);
    assert_eq!(code(&output), Some(3), "{text}{}", stderr(&output));
    for index in [0, 1] {
        let name = machines.name(index);
        assert!(text.contains(&format!("{name}: out\n")), "{text}");
        assert!(stderr(&output).contains(&format!("{name}: err\n")), "{}", stderr(&output));
        let rows: Vec<_> =
            text.lines().filter(|line| line.starts_with(&format!("{name}  failed 3  "))).collect();
        assert!(rows.len() == 1 && rows[0].ends_with("err") || rows[0].ends_with("out"), "{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("HOST")).count(), 1, "{text}");
    assert!(stderr(&output).ends_with("note: 0 of 2 hosts ok, 2 failed\n"), "{}", stderr(&output));
}

#[test]
fn the_worst_machine_decides_and_json_names_each() {
    let Some(machines) = Machines::start() else { return };
    // This port of the loopback interface has no listener.
    let off = format!("ssh://{}@127.0.0.1:1", machines.sshd[0].user);
    let output = machines.all(&["--host", &off, "--json", "run", "fails"]).output().unwrap();
    let lines = lines(&output);
    let (summary, hosts) = lines.split_last().unwrap();
    assert_eq!(code(&output), Some(69), "{lines:?}{}", stderr(&output));
    assert_eq!(
        *summary,
        serde_json::json!({ "event": "summary", "hosts": 3, "ok": 0, "failed": 2, "refused": 0,
            "not_sent": 1, "unknown": 0, "exit_status": 69 }),
    );
    assert!(hosts.iter().all(|line| line["host"].is_string()), "{lines:?}");
    let ended: Vec<_> = hosts.iter().filter(|line| line["event"] == "ended").collect();
    assert_eq!(ended.len(), 3, "{lines:?}");
    let unsent =
        ended.iter().find(|line| line["outcome"] == "not sent" || line["outcome"] == "not_sent");
    assert_eq!(unsent.unwrap()["host"], off.strip_prefix("ssh://").unwrap(), "{lines:?}");
    let progress = hosts.iter().find(|line| line["event"] == "progress").unwrap();
    assert_eq!(progress["response"]["content"]["stream"], "stdout", "{progress}");
    let output = machines.all(&["status"]).output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).matches(" ok ").count(), 2, "{}", stdout(&output));
}

#[test]
fn ctrl_c_cancels_the_runs_on_all_machines() {
    let Some(machines) = Machines::start() else { return };
    let mut client = machines
        .all(&["run", "stays"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(client.stdout.take().unwrap());
    let pids = [(); 2].map(|()| {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it ended");
        line.rsplit(": ").next().unwrap().trim().parse::<i32>().unwrap()
    });
    kill_process(pid_of(&client), Signal::INT).unwrap();
    pids.into_iter().for_each(wait_for_end);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("  cancelled  ").count(), 2, "{rest}");
}

#[test]
fn all_runs_on_all_machines_are_cancelled() {
    let Some(machines) = Machines::start() else { return };
    let output = machines.all(&["run", "--detach", "stays"]).output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let output = machines.all(&["cancel", "--all"]).output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for index in [0, 1] {
        let row = format!("{}  ok  ", machines.name(index));
        let row = stdout(&output).lines().find(|line| line.starts_with(&row));
        assert!(row.is_some_and(|row| row.contains("cancel")), "{}", stdout(&output));
    }
    let output = machines.all(&["cancel", "--all", "--json"]).output().unwrap();
    let ended: Vec<_> =
        lines(&output).into_iter().filter(|line| line["event"] == "ended").collect();
    let none = serde_json::json!([]);
    assert!(
        ended.len() == 2
            && ended.iter().all(|line| line["response"]["content"]["cancelled"] == none),
        "{ended:?}"
    );
}

#[test]
fn one_host_at_a_time_and_refused_commands() {
    let Some(machines) = Machines::start() else { return };
    let output = machines.all(&["--parallel", "1", "-q", "list"]).output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("2 jobs: fails, stays"), "{}", stdout(&output));
    for arguments in [
        &["attach", "x"][..],
        &["logs", "x"],
        &["wait", "x"],
        &["doctor"],
        &["describe"],
        &["call", "x"],
        &["list", "-o", "json"],
    ] {
        let output = machines.all(arguments).output().unwrap();
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", stderr(&output));
    }
    let output = machines.client(&["--hosts", "@/nonexistent", "list"]).output().unwrap();
    assert!(stderr(&output).contains("cannot read /nonexistent"), "{}", stderr(&output));
}
