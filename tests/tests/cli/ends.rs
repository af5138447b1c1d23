//! Each way to end, with its exit status and its name in `--json`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use kakehi_tests::programs::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    sshd::Sshd,
    support::{Fake, Jobs, Then, client_of},
};

/// The servers that the ways to end need.
struct World {
    jobs: Jobs,
    folder: TempDir,
    /// The way to the servers, if it is not their sockets alone.
    ssh: Option<Sshd>,
}

/// How a client ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    /// The name of the cause in the last line of `--json`.
    name: String,
}

impl World {
    fn new(ssh: Option<Sshd>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let more = format!(
            "[job.gone]\nrun = ['{}']\n\
             [job.short]\nrun = ['sleep', '60']\ntimeout = '100ms'\n\
             [job.once]\nrun = ['sh', '-c', 'echo begun; sleep 60']\nat_once = 1\n",
            program.display(),
        );
        let jobs = Jobs::with(&more);
        // An answer means that the server has read the jobs.
        assert_eq!(jobs.said(&["list"]).code, 0);
        fs::remove_file(program).unwrap();
        Self { jobs, folder, ssh }
    }

    fn socket(&self) -> PathBuf {
        self.jobs.server.socket()
    }

    fn client(&self, socket: &Path, arguments: &[&str]) -> Command {
        let Some(ssh) = &self.ssh else { return client_of(socket, arguments) };
        let mut client = ssh.client(socket);
        client.args(arguments);
        client
    }

    fn jobs(&self, arguments: &[&str]) -> Ended {
        ended(self.client(&self.socket(), arguments))
    }

    /// How `run` or another command ends after a refusal.
    fn refused(&self, why: &str, arguments: &[&str]) -> Ended {
        let answer = format!(
            r#"{{"id":"ID","version":0,"status":"ERROR","message":"no","refused":"{why}"}}"#
        );
        ended(self.client(&Fake::answers(&[&answer]).socket(), arguments))
    }

    fn answered(&self, bytes: &[u8], then: Then, arguments: &[&str]) -> Ended {
        ended(self.client(&Fake::writes(bytes, then).socket(), arguments))
    }

    /// The output cannot be read, so there is no name.
    fn unwritten(&self, stdout: impl Into<Stdio>, job: &str) -> Ended {
        let mut client = self.client(&self.socket(), &["run", job]);
        let mut child = client.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        let status = wait_for(|| child.try_wait().unwrap()).expect("the client ends");
        Ended { code: status.code().unwrap(), name: String::new() }
    }

    fn closed(&self) -> Ended {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        self.unwritten(writer, "forever")
    }

    /// Starts a run, and returns it after its first line or once it is queued.
    fn begun(&self, job: &str) -> (Child, BufReader<std::process::ChildStdout>) {
        let mut client = self.client(&self.socket(), &["run", job, "--json"]);
        let mut child = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.contains("PROCESSING"), "{line}");
        (child, output)
    }

    fn signalled(&self, signal: Signal) -> Ended {
        let (child, output) = self.begun("trap");
        kill_process(Pid::from_child(&child), signal).unwrap();
        rest(child, output)
    }

    /// Cancels the newest of the running requests.
    fn cancel_newest(&self) {
        let run = self.jobs.running().last().unwrap()["run"].as_str().unwrap().to_owned();
        assert_eq!(self.jobs.said(&["cancel", &run]).code, 0);
    }

    fn cancelled(&self) -> Ended {
        let (child, output) = self.begun("silent");
        self.cancel_newest();
        rest(child, output)
    }

    fn cancelled_in_the_queue(&self) -> Ended {
        let (mut first, _output) = self.begun("once");
        let (child, output) = self.begun("once");
        self.cancel_newest();
        let ended = rest(child, output);
        first.kill().unwrap();
        first.wait().unwrap();
        ended
    }
}

fn ended(mut client: Command) -> Ended {
    let mut child = client
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    rest(child, output)
}

fn rest(mut child: Child, output: impl BufRead) -> Ended {
    let last = output.lines().map(Result::unwrap).last().unwrap_or_default();
    let status = wait_for(|| child.try_wait().unwrap()).expect("the client ends");
    let line = serde_json::from_str(&last).unwrap_or_default();
    Ended { code: status.code().unwrap(), name: name(&line) }
}

fn name(line: &Value) -> String {
    let content = &line["content"];
    let names = [&line["error"], &content["reason"], &line["refused"], &content["ended_by"]];
    let number = |field: &str| content[field].as_i64().map(|number| format!("{field} {number}"));
    let text = names.into_iter().find_map(|name| name.as_str().map(ToOwned::to_owned));
    let code = || number("exit_code").or_else(|| number("signal"));
    text.or_else(code).unwrap_or_else(|| line["status"].as_str().unwrap_or("").to_owned())
}

#[test]
fn each_way_to_end_has_its_status_and_its_name() {
    check(&World::new(None));
}

#[test]
fn each_way_to_end_is_the_same_over_ssh() {
    let Some(ssh) = Sshd::start() else { return };
    check(&World::new(Some(ssh)));
}

fn check(world: &World) {
    let jobs = |arguments: &[&str]| world.jobs(arguments);
    let nowhere = world.folder.path().join("none");
    let run = &["run", "backup"][..];
    // Over ssh, nothing is known about the user of the server.
    let other_user = if world.ssh.is_some() { (2, "usage") } else { (77, "permission") };
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (code, name, ended) in [
        // The job ran.
        (0, "exit_code 0", jobs(&["run", "exit", "0"])),
        (3, "exit_code 3", jobs(&["run", "exit", "3"])),
        (69, "exit_code 69", jobs(&["run", "exit", "69"])),
        (255, "exit_code 255", jobs(&["run", "exit", "255"])),
        (137, "signal 9", jobs(&["run", "killed"])),
        (124, "timeout", jobs(&["run", "short"])),
        (143, "cancel", world.cancelled()),
        // The job did not run.
        (125, "cancelled", world.cancelled_in_the_queue()),
        (125, "invalid_arguments", jobs(&["run", "exit", "x"])),
        (125, "denied", world.refused("denied", run)),
        (125, "busy", world.refused("busy", run)),
        (125, "shutting_down", world.refused("shutting_down", run)),
        (126, "not_executable", jobs(&["run", "gone"])),
        (127, "no_such_job", jobs(&["run", "nothing"])),
        // There is no answer.
        (2, "usage", jobs(&["run"])),
        (69, "not_running", ended(world.client(&nowhere, run))),
        (other_user.0, other_user.1, jobs(&["run", "exit", "0", "--server-uid", "4294967294"])),
        (76, "disconnected", world.answered(b"", Then::Leaves, run)),
        (76, "protocol", world.answered(b"nonsense\0", Then::Stays, run)),
        (124, "timeout", world.answered(b"", Then::Stays, &["run", "x", "--timeout", "100ms"])),
        (124, "deadline", jobs(&["run", "silent", "--deadline", "300ms"])),
        (130, "cancel", world.signalled(Signal::INT)),
        (143, "terminated", world.signalled(Signal::TERM)),
        (74, "", world.unwritten(full, "lines")),
        (141, "", world.closed()),
        // Other commands.
        (1, "ERROR", jobs(&["send", r#"{"command":"fail"}"#])),
        (125, "no_such_run", jobs(&["cancel", "x"])),
        (125, "no_such_run", jobs(&["attach", "x"])),
        (75, "busy", world.refused("busy", &["status"])),
        (76, "malformed", world.refused("malformed", &["list"])),
        (77, "denied", world.refused("denied", &["stop"])),
    ] {
        assert_eq!(ended, Ended { code, name: name.to_owned() });
    }
    world.jobs.wait_until_idle();
}
